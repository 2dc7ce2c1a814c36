"""POST /api/v2/events and GET /api/events over the real engine."""

import base64
import json
import time
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from support.entries import insert_body, insert_entries, make_entry, replacement_of, reversal_of
from support.reporting import Api

from contracts.ids import new_id, to_text
from contracts.ledger import Entry, RatingStatus
from contracts.meters import Evidence

# Bodies expire, so these events are of the last hour.
START = int(time.time()) // 60 * 60 - 3600


def at(seconds: float) -> int:
    """Milliseconds, so many seconds after START."""
    return int((START + seconds) * 1000)


def ids(entries: list[Entry]) -> list[str]:
    """Event ids as the wire has them."""
    return [to_text(entry.event_id) for entry in entries]


async def ask(api: Api, **fields: Any) -> Any:
    """The report, numbers as decimals."""
    question = {"start": START, "end": START + 60} | fields
    answer = await api.post("/api/v2/events", json=question)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.content, parse_float=Decimal)


async def ask_ids(api: Api, **fields: Any) -> list[str]:
    """Only which events."""
    return [event["id"] for event in (await ask(api, **fields))["events"]]


async def test_event_has_every_field_of_the_ancestor(api: Api, ledger_client: Client) -> None:
    """Mixed case, seconds, base64 and an exact number; two fields more that grade the numbers."""
    entry = make_entry(
        occurred_at_ms=at(1.999),
        tags=("a", "b"),
        custom_id="c-1",
        user_id="u-1",
        policy_action="redacted",
        policy_id="p-1",
        route_id="r-1",
        correlation_id="x-1",
        duration_us=1_499,
        cost_picousd=1,
    )
    insert_entries(ledger_client, [entry])
    insert_body(
        ledger_client, entry, request=b'{"a":1}\xff\x00', response=b"[1]", metadata='{"m":"\u00e9"}'
    )

    report = await ask(api)

    assert report == {
        "events": [
            {
                "id": to_text(entry.event_id),
                "created_at": START + 1,
                "tags": ["a", "b"],
                "key_id": "key-1",
                "cost_in_usd": Decimal("0.000000000001"),
                "provider": "openai",
                "model": "gpt-4o-2024-08-06",
                "status": 200,
                "prompt_token_count": 10,
                "completion_token_count": 5,
                "latency_in_ms": 1,
                "path": "/api/providers/openai/v1/chat/completions",
                "method": "POST",
                "custom_id": "c-1",
                "request": base64.b64encode(b'{"a":1}\xff\x00').decode(),
                "response": base64.b64encode(b"[1]").decode(),
                "userId": "u-1",
                "action": "redacted",
                "policyId": "p-1",
                "routeId": "r-1",
                "correlationId": "x-1",
                "metadata": base64.b64encode('{"m":"\u00e9"}'.encode()).decode(),
                "rating_status": "rated",
                "evidence": "reported",
            }
        ],
        "count": 0,
    }


async def test_body_that_is_not_to_be_stored_is_an_empty_object(
    api: Api, ledger_client: Client
) -> None:
    """Also when its bytes are there, and when there is no row of bodies at all."""
    kept, without = make_entry(occurred_at_ms=at(2)), make_entry(occurred_at_ms=at(1))
    insert_entries(ledger_client, [kept, without])
    insert_body(ledger_client, kept, request=b"secret", response=b"[1]", stores_request=False)

    events = (await ask(api))["events"]

    assert [event["request"] for event in events] == ["e30=", "e30="]
    assert [event["response"] for event in events] == [base64.b64encode(b"[1]").decode(), "e30="]
    assert [event["metadata"] for event in events] == ["e30=", "e30="]


async def test_body_written_twice_is_one_event(api: Api, ledger_client: Client) -> None:
    """Batches write bodies as often as they like."""
    entry = make_entry(occurred_at_ms=at(1))
    insert_entries(ledger_client, [entry])
    for _ in range(3):
        insert_body(ledger_client, entry, request=b"{}")

    assert await ask_ids(api) == ids([entry])


async def test_unknown_numbers_are_zero_and_say_so(api: Api, ledger_client: Client) -> None:
    """The fields are numbers on the wire; the status tells nothing-spent from nothing-known."""
    insert_entries(
        ledger_client,
        [
            make_entry(
                occurred_at_ms=at(1),
                cost_picousd=None,
                input_tokens=None,
                output_tokens=None,
                duration_us=None,
                rating_status=RatingStatus.UNKNOWN,
                evidence=Evidence.NONE,
            )
        ],
    )

    [event] = (await ask(api))["events"]

    numbers = ("cost_in_usd", "prompt_token_count", "completion_token_count", "latency_in_ms")
    assert [event[name] for name in numbers] == [0, 0, 0, 0]
    assert (event["rating_status"], event["evidence"]) == ("unknown", "none")


async def test_corrections_and_attempts_are_one_event_at_its_present_amounts(
    api: Api, ledger_client: Client
) -> None:
    """Amounts are summed; facts are those of what stands now; time is the charge's."""
    charge = make_entry(occurred_at_ms=at(1), cost_picousd=100, model_served="before")
    insert_entries(
        ledger_client,
        [
            charge,
            make_entry(
                event_id=charge.event_id,
                attempt_no=1,
                occurred_at_ms=at(1),
                cost_picousd=3,
                status=500,
            ),
        ],
    )
    insert_entries(
        ledger_client,
        [
            reversal_of(charge),
            replacement_of(charge, cost_picousd=40, model_served="after", duration_us=None),
        ],
    )

    [event] = (await ask(api, returnCount=True))["events"]

    assert event["cost_in_usd"] == Decimal(43).scaleb(-12)
    assert (event["model"], event["status"], event["latency_in_ms"]) == ("after", 200, 250)


async def test_late_completion_stands_for_an_abandoned_exchange(
    api: Api, ledger_client: Client
) -> None:
    """The abandonment is taken back beside the charge: one event, answered."""
    abandoned = make_entry(
        occurred_at_ms=at(1),
        outcome="abandoned",
        status=0,
        duration_us=None,
        cost_picousd=None,
        input_tokens=None,
        output_tokens=None,
        rating_status=RatingStatus.UNKNOWN,
    )
    late = make_entry(
        event_id=abandoned.event_id,
        is_rebooked=True,
        occurred_at_ms=at(1),
        booked_at_ms=abandoned.booked_at_ms + 60_000,
    )
    insert_entries(ledger_client, [abandoned, reversal_of(abandoned), late])

    report = await ask(api, returnCount=True)

    [event] = report["events"]
    assert (event["status"], event["rating_status"], report["count"]) == (200, "rated", 1)


async def test_reversed_exchange_and_other_runs_are_no_events(
    api: Api, ledger_client: Client
) -> None:
    """What nets to nothing is not there, nor what is not promoted."""
    charge = make_entry(occurred_at_ms=at(1))
    insert_entries(
        ledger_client,
        [charge, reversal_of(charge), make_entry(occurred_at_ms=at(1), run_id=new_id())],
    )

    assert await ask(api, returnCount=True) == {"events": [], "count": 0}


SELECTIONS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [0, 1, 2, 3]),
    ({"keyIds": ["key-1"]}, [0, 1]),
    ({"keyIds": ["key-1", "key-2"]}, [0, 1, 2, 3]),
    ({"userIds": ["u-1", "u-2"]}, [0, 1]),
    ({"customIds": ["c-1"]}, [0]),
    ({"tags": ["a"]}, [0, 1]),
    ({"tags": ["a", "b"]}, [0]),
    ({"policyIds": ["p-1"]}, [2]),
    ({"actions": ["blocked"]}, [2]),
    ({"actions": ["blocked", "warned"]}, [2, 3]),
    ({"status": 403}, [2]),
    ({"status": 404}, []),
    ({"keyIds": ["key-2"], "actions": ["warned"]}, [3]),
]


async def test_each_filter_selects_and_count_agrees(api: Api, ledger_client: Client) -> None:
    """Lists match any, tags match all, and filters are joined by and."""
    entries = [
        make_entry(occurred_at_ms=at(4), tags=("a", "b"), custom_id="c-1", user_id="u-1"),
        make_entry(occurred_at_ms=at(3), tags=("a",), user_id="u-2"),
        make_entry(
            occurred_at_ms=at(2),
            key_id="key-2",
            policy_id="p-1",
            policy_action="blocked",
            status=403,
        ),
        make_entry(occurred_at_ms=at(1), key_id="key-2", policy_action="warned"),
    ]
    insert_entries(ledger_client, entries)

    for fields, expected in SELECTIONS:
        report = await ask(api, returnCount=True, **fields)

        found = [event["id"] for event in report["events"]]
        assert (fields, found) == (fields, ids([entries[number] for number in expected]))
        assert report["count"] == len(expected)


async def test_window_is_half_open(api: Api, ledger_client: Client) -> None:
    """The start is in, the end is not."""
    entries = [make_entry(occurred_at_ms=at(second)) for second in (-0.001, 0, 59.999, 60)]
    insert_entries(ledger_client, entries)

    assert await ask_ids(api, dateOrder="asc") == ids(entries[1:3])


async def test_orders_and_pages_cover_every_event_once(api: Api, ledger_client: Client) -> None:
    """Ties have an order too: equal times and equal costs do not make pages overlap."""
    entries = [
        make_entry(occurred_at_ms=at(number // 3), cost_picousd=number % 4) for number in range(20)
    ]
    insert_entries(ledger_client, entries)

    for order in ({}, {"dateOrder": "asc"}, {"costOrder": "desc"}, {"costOrder": "ASC"}):
        paged = []
        for offset in range(0, 24, 3):
            paged += await ask_ids(api, limit=3, offset=offset, **order)
        assert paged == await ask_ids(api, **order)
        assert sorted(paged) == sorted(ids(entries))

    by_cost = (await ask(api, costOrder="desc"))["events"]
    costs = [event["cost_in_usd"] for event in by_cost]
    assert costs == sorted(costs, reverse=True)
    newest_first = (await ask(api))["events"]
    times = [event["created_at"] for event in newest_first]
    assert times == sorted(times, reverse=True)


async def test_count_does_not_depend_on_the_page(api: Api, ledger_client: Client) -> None:
    """And it does not replace the events."""
    insert_entries(ledger_client, [make_entry(occurred_at_ms=at(n)) for n in range(5)])

    report = await ask(api, limit=2, returnCount=True)

    assert (len(report["events"]), report["count"]) == (2, 5)


async def test_offset_without_limit_does_not_count(api: Api, ledger_client: Client) -> None:
    """As the ancestor has it: no limit, no offset."""
    insert_entries(ledger_client, [make_entry(occurred_at_ms=at(n)) for n in range(3)])

    assert len(await ask_ids(api, offset=2)) == 3


async def test_more_events_than_one_piece_come_in_order(api: Api, ledger_client: Client) -> None:
    """Events are read in pieces; the answer does not show it."""
    entries = [make_entry(occurred_at_ms=at(0) + n, key_id=f"key-{n % 7}") for n in range(1_203)]
    insert_entries(ledger_client, entries)

    assert await ask_ids(api, dateOrder="asc") == ids(entries)


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        (
            {
                "start": 0,
                "end": 0,
                "keyIds": [""],
                "userIds": [""],
                "customIds": [""],
                "policyIds": ["p", ""],
                "tags": [""],
            },
            "fields [start, end, keyIds, userIds, customIds, policyIds, tags] are invalid",
        ),
        ({"start": 20, "end": 10}, "start 20 cannot be larger than end 10"),
        ({"start": 10, "end": 10}, "start 10 cannot be larger than end 10"),
        ({"costOrder": "up"}, "cost order is not valid up"),
        ({"dateOrder": "up"}, "date order is not valid up"),
        (
            {"costOrder": "asc", "dateOrder": "asc"},
            "cost order and date order cannot be both present",
        ),
        ({"actions": ["allow"]}, "action cannot be allow"),
        ({"limit": -1}, "fields [limit] are invalid"),
        ({"status": 70_000}, "fields [status] are invalid"),
    ],
)
async def test_invalid_question_is_400_in_the_ancestors_words(
    unconnected_api: Api, fields: dict[str, Any], detail: str
) -> None:
    """All five fields of the error body, with its constant instance."""
    answer = await unconnected_api.post("/api/v2/events", json={"start": 1, "end": 2} | fields)

    assert answer.status_code == 400
    assert answer.json() == {
        "type": "/errors/validation",
        "title": "get events request validation failed",
        "status": 400,
        "detail": detail,
        "instance": "/api/v2/events",
    }


async def test_get_takes_a_body_or_query_parameters(api: Api, ledger_client: Client) -> None:
    """The README documents GET; both of its readings work."""
    entries = [make_entry(occurred_at_ms=at(n), key_id=f"key-{n}") for n in range(3)]
    insert_entries(ledger_client, entries)
    question = {"start": START, "end": START + 60, "keyIds": ["key-0", "key-1"], "limit": 1}

    by_query = await api.get("/api/v2/events", params=question)
    by_body = await api.request("GET", "/api/v2/events", json=question)

    assert [event["id"] for event in by_query.json()["events"]] == ids(entries[1:2])
    assert by_body.json() == by_query.json()


async def test_first_version_lists_by_custom_id_and_user_all_time(
    api: Api, ledger_client: Client
) -> None:
    """A bare array; without keys the times do not count."""
    entries = [
        make_entry(occurred_at_ms=at(1), custom_id="c-1", user_id="u-1"),
        make_entry(occurred_at_ms=at(-9_999_999), custom_id="c-1"),
        make_entry(occurred_at_ms=at(1), custom_id="c-2", user_id="u-1"),
    ]
    insert_entries(ledger_client, entries)

    async def listed(**params: Any) -> list[str]:
        answer = await api.get("/api/events", params=params)
        assert answer.status_code == 200, answer.text
        return [event["id"] for event in answer.json()]

    assert await listed(customId="c-1") == ids(entries[:2])
    assert await listed(customId="c-1", userId="u-1") == ids(entries[:1])
    assert sorted(await listed(userId="u-1")) == sorted(ids([entries[0], entries[2]]))
    assert await listed(customId="c-9") == []


async def test_first_version_counts_both_ends_with_keys(api: Api, ledger_client: Client) -> None:
    """Closed on both sides, in whole seconds."""
    entries = [make_entry(occurred_at_ms=at(second)) for second in (-0.001, 0, 10.999, 11)]
    insert_entries(ledger_client, entries)

    answer = await api.get(
        "/api/events", params={"keyIds": ["key-1", "key-2"], "start": START, "end": START + 10}
    )

    assert sorted(event["id"] for event in answer.json()) == sorted(ids(entries[1:3]))


@pytest.mark.parametrize(
    ("params", "type_name", "title"),
    [
        ({}, "no-filters-empty", "none of customId, keyIds and userId is specified"),
        (
            {"keyIds": "k", "end": "5"},
            "query-param-start-missing",
            "query param start is missing",
        ),
        ({"keyIds": "k", "start": "5"}, "query-param-end-missing", "query param end is missing"),
        (
            {"keyIds": "k", "start": "x", "end": "5"},
            "bad-start-query-param",
            "start query cannot be parsed",
        ),
        (
            {"keyIds": "k", "start": "5", "end": "1.5"},
            "bad-end-query-param",
            "end query cannot be parsed",
        ),
    ],
)
async def test_first_version_names_what_is_missing(
    unconnected_api: Api, params: dict[str, str], type_name: str, title: str
) -> None:
    """A type of its own for each mistake."""
    answer = await unconnected_api.get("/api/events", params=params)

    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (400, 400)
    assert (problem["type"], problem["title"]) == (f"/errors/{type_name}", title)
    assert problem["instance"] == "/api/events"
