"""A tag in a path may hold slashes: `/api/tags/org%2Fteam/limits` is about `org/team`."""

import re
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from litestar import Request

from runtime.admin_gate import App

_PATH: Final = re.compile(rb"/api/tags/([^/]*%2[Ff][^/]*)/limits/?")
_TAG: Final = "tollway.tag"


def with_slashes_in_tags(app: App) -> App:
    """`app`, for which such a path has its one segment: routes are found in decoded paths."""

    async def one_segment(scope: Any, receive: Any, send: Any) -> None:
        found = _PATH.fullmatch(scope["raw_path"]) if scope["type"] == "http" else None
        if found is not None:
            try:
                tag = unquote_to_bytes(found[1]).decode()
            except UnicodeDecodeError:
                pass  # No tag that can be: it is not found below its path either.
            else:
                scope = {**scope, "path": scope["raw_path"].decode("latin-1"), _TAG: tag}
        await app(scope, receive, send)

    return one_segment


def tag_of(request: Request[Any, Any, Any]) -> str:
    """The tag in the path, decoded."""
    tag: str = request.scope.get(_TAG) or request.path_params["tag"]  # type: ignore[assignment]
    return tag
