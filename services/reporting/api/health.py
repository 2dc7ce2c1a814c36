"""Whether the process lives, and whether it can answer."""

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from reporting.api.endpoint import HEALTH, READY
from reporting.api.problems import respond
from reporting.ports import Ledger
from reporting.queries.query import Query


def health_endpoints(ledger: Ledger) -> list[HTTPRouteHandler]:
    """Both are open: they tell nothing."""

    @get(HEALTH.instance, opt={"endpoint": HEALTH, "is_open": True})
    async def health() -> Response[bytes]:
        """200 with an empty body while the process lives."""
        return Response(b"", media_type="text/plain")

    @get(READY.instance, opt={"endpoint": READY, "is_open": True})
    async def ready() -> Response[bytes]:
        """200 when the ledger answers, 503 when not."""
        await ledger.rows(Query("SELECT 1", {}))
        return respond({"status": "ready"})

    return [health, ready]
