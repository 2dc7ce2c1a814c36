"""POST /api/reporting/events over the real engine: every semantic of the time series."""

import json
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from support.entries import insert_entries, make_entry, replacement_of, reversal_of
from support.reporting import Api, Opened

from contracts.ids import new_id
from contracts.ledger import RatingStatus

START = 1_700_000_000


def at(seconds: float) -> int:
    """Milliseconds, so many seconds after START."""
    return int((START + seconds) * 1000)


async def ask(api: Api, **fields: Any) -> Any:
    """The report; numbers as decimals, so that no float hides a digit."""
    question = {"start": START, "end": START + 60, "increment": 60} | fields
    answer = await api.post("/api/reporting/events", json=question)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    return json.loads(answer.content, parse_float=Decimal)


async def test_point_has_every_field_with_its_type(api: Api, ledger_client: Client) -> None:
    """The ancestor's shape, and two counts of what the cost does not hold."""
    insert_entries(ledger_client, [make_entry(occurred_at_ms=at(1))])

    report = await ask(api, end=START + 10, increment=20)

    assert report == {
        "dataPoints": [
            {
                "timeStamp": START,
                "numberOfRequests": 1,
                "costInUsd": Decimal("0.000075"),
                "latencyInMs": 250,
                "promptTokenCount": 10,
                "completionTokenCount": 5,
                "successCount": 1,
                "model": "",
                "keyId": "",
                "customId": "",
                "userId": "",
                "unpricedRequests": 0,
                "unknownRequests": 0,
            }
        ],
        "latencyInMsMedian": 250.0,
        "latencyInMs99th": 250.0,
    }


async def test_buckets_are_aligned_to_start_and_one_more_holds_the_end(
    api: Api, ledger_client: Client
) -> None:
    """start, start + increment, … up to the end itself, which is always empty: half-open."""
    insert_entries(
        ledger_client,
        [make_entry(occurred_at_ms=at(second)) for second in (-0.001, 0, 9.999, 10, 29.999, 30)],
    )

    report = await ask(api, end=START + 30, increment=10)

    points = [(point["timeStamp"], point["numberOfRequests"]) for point in report["dataPoints"]]
    assert points == [(START, 2), (START + 10, 1), (START + 20, 1), (START + 30, 0)]


async def test_last_bucket_is_cut_at_the_end(api: Api, ledger_client: Client) -> None:
    """A bucket that reaches past the end does not count what lies past it."""
    insert_entries(ledger_client, [make_entry(occurred_at_ms=at(second)) for second in (14, 16)])

    report = await ask(api, end=START + 15, increment=10)

    assert [point["numberOfRequests"] for point in report["dataPoints"]] == [0, 1]


async def test_empty_ledger_gives_zeros(api: Api) -> None:
    """No row is not no answer."""
    report = await ask(api)

    assert [point["numberOfRequests"] for point in report["dataPoints"]] == [0, 0]
    assert report["dataPoints"][0]["costInUsd"] == 0
    assert (report["latencyInMsMedian"], report["latencyInMs99th"]) == (0, 0)


async def test_cost_is_exact_beyond_floats(api: Api, ledger_client: Client) -> None:
    """Twenty digits survive: 10**8 dollars and one pico-dollar, twice."""
    amount = 10**20 + 1
    insert_entries(
        ledger_client,
        [make_entry(occurred_at_ms=at(1), cost_picousd=amount) for _ in range(2)],
    )

    report = await ask(api)

    assert report["dataPoints"][0]["costInUsd"] == Decimal(2 * amount).scaleb(-12)


async def test_unpriced_and_unknown_are_counted_and_not_in_the_cost(
    api: Api, ledger_client: Client
) -> None:
    """A null is neither free nor an error: the sum says how much it leaves out."""
    insert_entries(
        ledger_client,
        [
            make_entry(occurred_at_ms=at(1), cost_picousd=7),
            make_entry(
                occurred_at_ms=at(2), cost_picousd=None, rating_status=RatingStatus.UNPRICED
            ),
            make_entry(
                occurred_at_ms=at(3),
                cost_picousd=None,
                input_tokens=None,
                output_tokens=None,
                duration_us=None,
                status=0,
                outcome="abandoned",
                rating_status=RatingStatus.UNKNOWN,
            ),
        ],
    )

    point = (await ask(api))["dataPoints"][0]

    assert point["costInUsd"] == Decimal("0.000000000007")
    assert (point["numberOfRequests"], point["successCount"]) == (3, 2)
    assert (point["unpricedRequests"], point["unknownRequests"]) == (1, 1)
    assert (point["promptTokenCount"], point["latencyInMs"]) == (20, 500)


async def test_bucket_of_nulls_only_is_zero_and_counted(api: Api, ledger_client: Client) -> None:
    """A sum over nothing but nulls is null in the engine and 0 on the wire."""
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
            )
        ],
    )

    report = await ask(api)

    point = report["dataPoints"][0]
    assert (point["costInUsd"], point["promptTokenCount"], point["latencyInMs"]) == (0, 0, 0)
    assert (point["numberOfRequests"], point["unknownRequests"]) == (1, 1)
    assert report["latencyInMsMedian"] == 0


async def test_corrections_net_out(api: Api, ledger_client: Client) -> None:
    """Charge, reversal and replacement are one request at the replacement's amounts; time is the
    charge's alone."""
    charge = make_entry(occurred_at_ms=at(1), cost_picousd=100, input_tokens=10)
    insert_entries(
        ledger_client,
        [
            charge,
            reversal_of(charge),
            replacement_of(charge, cost_picousd=40, input_tokens=12),
        ],
    )

    report = await ask(api)

    point = report["dataPoints"][0]
    assert (point["numberOfRequests"], point["successCount"]) == (1, 1)
    assert point["costInUsd"] == Decimal(40).scaleb(-12)
    assert (point["promptTokenCount"], point["completionTokenCount"]) == (12, 5)
    assert (point["latencyInMs"], report["latencyInMsMedian"]) == (250, 250)


async def test_further_attempts_cost_but_are_no_requests(api: Api, ledger_client: Client) -> None:
    """A billed attempt adds money and tokens, not a request and not its own latency."""
    event_id = new_id()
    insert_entries(
        ledger_client,
        [
            make_entry(event_id=event_id, occurred_at_ms=at(1), cost_picousd=5),
            make_entry(
                event_id=event_id,
                attempt_no=1,
                occurred_at_ms=at(1),
                cost_picousd=3,
                status=500,
                duration_us=90_000_000,
            ),
        ],
    )

    report = await ask(api)

    point = report["dataPoints"][0]
    assert (point["numberOfRequests"], point["successCount"]) == (1, 1)
    assert (point["costInUsd"], point["promptTokenCount"]) == (Decimal(8).scaleb(-12), 20)
    assert (point["latencyInMs"], report["latencyInMs99th"]) == (250, 250)


async def test_latency_is_that_of_the_attempt_that_answered(
    api: Api, ledger_client: Client
) -> None:
    """Whichever it was: the one with the request, not the first one."""
    event_id = new_id()
    lost = {"requests": 0, "cost_picousd": None, "duration_us": 90_000_000}
    insert_entries(
        ledger_client,
        [
            make_entry(event_id=event_id, occurred_at_ms=at(1), **lost),
            make_entry(
                event_id=event_id, attempt_no=1, occurred_at_ms=at(1), requests=1, cost_picousd=3
            ),
        ],
    )

    report = await ask(api)

    point = report["dataPoints"][0]
    assert (point["numberOfRequests"], point["costInUsd"]) == (1, Decimal(3).scaleb(-12))
    assert (point["latencyInMs"], report["latencyInMs99th"]) == (250, 250)


async def test_success_is_status_200_only(api: Api, ledger_client: Client) -> None:
    """201 is not counted as success, as ever."""
    insert_entries(
        ledger_client,
        [make_entry(occurred_at_ms=at(1), status=status) for status in (200, 201, 204, 429, 500)],
    )

    assert (await ask(api))["dataPoints"][0]["successCount"] == 1


async def test_latency_is_rounded_once(api: Api, ledger_client: Client) -> None:
    """Three times 0.4 ms is 1 ms, not 0."""
    insert_entries(
        ledger_client, [make_entry(occurred_at_ms=at(1), duration_us=400) for _ in range(3)]
    )

    assert (await ask(api))["dataPoints"][0]["latencyInMs"] == 1


async def test_percentiles_are_continuous_and_honour_window_and_filters(
    api: Api, ledger_client: Client
) -> None:
    """Linear between neighbours; the entry at the end, another key's and another run's are out."""
    entries = [
        make_entry(occurred_at_ms=at(second), duration_us=(second + 1) * 10_000)
        for second in range(4)
    ]
    entries += [
        make_entry(occurred_at_ms=at(60), duration_us=9_000_000),
        make_entry(occurred_at_ms=at(-1), duration_us=9_000_000),
        make_entry(occurred_at_ms=at(1), duration_us=9_000_000, key_id="key-2"),
        make_entry(occurred_at_ms=at(1), duration_us=9_000_000, run_id=new_id()),
    ]
    insert_entries(ledger_client, entries)

    report = await ask(api, keyIds=["key-1"])

    assert report["latencyInMsMedian"] == 25
    assert report["latencyInMs99th"] == pytest.approx(Decimal("39.7"))


async def test_percentiles_of_too_many_rows_are_a_digests(
    opened: Opened, ledger_client: Client
) -> None:
    """Memory stays bounded, and the answer stays close."""
    insert_entries(
        ledger_client,
        [make_entry(occurred_at_ms=at(1), duration_us=n * 1000) for n in range(1, 1001)],
    )

    async with opened(report_exact_percentile_rows_max=999) as api:
        report = await ask(api)

    assert float(report["latencyInMsMedian"]) == pytest.approx(500, rel=0.02)
    assert float(report["latencyInMs99th"]) == pytest.approx(990, rel=0.02)


async def test_runs_that_are_not_promoted_are_not_seen(api: Api, ledger_client: Client) -> None:
    """A shadow run beside the books changes no report."""
    insert_entries(
        ledger_client,
        [make_entry(occurred_at_ms=at(1)), make_entry(occurred_at_ms=at(1), run_id=new_id())],
    )

    assert (await ask(api))["dataPoints"][0]["numberOfRequests"] == 1


SELECTIONS: list[tuple[dict[str, list[str]], int]] = [
    ({}, 4),
    ({"keyIds": ["key-1"]}, 3),
    ({"keyIds": ["key-1", "key-2", "key-9"]}, 4),
    ({"tags": ["a"]}, 2),
    ({"tags": ["a", "b"]}, 1),
    ({"tags": ["b", "a"]}, 1),
    ({"customIds": ["c-1", "c-2"]}, 2),
    ({"userIds": ["u-1"]}, 1),
    ({"keyIds": ["key-1"], "tags": ["a"], "customIds": ["c-1"]}, 1),
    ({"keyIds": ["nobody"]}, 0),
]


async def test_ids_match_any_and_tags_match_all(api: Api, ledger_client: Client) -> None:
    """And the filters are joined by and."""
    insert_entries(
        ledger_client,
        [
            make_entry(occurred_at_ms=at(1), tags=("a", "b"), custom_id="c-1"),
            make_entry(occurred_at_ms=at(2), tags=("a",), custom_id="c-2"),
            make_entry(occurred_at_ms=at(3), user_id="u-1"),
            make_entry(occurred_at_ms=at(4), key_id="key-2"),
        ],
    )

    for filters, expected in SELECTIONS:
        counted = (await ask(api, **filters))["dataPoints"][0]["numberOfRequests"]
        assert (filters, counted) == (filters, expected)


async def test_groups_give_a_row_each_and_empty_buckets_one(
    api: Api, ledger_client: Client
) -> None:
    """Only what was asked for is named; unknown group names are ignored."""
    insert_entries(
        ledger_client,
        [
            make_entry(occurred_at_ms=at(1), key_id="key-2", user_id="u-1"),
            make_entry(occurred_at_ms=at(2), key_id="key-1"),
            make_entry(occurred_at_ms=at(3), key_id="key-2", user_id="u-2"),
        ],
    )

    report = await ask(api, increment=30, filters=["keyId", "nonsense"])

    rows = [
        (point["timeStamp"] - START, point["keyId"], point["userId"], point["numberOfRequests"])
        for point in report["dataPoints"]
    ]
    assert rows == [(0, "key-1", "", 1), (0, "key-2", "", 2), (30, "", "", 0), (60, "", "", 0)]


async def test_all_four_groups_at_once(api: Api, ledger_client: Client) -> None:
    """Names land in their own fields."""
    insert_entries(
        ledger_client,
        [make_entry(occurred_at_ms=at(1), custom_id="c-1", user_id="u-1", model_served="m")],
    )

    point = (await ask(api, filters=["userId", "customId", "keyId", "model"]))["dataPoints"][0]

    named = (point["model"], point["keyId"], point["customId"], point["userId"])
    assert named == ("m", "key-1", "c-1", "u-1")


async def test_model_is_the_one_served_else_sent_else_asked(
    api: Api, ledger_client: Client
) -> None:
    """Refusals have no served model and are still some model's."""
    insert_entries(
        ledger_client,
        [
            make_entry(occurred_at_ms=at(1), model_served="served"),
            make_entry(occurred_at_ms=at(1), model_served="", model_sent="sent"),
            make_entry(occurred_at_ms=at(1), model_served="", model_sent="", model_asked="asked"),
        ],
    )

    report = await ask(api, filters=["model"])

    assert [point["model"] for point in report["dataPoints"][:3]] == ["asked", "sent", "served"]


@pytest.mark.parametrize(
    ("question", "detail"),
    [
        ({}, "start and end are required, in Unix seconds"),
        ({"start": 5, "end": 5, "increment": 1}, "start 5 cannot be larger than end 5"),
        ({"start": 6, "end": 5, "increment": 1}, "start 6 cannot be larger than end 5"),
        ({"start": 1, "end": 5}, "increment is required, in seconds, larger than 0"),
        (
            {"start": 1, "end": 5, "increment": -1},
            "increment is required, in seconds, larger than 0",
        ),
    ],
)
async def test_invalid_question_is_400(
    unconnected_api: Api, question: dict[str, Any], detail: str
) -> None:
    """Where the ancestor said 500 for a client's mistake."""
    answer = await unconnected_api.post("/api/reporting/events", json=question)

    assert answer.status_code == 400
    assert answer.json() == {
        "type": "/errors/invalid-reporting-request",
        "title": "invalid reporting request",
        "status": 400,
        "detail": detail,
        "instance": "/api/reporting/events",
    }
