"""`/openapi.json` for programs, `/docs` for people."""

import logging
from typing import Any, Final

from litestar import MediaType, Request, Response, get

from gateway.api.openapi import describe_admin
from gateway.api.operation import Operation, promises
from runtime.openapi_page import CONTENT_SECURITY_POLICY, render_page
from runtime.routes import RouteTable

log = logging.getLogger(__name__)

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


def handlers(base_url: str) -> list[Any]:
    """Both are open: they say nothing of this installation."""
    made: list[dict[str, Any]] = []

    def document(request: Request[Any, Any, Any]) -> dict[str, Any]:
        if not made:
            try:
                made.append(describe_admin(RouteTable(request.app)))
            except ValueError as error:
                log.error("openapi.incomplete reason=%r", str(error))
                raise
        return made[0]

    @get("/openapi.json", opt=promises(_DOCUMENT))
    async def openapi(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        return Response(document(request), media_type="application/json")

    @get("/docs", opt=promises(_PAGE))
    async def docs(request: Request[Any, Any, Any]) -> Response[str]:
        return Response(
            render_page(document(request), base_url),
            media_type=MediaType.HTML,
            headers={"content-security-policy": CONTENT_SECURITY_POLICY},
        )

    return [openapi, docs]
