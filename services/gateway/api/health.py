"""Liveness of the admin process."""

from typing import Any

from litestar import Response, get


def admin_health() -> Any:
    """`GET /api/health`: 200, empty."""

    @get("/api/health")
    async def health() -> Response[None]:
        return Response(None, status_code=200)

    return health
