"""Two data workers over one database: what is written is in force in both, whatever breaks."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import loopback
from support.programs import Gateway
from support.servers import RunningServer, run_apart
from support.stores import NatsServer, migrated_postgres
from support.workers import clients_of_every_worker, until_in_force

from contracts.config.keys import ApiKey
from contracts.config.kinds import KIND_BY_STRUCT
from contracts.config.policies import Policy
from contracts.config.provider_settings import CustomProvider, ModelAlias, ProviderSetting
from contracts.config.routes import Route
from contracts.config.users import User
from gateway.administration import (
    custom_providers_wire,
    keys_wire,
    model_aliases,
    policies_wire,
    provider_settings_wire,
    routes_wire,
    users_wire,
)

WORKERS = 2


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A Postgres of this file's own, to be stopped and started."""
    server = migrated_postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, bus: NatsServer, database: RunningServer):
    """A gateway with two data workers, which poll so seldom that only notifications count."""
    program = Gateway(
        tmp_path_factory.mktemp("pair"),
        {
            "NATS_URL": bus.url,
            "POSTGRES_URL": database.url,
            "GATEWAY_WORKERS": str(WORKERS),
            "IN_MEMORY_DB_UPDATE_INTERVAL": "10m",
        },
    )
    program.start_ready()
    until_in_force(program, database.url, WORKERS)
    yield program
    program.kill()


@pytest.fixture(scope="module")
def callers(pair: Gateway) -> Iterator[list[httpx.Client]]:
    """Connections to both workers."""
    with clients_of_every_worker(pair, WORKERS) as clients:
        yield clients


@pytest.fixture(scope="module")
def api(pair: Gateway) -> Iterator[httpx.Client]:
    """A client of the admin API."""
    with loopback.Client(base_url=pair.admin_url) as client:
        yield client


@pytest.fixture(scope="module")
def setting_id(pair: Gateway) -> str:
    """A provider setting that nobody deletes."""
    return pair.setting("http://127.0.0.1:9")


@pytest.fixture(scope="module")
def key_id(pair: Gateway, setting_id: str) -> str:
    """A key that nobody deletes."""
    return str(pair.key("sk-stays", setting_id)["keyId"])


def codes(callers: list[httpx.Client], key: str, **body: object) -> set[object]:
    """What the connections are told, without a model that could be served."""
    answers = [
        client.post(
            "/v1/chat/completions", headers={"authorization": f"Bearer {key}"}, json=body
        ).json()
        for client in callers
    ]
    return {answer["error"]["code"] for answer in answers}


IS_SERVED = {"missing_required_parameter"}
"""The code of a request that passed the gates and names no model."""


def key_body(name: str, setting_id: str, **members: object) -> dict[str, object]:
    return {"name": name, "key": f"sk-{name}", "settingIds": [setting_id], **members}


def test_a_key_lives_and_dies_in_both_workers(pair, database, api, callers, setting_id):
    """Created, revoked, taken back, deleted."""
    keys = "/api/key-management/keys"
    url = f"{keys}/{api.put(keys, json=key_body('life', setting_id)).json()['keyId']}"
    until_in_force(pair, database.url, WORKERS)
    assert codes(callers, "sk-life") == IS_SERVED
    for change, expected in [
        ({"revoked": True}, {"api_key_revoked"}),
        ({"revoked": False}, IS_SERVED),
        ({"allowedPaths": [{"path": "/x", "method": "GET"}]}, {"path_not_allowed"}),
        ({"allowedPaths": []}, IS_SERVED),
    ]:
        assert api.patch(url, json=change).status_code == 200
        until_in_force(pair, database.url, WORKERS)
        assert codes(callers, "sk-life") == expected
    assert api.delete(url).status_code == 200
    until_in_force(pair, database.url, WORKERS)
    assert codes(callers, "sk-life") == {"invalid_api_key"}


async def execute(url: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


LISTENERS = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"


def test_a_lost_connection_for_notifications_is_made_again(
    pair, database, api, callers, setting_id
):
    """What was written while nobody listened is in force without waiting for the poll."""
    key = api.put("/api/key-management/keys", json=key_body("lost", setting_id)).json()
    until_in_force(pair, database.url, WORKERS)
    pair.wait_until(
        lambda: len(run_apart(execute(database.url, f"SELECT pid {LISTENERS}"))) == WORKERS
    )
    killed = run_apart(execute(database.url, f"SELECT pg_terminate_backend(pid) {LISTENERS}"))
    assert len(killed) == WORKERS

    answer = api.patch(f"/api/key-management/keys/{key['keyId']}", json={"revoked": True})

    assert answer.status_code == 200
    until_in_force(pair, database.url, WORKERS)
    assert codes(callers, "sk-lost") == {"api_key_revoked"}


def test_a_restart_of_postgres_takes_nothing_out_of_force(pair, database, api, callers, setting_id):
    """Calls go on while it is away, writes are refused as unavailable and do nothing."""
    keys = "/api/key-management/keys"
    key = api.put(keys, json=key_body("restart", setting_id)).json()
    until_in_force(pair, database.url, WORKERS)
    url = f"{keys}/{key['keyId']}"

    database.stop()
    refused = api.patch(url, json={"revoked": True})
    assert refused.status_code == 503
    assert refused.json()["type"] == "/errors/unavailable"
    assert codes(callers, "sk-restart") == IS_SERVED
    database.start()
    until_in_force(pair, database.url, WORKERS)
    assert codes(callers, "sk-restart") == IS_SERVED

    assert api.patch(url, json={"revoked": True}).status_code == 200
    until_in_force(pair, database.url, WORKERS)
    assert codes(callers, "sk-restart") == {"api_key_revoked"}


Wire = dict[str, Any]


@dataclass
class Made:
    """What one sequence has made: ids by resource, and what else it may refer to."""

    prefix: str
    setting_id: str
    key_id: str
    ids: dict[str, list[str]] = field(default_factory=dict)

    def setting(self, number: int) -> str:
        """One that was there before, or was made, and may be gone."""
        return ([self.setting_id, *self.ids.get("settings", [])] * 6)[number]

    def key(self, number: int) -> str:
        """One that was there before, or was made, and may be gone."""
        return ([self.key_id, *self.ids.get("keys", [])] * 6)[number]


@dataclass(frozen=True)
class Resource:
    """A kind of thing that operators manage. To add one: a line in RESOURCES.

    `new` makes the body of a valid creation out of a number, `changes` are bodies of valid changes.
    `query` is how one is asked for: a member of the query, or "" for the path.
    """

    kind: type[msgspec.Struct]
    path: str
    new: Callable[[Made, int], Wire]
    to_wire: Callable[[Any], msgspec.Struct]
    changes: tuple[Wire, ...] = ()
    query: str = ""
    id_member: str = "id"

    def shown(self, api: httpx.Client, item_id: str) -> Wire | None:
        """As the admin API has it, None when it does not."""
        if not self.query:
            answer = api.get(f"{self.path}/{item_id}")
            return None if answer.status_code == 404 else dict(answer.json())
        answer = api.get(self.path, params={self.query: item_id})
        found = [] if answer.status_code in (400, 404) else answer.json()
        return next((one for one in found if one[self.id_member] == item_id), None)


RESOURCES = {
    "keys": Resource(
        ApiKey,
        "/api/key-management/keys",
        lambda made, number: {
            "name": "k",
            "key": f"sk-{made.prefix}-{number}",
            "settingIds": [made.setting(number)],
            "tags": ["t", str(number)],
            "ttl": ["", "1h", "-1s"][number % 3],
        },
        keys_wire.to_wire,
        (
            {"revoked": True, "revokedReason": "why"},
            {"revoked": False},
            {"name": "renamed", "tags": ["other"]},
            {"allowedPaths": [{"path": "/v1/chat/completions", "method": "POST"}]},
            {"allowedPaths": []},
            {"rateLimitOverTime": 5, "rateLimitUnit": "m"},
        ),
        query="keyIds",
        id_member="keyId",
    ),
    "settings": Resource(
        ProviderSetting,
        "/api/provider-settings",
        lambda made, number: {
            "provider": ["openai", "anthropic"][number % 2],
            "setting": {"apikey": f"secret {number}".replace(" ", "-")},
            "allowedModels": [str(number)],
        },
        provider_settings_wire.to_wire,
        (
            {"name": "renamed"},
            {"allowedModels": []},
            {"setting": {"apikey": "another-secret", "url": "http://127.0.0.1:9"}},
        ),
        query="ids",
    ),
    "users": Resource(
        User,
        "/api/users",
        lambda made, number: {
            "name": "u",
            "userId": f"{made.prefix}-{number}",
            "keyIds": [made.key(number)],
            "ttl": ["", "1h"][number % 2],
        },
        users_wire.to_wire,
        ({"revoked": True}, {"allowedModels": ["m"]}, {"keyIds": [], "ttl": "1m"}),
    ),
    "aliases": Resource(
        ModelAlias,
        "/api/model-aliases",
        lambda made, number: {"alias": f"{made.prefix}-{number}-*", "model": "gpt-4o"},
        model_aliases.to_wire,
        ({"model": "gpt-4o-mini"}, {"position": 3}),
        query="alias",
    ),
    "custom providers": Resource(
        CustomProvider,
        "/api/custom/providers",
        lambda made, number: {
            "provider": f"{made.prefix}-{number}",
            "route_configs": [
                {
                    "path": "/chat",
                    "target_url": "https://8.8.8.8/chat",
                    "model_location": "model",
                    "request_prompt_location": "prompt",
                    "response_completion_location": "completion",
                }
            ],
        },
        custom_providers_wire.to_wire,
        ({"authentication_param": "token"},),
        query="none",
    ),
    "routes": Resource(
        Route,
        "/api/routes",
        lambda made, number: {
            "name": "r",
            "path": f"/{made.prefix}/{number}",
            "keyIds": [made.key(number)],
            "steps": [{"provider": "openai", "model": "gpt-4o"}],
            "cacheConfig": {"enabled": False},
        },
        routes_wire.to_wire,
        ({"name": "renamed"},),
    ),
    "policies": Resource(
        Policy,
        "/api/policies",
        lambda made, number: {
            "name": "p",
            "tags": [made.prefix],
            "regexConfig": {"rules": [{"definition": str(number), "action": "block"}]},
        },
        policies_wire.to_wire,
        ({"name": "renamed"}, {"tags": ["other"]}),
    ),
}

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["create", "create", "patch", "patch", "delete"]),
        st.sampled_from([*RESOURCES, "keys", "keys", "users"]),
        st.integers(0, 5),
        st.integers(0, 5),
    ),
    min_size=8,
    max_size=20,
)
_numbers = itertools.count()


def perform(api: httpx.Client, made: Made, operation: tuple[str, str, int, int]) -> None:
    """One call. What is taken, in use or gone already is refused, and changes nothing."""
    action, name, which, how = operation
    resource = RESOURCES[name]
    ids = made.ids.setdefault(name, [])
    if action == "create" or not ids:
        method = "PUT" if name == "keys" else "POST"
        answer = api.request(method, resource.path, json=resource.new(made, which))
        if answer.status_code == 200:
            ids.append(answer.json()[resource.id_member])
    elif action == "patch":
        change = resource.changes[how % len(resource.changes)]
        answer = api.patch(f"{resource.path}/{ids[which % len(ids)]}", json=change)
    else:
        answer = api.delete(f"{resource.path}/{ids[which % len(ids)]}")
    assert answer.status_code in (200, 400, 404), f"{operation}: {answer.text}"


def documents(url: str) -> dict[tuple[str, str], str]:
    """Everything that is stored, by kind and id."""
    rows = run_apart(execute(url, "SELECT kind, id, document::text FROM configuration_items"))
    return {(row["kind"], row["id"]): row["document"] for row in rows}


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(operations=OPERATIONS)
def test_admin_api_database_and_both_workers_agree_after_any_sequence_of_calls(
    pair, database, api, callers, setting_id, key_id, operations
):
    """What 8001 shows is what is stored, what is stored is what both workers have read and obey."""
    made = Made(f"seq{next(_numbers)}", setting_id, key_id)
    for operation in operations:
        perform(api, made, operation)

    until_in_force(pair, database.url, WORKERS)
    stored = documents(database.url)
    for name, ids in made.ids.items():
        resource = RESOURCES[name]
        for item_id in ids:
            document = stored.get((KIND_BY_STRUCT[resource.kind], item_id))
            expected = None
            if document is not None:
                value = msgspec.json.decode(document, type=resource.kind)
                expected = msgspec.json.decode(msgspec.json.encode(resource.to_wire(value)))
            assert resource.shown(api, item_id) == expected
    for number in range(6):
        key = f"sk-{made.prefix}-{number}"
        assert codes(callers, key) == {expected_code(stored, key)}


def expected_code(stored: dict[tuple[str, str], str], key: str) -> str:
    """What a caller with this key is told, by what is stored."""
    digest = sha256(key.encode()).hexdigest()
    for (kind, _), document in stored.items():
        if kind != "key":
            continue
        value = msgspec.json.decode(document, type=ApiKey)
        if value.key_hash == digest:
            if value.revoked:
                return "api_key_revoked"
            return "api_key_expired" if value.ttl == "-1s" else "missing_required_parameter"
    return "invalid_api_key"
