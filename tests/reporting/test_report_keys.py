"""Top keys, a key's spend, its users and custom ids, over the real engine."""

import json
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from clickhouse_connect.driver.client import Client
from support.entries import insert_entries, make_entry, reversal_of
from support.reporting import Api, Opened
from support.stores import PostgresDatabase

from contracts.ids import new_id
from contracts.ledger import RatingStatus
from runtime.settings import Secret

START = 1_700_000_000


def at(seconds: float) -> int:
    """Milliseconds, so many seconds after START."""
    return int((START + seconds) * 1000)


async def top(api: Api, **fields: Any) -> list[dict[str, Any]]:
    """The data points, numbers as decimals."""
    question = {"start": START, "end": START + 60} | fields
    answer = await api.post("/api/reporting/top-keys", json=question)
    assert answer.status_code == 200, answer.text
    points: list[dict[str, Any]] = json.loads(answer.content, parse_float=Decimal)["dataPoints"]
    return points


@pytest.fixture
def four_keys(ledger_client: Client) -> None:
    """Spends of 5, 3, 3 and nothing known; and what must not count."""
    reversed_entry = make_entry(occurred_at_ms=at(1), key_id="key-3", cost_picousd=100)
    insert_entries(
        ledger_client,
        [
            make_entry(occurred_at_ms=at(1), key_id="key-1", cost_picousd=2, tags=("a",)),
            make_entry(occurred_at_ms=at(2), key_id="key-1", cost_picousd=3, tags=("a", "b")),
            make_entry(occurred_at_ms=at(3), key_id="key-2", cost_picousd=3, tags=("b",)),
            make_entry(occurred_at_ms=at(4), key_id="key-3", cost_picousd=3),
            make_entry(
                occurred_at_ms=at(5),
                key_id="key-4",
                cost_picousd=None,
                rating_status=RatingStatus.UNPRICED,
            ),
            reversed_entry,
            reversal_of(reversed_entry),
            make_entry(occurred_at_ms=at(60), key_id="key-2", cost_picousd=1000),
            make_entry(occurred_at_ms=at(1), key_id="", cost_picousd=1000),
            make_entry(occurred_at_ms=at(1), key_id="key-2", cost_picousd=1000, run_id=new_id()),
        ],
    )


@pytest.mark.usefixtures("four_keys")
async def test_top_keys_are_sorted_by_spend(api: Api) -> None:
    """Dearest first unless asked; ties by key id; unpriced is last and says so."""
    points = await top(api)

    assert points == [
        {
            "keyId": key_id,
            "costInUsd": Decimal(cost).scaleb(-12) if cost else 0,
            "unpricedRequests": unpriced,
            "unknownRequests": 0,
        }
        for key_id, cost, unpriced in [
            ("key-1", 5, 0),
            ("key-2", 3, 0),
            ("key-3", 3, 0),
            ("key-4", 0, 1),
        ]
    ]


SELECTIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"order": "asc"}, ["key-4", "key-2", "key-3", "key-1"]),
    ({"order": "DESC", "limit": 2}, ["key-1", "key-2"]),
    ({"limit": 2, "offset": 1}, ["key-2", "key-3"]),
    ({"limit": 2, "offset": 9}, []),
    ({"keyIds": ["key-2", "key-4"]}, ["key-2", "key-4"]),
    ({"tags": ["a"]}, ["key-1"]),
    ({"tags": ["a", "b"]}, ["key-1"]),
    ({"tags": ["b"]}, ["key-1", "key-2"]),
    ({"end": START + 61}, ["key-2", "key-1", "key-3", "key-4"]),
]


@pytest.mark.usefixtures("four_keys")
async def test_top_keys_honour_order_page_and_filters(api: Api) -> None:
    """The window is half-open here too."""
    for fields, expected in SELECTIONS:
        found = [point["keyId"] for point in await top(api, **fields)]
        assert (fields, found) == (fields, expected)


@pytest.mark.parametrize(
    "fields",
    [
        {"start": 0},
        {"end": 0},
        {"start": 9, "end": 9},
        {"order": "up"},
        {"tags": [""]},
        {"limit": -1},
        {"name": "x"},
        {"revoked": False},
    ],
)
async def test_invalid_top_keys_question_is_400(
    unconnected_api: Api, fields: dict[str, Any]
) -> None:
    """Filters that cannot be honoured are refused, never passed over."""
    answer = await unconnected_api.post(
        "/api/reporting/top-keys", json={"start": 1, "end": 2} | fields
    )

    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (400, 400)
    assert problem["type"] == "/errors/invalid-reporting-request"
    assert problem["title"] == "invalid reporting request"
    assert problem["instance"] == "/api/reporting/top-keys"


@pytest.fixture
async def configured_keys(postgres: PostgresDatabase) -> str:
    """Three keys made in the window, one before it; used are key-1 and one that is gone."""
    connection = await asyncpg.connect(postgres.url)
    for key_id, name, tags, revoked, created_at in (
        ("key-1", "Alpha", ["a"], False, START - 5),
        ("unused-1", "Beta", ["a", "b"], False, START),
        ("unused-2", "alphabet", [], True, START + 59),
        ("unused-3", "Gamma", [], False, START + 60),
    ):
        await connection.execute(
            "INSERT INTO configuration_items"
            " (kind, id, document, created_at, updated_at, revision)"
            " VALUES ('key', $1, $2::text::jsonb, $3, $3, 1)",
            key_id,
            json.dumps({"key_hash": key_id, "name": name, "tags": tags, "revoked": revoked}),
            created_at,
        )
    await connection.close()
    return postgres.url


async def test_top_keys_with_the_configured_keys(
    opened: Opened, ledger_client: Client, configured_keys: str
) -> None:
    """Keys made in the window are there with nothing spent; name and revoked filter them all."""
    insert_entries(
        ledger_client,
        [
            make_entry(occurred_at_ms=at(1), key_id="key-1", cost_picousd=5, tags=("a",)),
            make_entry(occurred_at_ms=at(1), key_id="gone", cost_picousd=3),
        ],
    )

    selections: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["key-1", "gone", "unused-1", "unused-2"]),
        ({"order": "asc"}, ["unused-1", "unused-2", "gone", "key-1"]),
        ({"limit": 2, "offset": 1}, ["gone", "unused-1"]),
        ({"name": "ALPHA"}, ["key-1", "unused-2"]),
        ({"revoked": False}, ["key-1", "unused-1"]),
        ({"revoked": True}, ["unused-2"]),
        ({"name": "alpha", "revoked": False}, ["key-1"]),
        ({"tags": ["a"]}, ["key-1", "unused-1"]),
        ({"keyIds": ["gone", "unused-2", "nul\x00"]}, ["gone", "unused-2"]),
        ({"keyIds": ["nul\x00"]}, []),
        ({"name": "%' OR 1=1 --"}, []),
        ({"name": "nul\x00"}, []),
    ]
    async with opened(postgres_url=Secret(configured_keys)) as api:
        for fields, expected in selections:
            found = [point["keyId"] for point in await top(api, **fields)]
            assert (fields, found) == (fields, expected)


async def test_configured_key_without_entries_has_spent_nothing(
    opened: Opened, configured_keys: str
) -> None:
    """A key that was never used is not unknown."""
    async with opened(postgres_url=Secret(configured_keys)) as api:
        unused = await api.get("/api/reporting/keys/unused-1")
        unknown = await api.get("/api/reporting/keys/nobody")

    assert (unused.status_code, unused.json()["costInMicroDollars"]) == (200, 0)
    assert unknown.status_code == 404


async def test_postgres_out_of_reach_is_503(opened: Opened) -> None:
    """An answer without the configured keys would not be the whole."""
    async with opened(postgres_url=Secret("postgresql://127.0.0.1:1/x")) as api:
        answer = await api.post("/api/reporting/top-keys", json={"start": 1, "end": 2})

    assert (answer.status_code, answer.json()["title"]) == (503, "top key reporting error")


async def test_key_spend_is_the_exact_sum_rounded_once(api: Api, ledger_client: Client) -> None:
    """Three times 0.4 micro-dollars is one, where a sum of truncations had none."""
    insert_entries(
        ledger_client,
        [make_entry(occurred_at_ms=at(n * 10_000_000), cost_picousd=400_000) for n in range(3)]
        + [
            make_entry(occurred_at_ms=at(1), cost_picousd=None, rating_status=RatingStatus.UNPRICED)
        ],
    )

    answer = await api.get("/api/reporting/keys/key-1")

    assert json.loads(answer.content, parse_float=Decimal) == {
        "id": "key-1",
        "costInMicroDollars": 1,
        "costInUsd": Decimal("0.0000012"),
        "unpricedRequests": 1,
        "unknownRequests": 0,
    }


async def test_key_without_entries_is_404(api: Api) -> None:
    """With the template as its instance."""
    answer = await api.get("/api/reporting/keys/nobody")

    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (404, 404)
    assert (problem["type"], problem["title"]) == ("/errors/key-not-found", "key not found error")
    assert problem["instance"] == "/api/reporting/keys/:id"


async def test_ids_of_a_key_are_distinct_and_never_empty(api: Api, ledger_client: Client) -> None:
    """All time, of this key only."""
    insert_entries(
        ledger_client,
        [
            make_entry(user_id="u-2", custom_id="c-1"),
            make_entry(user_id="u-1", occurred_at_ms=at(-99_999_999)),
            make_entry(user_id="u-2"),
            make_entry(user_id="u-3", custom_id="c-3", key_id="key-2"),
            make_entry(user_id="u-4", custom_id="c-4", run_id=new_id()),
        ],
    )

    for path, expected in (
        ("user-ids", ["u-1", "u-2"]),
        ("users-ids", ["u-1", "u-2"]),
        ("custom-ids", ["c-1"]),
    ):
        answer = await api.get(f"/api/reporting/{path}", params={"keyId": "key-1"})
        assert (path, answer.json()) == (path, expected)


@pytest.mark.parametrize("path", ["user-ids", "custom-ids"])
async def test_ids_need_a_key(unconnected_api: Api, path: str) -> None:
    """A type of its own."""
    for params in ({}, {"keyId": ""}):
        answer = await unconnected_api.get(f"/api/reporting/{path}", params=params)

        assert answer.status_code == 400
        assert answer.json() == {
            "type": "/errors/missing-key-id",
            "title": "key id query param is missing",
            "status": 400,
            "detail": "key id query is missing",
            "instance": f"/api/reporting/{path}",
        }
