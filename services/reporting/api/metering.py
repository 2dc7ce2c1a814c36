"""GET /api/reporting/metering: how far the books are, by partition."""

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from contracts import reports
from contracts.operation import promises
from contracts.reports import MeteringReport, PartitionProgress
from reporting.api.endpoint import METERING
from reporting.api.problems import respond
from reporting.ports import Progress


def to_report(partitions: list[PartitionProgress]) -> MeteringReport:
    """The whole is as far as its slowest part."""
    spoken_for = [progress for progress in partitions if not _is_retired(progress)]
    reached = [
        progress.metered_up_to_ms
        for progress in spoken_for
        if progress.metered_up_to_ms is not None
    ]
    backlogs = [
        progress.backlog_messages
        for progress in partitions
        if progress.backlog_messages is not None
    ]
    is_complete = bool(spoken_for) and len(reached) == len(spoken_for)
    is_counted = bool(partitions) and len(backlogs) == len(partitions)
    return MeteringReport(
        min(reached) if is_complete else None, sum(backlogs) if is_counted else None, partitions
    )


def _is_retired(progress: PartitionProgress) -> bool:
    """Whether nobody meters a partition because there is nothing in it to meter.

    Its checkpoint stays when METERING_PARTITIONS is lowered, and nobody speaks for it any more.
    """
    is_booked = progress.backlog_messages == 0 and not progress.batch_is_pending
    return progress.member is None and is_booked


def metering_endpoint(progress: Progress) -> HTTPRouteHandler:
    """The handler, bound to what it asks."""

    @get(METERING.instance, opt={"endpoint": METERING, **promises(reports.METERING)})
    async def report_metering() -> Response[bytes]:
        """Backlog and «metered up to»."""
        return respond(to_report(await progress.partitions()))

    return report_metering
