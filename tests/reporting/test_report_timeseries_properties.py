"""However the window is cut into buckets and groups, the sum is the total."""

import json
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.entries import insert_entries, make_entry, reversal_of
from support.reporting import Api

from contracts.ledger import RatingStatus
from reporting.answers.timeseries import fill
from reporting.questions import Dimension, Filters, TimeseriesQuestion, Window

START = 1_700_000_000
SPAN = 1_000
SUMS = (
    "numberOfRequests",
    "costInUsd",
    "promptTokenCount",
    "completionTokenCount",
    "successCount",
    "unpricedRequests",
    "unknownRequests",
)


def _entries() -> list[Any]:
    entries = []
    for number in range(300):
        status = RatingStatus.UNPRICED if number % 11 == 0 else RatingStatus.RATED
        entry = make_entry(
            occurred_at_ms=START * 1000 + (number * 7_919) % (SPAN * 1000),
            key_id=f"key-{number % 5}",
            user_id=f"u-{number % 3}",
            status=429 if number % 7 == 0 else 200,
            duration_us=number * 1000,
            cost_picousd=None if status == RatingStatus.UNPRICED else number**5,
            rating_status=status,
        )
        entries.append(entry)
        if number % 13 == 0:
            entries.append(reversal_of(entry))
    return entries


async def _totals(api: Api, **fields: Any) -> dict[str, Any]:
    question = {"start": START, "end": START + SPAN} | fields
    answer = await api.post("/api/reporting/events", json=question)
    assert answer.status_code == 200, answer.text
    points = json.loads(answer.content, parse_float=Decimal)["dataPoints"]
    return {name: sum(point[name] for point in points) for name in SUMS} | {
        "latencyInMs": sum(point["latencyInMs"] for point in points)
    }


@pytest.fixture
def filled_ledger(ledger_client: Client) -> None:
    """Three hundred entries and some reversals, in a thousand seconds."""
    insert_entries(ledger_client, _entries())


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(increment=st.integers(1, 2 * SPAN), groups=st.sets(st.sampled_from(list(Dimension))))
async def test_sum_of_buckets_is_the_total(
    api: Api, filled_ledger: None, increment: int, groups: set[Dimension]
) -> None:
    """For any increment and any grouping; durations here are whole milliseconds, so they too."""
    total = await _totals(api, increment=10 * SPAN)
    cut = await _totals(api, increment=increment, filters=[str(group) for group in groups])

    assert cut == total
    assert total["numberOfRequests"] == 300 - 24


@given(
    increment=st.integers(1, 500),
    span=st.integers(1, 500),
    present=st.sets(st.integers(0, 500)),
)
def test_filling_keeps_every_row_and_every_bucket(
    increment: int, span: int, present: set[int]
) -> None:
    """One point a bucket, in order, with the rows that are there."""
    question = TimeseriesQuestion(Window(1, 1 + span), increment, Filters(), ())
    buckets = sorted(bucket for bucket in present if bucket * increment < span)
    rows = [(bucket, 1, Decimal(1), 1, 1, 1, 1, 0, 0, 1) for bucket in buckets]

    points = list(fill(question, rows))

    starts = list(range(1, 1 + span + 1, increment))
    assert [point.start_s for point in points] == starts
    assert sum(point.requests for point in points) == len(rows)
