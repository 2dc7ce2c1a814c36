"""`/openapi.json` and `/docs` of reporting."""

from importlib.metadata import version
from typing import Any, Final

from litestar import MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler

from contracts.operation import Operation, promises
from contracts.reports import REPORT_TAGS
from reporting.api.problems import respond
from runtime.openapi import describe_api
from runtime.openapi_page import CONTENT_SECURITY_POLICY, render_page
from runtime.routes import RouteTable

_TAGS: Final = {**REPORT_TAGS, "service": "Whether it lives, and what it answers."}
_DOCUMENT: Final = Operation(
    summary="This description, for programs",
    scope="read",
    answer=dict[str, Any],
    errors=(),
    is_open=True,
)
_PAGE: Final = Operation(
    summary="This description, for people",
    scope="read",
    errors=(),
    is_open=True,
    media_type="text/html",
)


def describe_reporting(table: RouteTable) -> dict[str, Any]:
    """The OpenAPI document of 8003."""
    return describe_api(
        "Tollway reporting",
        "Questions over the ledger, read-only. Times are Unix seconds, windows half-open. Errors"
        " have one shape, `Refusal`; its `instance` is a template, not the URL that was asked.",
        version("tollway"),
        table.routes,
        _TAGS,
        lambda _: "service",
    )


def description_endpoints(base_url: str) -> list[HTTPRouteHandler]:
    """Both are open: they say nothing of this installation."""
    made: list[dict[str, Any]] = []

    def document(app: Any) -> dict[str, Any]:
        if not made:
            made.append(describe_reporting(RouteTable(app)))
        return made[0]

    @get("/openapi.json", opt=promises(_DOCUMENT))
    async def openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
        """The OpenAPI document."""
        return respond(document(request.app))

    @get("/docs", opt=promises(_PAGE))
    async def docs(request: Request[Any, Any, Any]) -> Response[str]:
        """The same as a page."""
        return Response(
            render_page(document(request.app), base_url),
            media_type=MediaType.HTML,
            headers={"content-security-policy": CONTENT_SECURITY_POLICY},
        )

    return [openapi, docs]
