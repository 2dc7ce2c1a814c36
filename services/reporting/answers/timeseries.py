"""The time series: sums by bucket, with the empty buckets filled in, and two percentiles."""

import itertools
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from reporting.answers.limits import check_buckets, check_filters, check_rows, check_window
from reporting.ports import Ledger
from reporting.queries.percentiles import percentiles
from reporting.queries.timeseries import timeseries
from reporting.questions import Dimension, TimeseriesQuestion
from reporting.settings import ReportingSettings

NOTHING: Final = Decimal(0)


class Point(msgspec.Struct, frozen=True):
    """One bucket, or one group in it. Milliseconds are a sum; `groups` has the question's keys.

    `cost_usd` sums what is priced: the unpriced and unknown requests are not in it, and counted.
    """

    start_s: int
    groups: dict[Dimension, str]
    requests: int = 0
    cost_usd: Decimal = NOTHING
    latency_ms: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    successes: int = 0
    unpriced_requests: int = 0
    unknown_requests: int = 0


class Timeseries(msgspec.Struct, frozen=True):
    """Points by bucket, then by group; percentiles in milliseconds, 0 when nothing was timed."""

    points: list[Point]
    latency_ms_median: float
    latency_ms_99th: float


async def ask_timeseries(
    question: TimeseriesQuestion, ledger: Ledger, settings: ReportingSettings
) -> Timeseries:
    """Raises BadQuestion, QuestionTooLarge, and what the ledger raises."""
    check_window(question.window, settings)
    check_buckets(question, settings)
    check_filters(question.filters, settings)
    rows = await ledger.rows(timeseries(question, settings.report_rows_max))
    check_rows(rows, settings.report_rows_max, "REPORT_ROWS_MAX", "use fewer groups or buckets")
    points = list(fill(question, rows))
    timed = sum(row[-1] for row in rows)
    if timed == 0:
        return Timeseries(points, 0.0, 0.0)
    is_exact = timed <= settings.report_exact_percentile_rows_max
    [[(median_us, late_us)]] = await ledger.rows(
        percentiles(question.window, question.filters, is_exact=is_exact)
    )
    return Timeseries(points, median_us / 1000, late_us / 1000)


def fill(question: TimeseriesQuestion, rows: Sequence[Sequence[Any]]) -> Iterator[Point]:
    """A point for every row, and an empty one, with empty groups, for every bucket without rows."""
    by_bucket = {
        bucket: list(group) for bucket, group in itertools.groupby(rows, key=lambda row: row[0])
    }
    for bucket in range(question.buckets):
        start_s = question.window.start_s + bucket * question.increment_s
        present = by_bucket.get(bucket)
        if present is None:
            yield Point(start_s, dict.fromkeys(question.group_by, ""))
            continue
        for row in present:
            yield _point(start_s, question.group_by, row)


def _point(start_s: int, group_by: tuple[Dimension, ...], row: Sequence[Any]) -> Point:
    # A sum over nothing but nulls is null: nothing is known to add up.
    groups, sums = row[1:-9], [value or 0 for value in row[-9:-1]]
    requests, cost, latency, inputs, outputs, successes, unpriced, unknown = sums
    return Point(
        start_s,
        dict(zip(group_by, groups, strict=True)),
        requests=requests,
        cost_usd=Decimal(cost),
        latency_ms=latency,
        input_tokens=inputs,
        output_tokens=outputs,
        successes=successes,
        unpriced_requests=unpriced,
        unknown_requests=unknown,
    )
