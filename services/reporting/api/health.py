"""Whether the process lives, and whether it can answer."""

from typing import Final, Literal

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from contracts.operation import Operation, promises
from reporting.api.endpoint import HEALTH, READY
from reporting.api.problems import respond
from reporting.ports import Ledger
from reporting.queries.query import Query


class Readiness(msgspec.Struct, frozen=True):
    """`status` is always `ready`: what is not answers 503."""

    status: Literal["ready"]


_HEALTH: Final = Operation(
    summary="Whether the process lives", scope="read", errors=(), is_open=True, tag="service"
)
_READY: Final = Operation(
    summary="Whether the ledger answers",
    scope="read",
    answer=Readiness,
    errors=(500, 503, 504),
    answer_example={"status": "ready"},
    is_open=True,
    tag="service",
)


def health_endpoints(ledger: Ledger) -> list[HTTPRouteHandler]:
    """Both are open: they tell nothing."""

    @get(HEALTH.instance, opt={"endpoint": HEALTH, **promises(_HEALTH)})
    async def health() -> Response[bytes]:
        """200 with an empty body while the process lives."""
        return Response(b"", media_type="text/plain")

    @get(READY.instance, opt={"endpoint": READY, **promises(_READY)})
    async def ready() -> Response[bytes]:
        """200 when the ledger answers, 503 when not."""
        await ledger.rows(Query("SELECT 1", {}))
        return respond(Readiness("ready"))

    return [health, ready]
