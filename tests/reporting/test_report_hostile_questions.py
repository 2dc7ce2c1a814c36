"""Strings that mean to be SQL are strings; questions beyond the limits get a clear no."""

import time
from typing import Any

from clickhouse_connect.driver.client import Client
from support.entries import insert_entries, make_entry
from support.reporting import Api, Opened

from runtime.settings import Duration

START = 1_700_000_000
WINDOW = {"start": START, "end": START + 60}

HOSTILE = [
    "' OR 1=1 --",
    "'); DROP TABLE entries; --",
    "\\' OR ''='",
    "a'b\"c`d",
    "{key_ids:Array(String)}",
    "%s %(a)s %d",
    "tab\tnewline\nreturn\rback\\slash",
    "\\N",
    "nul\x00inside",
    "$heredoc$ ; -- /* # */",
    "é 漢字 \U0001f600 \u2028",
    "[]",
    "x" * 1000,
]


async def _requests(api: Api, **filters: Any) -> int:
    question = WINDOW | {"increment": 60} | filters
    answer = await api.post("/api/reporting/events", json=question)
    assert answer.status_code == 200, answer.text
    counted: int = answer.json()["dataPoints"][0]["numberOfRequests"]
    return counted


async def test_hostile_strings_match_themselves_and_nothing_else(
    api: Api, ledger_client: Client
) -> None:
    """In every filter, alone and all together."""
    hostile = [
        make_entry(
            occurred_at_ms=START * 1000, key_id=text, custom_id=text, user_id=text, tags=(text,)
        )
        for text in HOSTILE
    ]
    insert_entries(ledger_client, [*hostile, make_entry(occurred_at_ms=START * 1000)])

    for text in HOSTILE:
        for name in ("keyIds", "customIds", "userIds", "tags"):
            assert (name, text, await _requests(api, **{name: [text]})) == (name, text, 1)
    assert await _requests(api, keyIds=HOSTILE) == len(HOSTILE)
    assert await _requests(api) == len(HOSTILE) + 1


async def test_hostile_strings_in_every_other_place(api: Api, ledger_client: Client) -> None:
    """Policies of events, the key in a path and in a query."""
    for text in HOSTILE:
        insert_entries(
            ledger_client,
            [make_entry(occurred_at_ms=START * 1000, key_id=text, user_id="u", policy_id=text)],
        )

    for text in HOSTILE:
        events = await api.post("/api/v2/events", json=WINDOW | {"policyIds": [text]})
        assert [event["policyId"] for event in events.json()["events"]] == [text]
        users = await api.get("/api/reporting/user-ids", params={"keyId": text})
        assert users.json() == ["u"]
    injected = await api.get("/api/events", params={"customId": "' OR 1=1 --"})
    assert injected.json() == []


async def test_a_thousand_long_values_fit(api: Api, ledger_client: Client) -> None:
    """What the limits allow, the engine takes: parameters too long for an address go in the body."""
    insert_entries(ledger_client, [make_entry(occurred_at_ms=START * 1000, key_id="y" * 1000)])
    values = ["y" * 1000, *(f"{number:04}" + "x" * 900 for number in range(999))]

    assert await _requests(api, keyIds=values) == 1


REFUSALS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"report_buckets_max": 60}, {"increment": 1}, "REPORT_BUCKETS_MAX"),
    ({"report_window_max": Duration(59.0)}, {"increment": 60}, "REPORT_WINDOW_MAX"),
    ({"report_filter_values_max": 2}, {"increment": 60, "tags": ["a"] * 3}, "tags"),
    ({}, {"increment": 60, "userIds": ["x" * 1025]}, "1024"),
    ({"report_rows_max": 2}, {"increment": 60, "filters": ["keyId"]}, "REPORT_ROWS_MAX"),
]


async def test_limits_of_a_time_series_are_named_in_a_400(
    opened: Opened, ledger_client: Client
) -> None:
    """An answer is whole or it is none; the refusal says what to change."""
    insert_entries(
        ledger_client,
        [make_entry(occurred_at_ms=START * 1000, key_id=f"key-{n}") for n in range(3)],
    )

    for limits, question, named in REFUSALS:
        async with opened(**limits) as api:
            answer = await api.post("/api/reporting/events", json=WINDOW | question)

        problem = answer.json()
        assert (answer.status_code, problem["type"]) == (400, "/errors/report-too-large")
        assert named in problem["detail"]
        assert problem["instance"] == "/api/reporting/events"


async def test_limits_of_events_are_named_in_a_400(opened: Opened, ledger_client: Client) -> None:
    """A list that would be cut is refused; the page that fits is given."""
    insert_entries(ledger_client, [make_entry(occurred_at_ms=START * 1000) for _ in range(3)])

    async with opened(report_events_max=2) as api:
        refused = await api.post("/api/v2/events", json=WINDOW)
        also_refused = await api.post("/api/v2/events", json=WINDOW | {"limit": 3})
        given = await api.post("/api/v2/events", json=WINDOW | {"limit": 2})

    assert (refused.status_code, also_refused.status_code) == (400, 400)
    assert "REPORT_EVENTS_MAX" in refused.json()["detail"]
    assert len(given.json()["events"]) == 2


async def test_window_without_any_number_in_reach_is_refused(unconnected_api: Api) -> None:
    """Times that the ledger's column cannot hold."""
    answer = await unconnected_api.post(
        "/api/reporting/events",
        json={"start": 1, "end": 9_000_000_000_000, "increment": 8_000_000_000_000},
    )

    assert answer.status_code == 400
    assert answer.json()["type"] == "/errors/invalid-reporting-request"


async def test_window_of_all_time_works(api: Api, ledger_client: Client) -> None:
    """Clients that ask from the beginning of time are served."""
    insert_entries(ledger_client, [make_entry(occurred_at_ms=START * 1000)])
    now = int(time.time())

    answer = await api.post(
        "/api/reporting/events", json={"start": 1, "end": now, "increment": now}
    )

    assert answer.json()["dataPoints"][0]["numberOfRequests"] == 1


async def test_query_beyond_its_memory_is_refused_and_the_next_one_works(
    opened: Opened, ledger_client: Client
) -> None:
    """One greedy question does not take the engine with it."""
    ledger_client.command(
        "INSERT INTO entries (event_id, run_id, requests, insert_by, occurred_at, key_id, kind,"
        " rating_status, evidence, duration_us)"
        f" SELECT generateUUIDv7(number), toUUID('00000000-0000-0000-0000-000000000000'), 1,"
        f" now64(3) + 600, fromUnixTimestamp64Milli({START}000, 'UTC'), 'k', 'charge', 'rated',"
        " 'none', number FROM numbers(300000)",
        settings={"insert_deduplication_token": "memory"},
    )

    async with opened(report_query_memory_bytes_max=4 << 20) as api:
        refused = await api.post("/api/v2/events", json=WINDOW | {"limit": 1})
        users = await api.get("/api/reporting/user-ids", params={"keyId": "nobody"})

    assert (refused.status_code, users.status_code) == (400, 200)
    assert "REPORT_QUERY_MEMORY_BYTES_MAX" in refused.json()["detail"]


async def test_question_larger_than_allowed_is_413(opened: Opened) -> None:
    """In the admin error shape."""
    async with opened(report_request_bytes_max=1000) as api:
        answer = await api.post("/api/reporting/events", content=b" " * 1001)

    assert answer.status_code == 413
    assert set(answer.json()) == {"type", "title", "status", "detail", "instance"}
