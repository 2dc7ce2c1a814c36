"""GET /api/reporting/metering: how far the books are, by partition."""

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from reporting.api.endpoint import METERING
from reporting.api.problems import respond
from reporting.ports import PartitionProgress, Progress


class MeteringReport(msgspec.Struct, frozen=True, rename="camel"):
    """`meteredUpToMs` is the least of all partitions; None when one of them has not said."""

    metered_up_to_ms: int | None
    backlog_messages: int | None
    partitions: list[PartitionProgress]


def to_report(partitions: list[PartitionProgress]) -> MeteringReport:
    """The whole is as far as its slowest part."""
    reached = [
        progress.metered_up_to_ms
        for progress in partitions
        if progress.metered_up_to_ms is not None
    ]
    backlogs = [
        progress.backlog_messages
        for progress in partitions
        if progress.backlog_messages is not None
    ]
    is_complete = bool(partitions) and len(reached) == len(partitions)
    is_counted = bool(partitions) and len(backlogs) == len(partitions)
    return MeteringReport(
        min(reached) if is_complete else None, sum(backlogs) if is_counted else None, partitions
    )


def metering_endpoint(progress: Progress) -> HTTPRouteHandler:
    """The handler, bound to what it asks."""

    @get(METERING.instance, opt={"endpoint": METERING})
    async def report_metering() -> Response[bytes]:
        """Backlog and «metered up to»."""
        return respond(to_report(await progress.partitions()))

    return report_metering
