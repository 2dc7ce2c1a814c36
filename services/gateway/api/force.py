"""`?force=true`: delete although others still refer to it."""

from typing import Any, Final

from litestar import Request

from gateway.api.operation import QueryParameter

FORCE: Final = QueryParameter(
    "force", "true: delete although it is in use", kind="boolean", example=True
)


def is_forced(request: Request[Any, Any, Any]) -> bool:
    """Whether the caller insists; anything but `true` and `1` does not."""
    return request.query_params.get("force", "").lower() in ("true", "1")
