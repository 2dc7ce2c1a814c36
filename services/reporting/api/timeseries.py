"""POST /api/reporting/events: requests, tokens, money and latency over time."""

from typing import Any

from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler

from contracts import reports
from contracts.operation import promises
from contracts.reports import DataPoint, TimeseriesReport, TimeseriesRequest
from reporting.answers.timeseries import Point, ask_timeseries
from reporting.api.endpoint import TIMESERIES
from reporting.api.problems import respond
from reporting.api.wire import decode, number
from reporting.errors import BadQuestion
from reporting.ports import Ledger
from reporting.questions import Dimension, Filters, TimeseriesQuestion, Window
from reporting.settings import ReportingSettings


def to_question(request: TimeseriesRequest) -> TimeseriesQuestion:
    """Raises BadQuestion."""
    if request.start <= 0 or request.end <= 0:
        raise BadQuestion("start and end are required, in Unix seconds")
    if request.start >= request.end:
        raise BadQuestion(f"start {request.start} cannot be larger than end {request.end}")
    if request.increment <= 0:
        raise BadQuestion("increment is required, in seconds, larger than 0")
    return TimeseriesQuestion(
        Window(request.start, request.end),
        request.increment,
        Filters(request.key_ids, request.tags, request.custom_ids, request.user_ids),
        tuple(dimension for dimension in Dimension if dimension in request.filters),
    )


def _data_point(point: Point) -> DataPoint:
    return DataPoint(
        time_stamp=point.start_s,
        number_of_requests=point.requests,
        cost_in_usd=number(point.cost_usd),
        latency_in_ms=point.latency_ms,
        prompt_token_count=point.input_tokens,
        completion_token_count=point.output_tokens,
        success_count=point.successes,
        model=point.groups.get(Dimension.MODEL, ""),
        key_id=point.groups.get(Dimension.KEY_ID, ""),
        custom_id=point.groups.get(Dimension.CUSTOM_ID, ""),
        user_id=point.groups.get(Dimension.USER_ID, ""),
        unpriced_requests=point.unpriced_requests,
        unknown_requests=point.unknown_requests,
    )


def timeseries_endpoint(ledger: Ledger, settings: ReportingSettings) -> HTTPRouteHandler:
    """The handler, bound to what it asks."""

    @post(
        TIMESERIES.instance,
        status_code=200,
        opt={"endpoint": TIMESERIES, **promises(reports.TIMESERIES)},
    )
    async def report_events(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Sums by bucket and group, empty buckets included, and latency percentiles."""
        question = to_question(decode(await request.body(), TimeseriesRequest))
        answer = await ask_timeseries(question, ledger, settings)
        return respond(
            TimeseriesReport(
                [_data_point(point) for point in answer.points],
                answer.latency_ms_median,
                answer.latency_ms_99th,
            )
        )

    return report_events
