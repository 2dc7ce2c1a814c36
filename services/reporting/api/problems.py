"""Errors as `{type, title, status, detail, instance}`; causes are logged, not shown."""

import traceback
from collections.abc import Callable
from typing import Any, Final

import msgspec
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from reporting.api.endpoint import Endpoint
from reporting.errors import BadQuestion, NotFound, QuestionTooLarge, ReportingError
from runtime.admin_gate import Refusal
from runtime.logs import Log

JSON: Final = "application/json; charset=utf-8"


class NotAllowed(Exception):
    """The token's scopes do not cover this."""


def respond(content: Any, status: int = 200) -> Response[bytes]:
    """A value as JSON."""
    return Response(msgspec.json.encode(content), status_code=status, media_type=JSON)


def _endpoint(request: Request[Any, Any, Any]) -> Endpoint | None:
    handler = request.scope.get("route_handler")
    if isinstance(handler, HTTPRouteHandler):
        endpoint = handler.opt.get("endpoint")
        if isinstance(endpoint, Endpoint):
            return endpoint
    return None


def _problem(
    request: Request[Any, Any, Any], type_name: str, title: str, status: int, detail: str
) -> Response[bytes]:
    endpoint = _endpoint(request)
    instance = request.url.path if endpoint is None else endpoint.instance
    return respond(Refusal(f"/errors/{type_name}", title, status, detail, instance), status)


Handler = Callable[[Request[Any, Any, Any], Any], Response[Any]]


def exception_handlers(log: Log) -> dict[int | type[Exception], Handler]:
    """What becomes of every exception; ours are logged with their cause."""

    def on_reporting_error(
        request: Request[Any, Any, Any], error: ReportingError
    ) -> Response[bytes]:
        if not isinstance(error, BadQuestion | QuestionTooLarge | NotFound):
            log.warning(
                "reporting.question_failed",
                path=request.url.path,
                error=type(error).__name__,
                cause=repr(error.__cause__),
            )
        return _reporting_problem(request, error)

    def on_bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        trace = "".join(traceback.format_exception(error))
        log.error("reporting.bug", path=request.url.path, trace=trace)
        return _problem(request, "internal", "internal error", 500, "internal error; see the log")

    return {
        ReportingError: on_reporting_error,
        NotAllowed: _on_not_allowed,
        HTTPException: _on_http_error,
        Exception: on_bug,
    }


def _reporting_problem(request: Request[Any, Any, Any], error: ReportingError) -> Response[bytes]:
    endpoint = _endpoint(request)
    assert endpoint is not None, "only endpoints ask questions"
    type_name, title = endpoint.failure_type, endpoint.failure_title
    if isinstance(error, BadQuestion):
        type_name = error.type_name or endpoint.invalid_type
        title = error.title or endpoint.invalid_title
    elif isinstance(error, QuestionTooLarge):
        type_name, title = "report-too-large", "the report is too large"
    elif isinstance(error, NotFound):
        type_name, title = "key-not-found", "key not found error"
    return _problem(request, type_name, title, error.status, error.detail)


def _on_not_allowed(request: Request[Any, Any, Any], _: NotAllowed) -> Response[bytes]:
    return _problem(
        request, "forbidden", "request is refused", 403, "the token lacks the scope: read"
    )


def _on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    if error.status_code in (404, 405):
        return Response("404 page not found", status_code=404, media_type=MediaType.TEXT)
    detail = error.detail
    if error.status_code == 413:
        detail = "the question is larger than REPORT_REQUEST_BYTES_MAX"
    return _problem(
        request, "request-body-read", "request body reader error", error.status_code, detail
    )
