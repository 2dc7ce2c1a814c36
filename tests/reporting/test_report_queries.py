"""Every query as text and parameters: a change of SQL is a change of a golden file, on purpose."""

import json
import os
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from support.entries import insert_entries, make_entry

from reporting.queries import events, keys
from reporting.queries.percentiles import percentiles
from reporting.queries.query import Query
from reporting.queries.timeseries import timeseries
from reporting.queries.top_keys import top_keys
from reporting.questions import (
    Dimension,
    EventOrder,
    EventsQuestion,
    Filters,
    TimeseriesQuestion,
    TopKeysQuestion,
    Window,
)

GOLDEN = Path(__file__).parent / "golden"
WINDOW = Window(1_700_000_000, 1_700_003_600)
ANYBODY = Filters()
SOMEBODY = Filters(("key-1", "key-2"), ("a", "b"), ("c-1",), ("u-1",))
EVENT_IDS = ("018f2f00-0000-7000-8000-000000000001", "018f2f00-0000-7000-8000-000000000002")

QUERIES: dict[str, Query] = {
    "timeseries": timeseries(TimeseriesQuestion(WINDOW, 60, ANYBODY, ()), 1000),
    "timeseries_grouped": timeseries(
        TimeseriesQuestion(WINDOW, 60, SOMEBODY, tuple(Dimension)), 1000
    ),
    "percentiles": percentiles(WINDOW, SOMEBODY, is_exact=True),
    "percentiles_digest": percentiles(WINDOW, ANYBODY, is_exact=False),
    "top_keys": top_keys(
        TopKeysQuestion(WINDOW, SOMEBODY, "", None, is_descending=True, limit=5, offset=10),
        1000,
        is_paged=True,
    ),
    "top_keys_all": top_keys(
        TopKeysQuestion(WINDOW, ANYBODY, "", None, is_descending=False, limit=5, offset=10),
        1000,
        is_paged=False,
    ),
    "top_keys_whole_hours": top_keys(
        TopKeysQuestion(
            Window(1_699_999_200, 1_700_002_800),
            Filters(key_ids=("key-1",)),
            "",
            None,
            is_descending=True,
            limit=5,
            offset=0,
        ),
        1000,
        is_paged=True,
    ),
    "events_page": events.page(EventsQuestion(WINDOW, ANYBODY, limit=50, offset=100), 1000),
    "events_page_filtered": events.page(
        EventsQuestion(
            WINDOW, SOMEBODY, ("p-1",), ("blocked",), 403, EventOrder.DEAREST, limit=None
        ),
        1000,
    ),
    "events_page_all_time": events.page(
        EventsQuestion(None, Filters(custom_ids=("c-1",)), order=EventOrder.OLDEST), 1000
    ),
    "events_count": events.count(EventsQuestion(WINDOW, ANYBODY, limit=50)),
    "events_facts": events.facts(EVENT_IDS, ("key-1",), WINDOW.start_ms, WINDOW.end_ms),
    "events_bodies": events.bodies(EVENT_IDS, WINDOW.start_ms, WINDOW.end_ms),
    "key_spend": keys.spend("key-1"),
    "key_user_ids": keys.distinct_ids("key-1", "userId", 1000),
    "key_custom_ids": keys.distinct_ids("key-1", "customId", 1000),
}


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_query_is_the_golden_one(name: str) -> None:
    """SQL changes are reviewed as SQL; UPDATE_GOLDEN=1 writes the files anew."""
    query = QUERIES[name]
    shown = f"{query.text}\n-- {json.dumps(query.parameters, sort_keys=True)}\n"
    path = GOLDEN / f"{name}.sql"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(shown)

    assert path.read_text() == shown


def test_every_golden_file_has_its_query() -> None:
    """A file that nothing produces is a lie about the service."""
    assert {path.stem for path in GOLDEN.glob("*.sql")} == set(QUERIES)


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_every_parameter_is_bound_and_no_value_becomes_text(name: str) -> None:
    """Placeholders and parameters are the same set, and given values are nowhere in the text."""
    query = QUERIES[name]
    placeholders = {part.split(":")[0] for part in query.text.split("{")[1:]}

    assert placeholders == set(query.parameters)
    for value in ("key-1", "c-1", "u-1", "p-1", "blocked", EVENT_IDS[0]):
        assert value not in query.text


@pytest.mark.parametrize("name", sorted(set(QUERIES) - {"events_bodies"}))
def test_every_query_of_entries_sees_visible_runs_only(name: str) -> None:
    """A rerate that is not promoted must not reach any report."""
    text = QUERIES[name].text

    assert text.count("FROM entries") == text.count("run_id = toUUID(")


def test_whole_hours_are_answered_from_the_projection(ledger_client: Client) -> None:
    """Top keys over a month do not read every row; over part of an hour they must."""
    insert_entries(ledger_client, [make_entry(occurred_at_ms=1_700_000_000_000) for _ in range(9)])

    def plan(name: str) -> str:
        query = QUERIES[name]
        bound = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in query.parameters.items()
        }
        rows = ledger_client.query(f"EXPLAIN {query.text}", parameters=bound).result_rows
        return "\n".join(str(row[0]) for row in rows)

    assert "by_key_hour" in plan("top_keys_whole_hours")
    assert "by_key_hour" not in plan("top_keys")
