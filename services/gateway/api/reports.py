"""Reports asked for on 8001 are answered by 8003."""

from typing import Any, Final

from litestar import HttpMethod, Request, Response, route

from contracts.reports import REPORTS, passed_on
from gateway.api.admin_problems import AdminProblem
from gateway.api.operation import promises
from gateway.ports import Upstream, UpstreamError, UpstreamRequest
from gateway.routing.targets import join_path, parse_base

_ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024
_TIMEOUT_S: Final = 120.0
_HEADERS: Final = frozenset({b"x-api-key", b"authorization", b"content-type", b"accept"})


def handlers(upstream: Upstream, reporting_url: str) -> list[Any]:
    """The routes that are passed on, credential and all: 8003 wants the same one."""
    origin, base = parse_base(reporting_url)

    async def pass_on(request: Request[Any, Any, Any]) -> Response[bytes]:
        path = join_path(base, request.scope["raw_path"])
        query = request.scope["query_string"]
        try:
            answer = await upstream.send(
                UpstreamRequest(
                    origin,
                    request.method.encode(),
                    path + b"?" + query if query else path,
                    [pair for pair in request.scope["headers"] if pair[0] in _HEADERS],
                    await request.body(),
                    _TIMEOUT_S,
                    is_repeatable=True,
                )
            )
            try:
                content = await answer.read(_ANSWER_BYTES_MAX)
            finally:
                await answer.close()
        except UpstreamError as error:
            raise AdminProblem(
                502,
                "reporting-unavailable",
                "the reporting service gave no answer",
                error.code,
                request.scope["path"],
            ) from None
        kind = next(
            (value for name, value in answer.headers if name.lower() == b"content-type"),
            b"application/json",
        )
        return Response(content, status_code=answer.status, media_type=kind.decode("latin-1"))

    return [
        route(
            path.replace("{key_id}", "{key_id:str}"),
            http_method=[HttpMethod(method)],
            status_code=200,
            opt=promises(passed_on(operation)),
        )(pass_on)
        for method, path, operation in REPORTS
    ]
