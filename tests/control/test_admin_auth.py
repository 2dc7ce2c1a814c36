"""Who may use 8001 and 8003, and what is said to those who may not."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support import loopback
from support.programs import Gateway
from support.reporting import opened_app
from support.servers import free_port
from support.stores import NatsServer, PostgresDatabase

from contracts.config.admin_tokens import is_token_text, new_token_text
from reporting.settings import ReportingSettings
from runtime.settings import Duration, Secret

ROOT = Path(__file__).parents[2]
PASSWORD = "corréct horse"
KEYS = "/api/key-management/keys"
TOKENS = "/api/admin-tokens"
QUESTION = {"start": 1, "end": 2, "increment": 1}


@pytest.fixture(scope="module")
def locked(
    tmp_path_factory: pytest.TempPathFactory, bus: NatsServer, module_postgres: PostgresDatabase
) -> Iterator[Gateway]:
    """A gateway with an admin password."""
    program = Gateway(
        tmp_path_factory.mktemp("locked"),
        {
            "NATS_URL": bus.url,
            "POSTGRES_URL": module_postgres.url,
            "ADMIN_PASS": PASSWORD,
            "ADMIN_BODY_BYTES_MAX": "100000",
            "REPORTING_URL": f"http://127.0.0.1:{free_port()}",
        },
    )
    program.start_ready()
    yield program
    program.kill()


@pytest.fixture(scope="module")
def client(locked: Gateway) -> Iterator[httpx.Client]:
    """A client without a credential."""
    with loopback.Client(base_url=locked.admin_url) as client:
        yield client


@pytest.fixture
def made(client: httpx.Client, request: pytest.FixtureRequest):
    """Makes an admin token; the answer's members."""

    def make(*scopes: str, **members: object) -> dict[str, object]:
        name = members.pop("name", f"{request.node.name} {time.monotonic_ns()}")
        answer = client.post(
            TOKENS, json={"name": name, "scopes": list(scopes), **members}, headers=password()
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    return make


def password() -> dict[str, bytes]:
    """The header of whoever knows the password."""
    return {"x-api-key": PASSWORD.encode()}


def bearer(token: object) -> dict[str, str]:
    """The header of whoever has a token."""
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", KEYS),
        ("PUT", KEYS),
        ("GET", "/api/audit-log"),
        ("POST", "/api/reporting/events"),
        ("GET", "/api/users/"),
        ("GET", "/api/nothing"),
        ("OPTIONS", KEYS),
        ("POST", "/api/health"),
        ("GET", "/"),
        ("GET", "/api/%ff%00"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": "wrong"},
        {"x-api-key": PASSWORD.encode() + b"!"},
        {"x-api-key": PASSWORD.encode("latin-1")},
        {"authorization": "Bearer wrong"},
        {"authorization": b"Basic " + PASSWORD.encode()},
        {"x-api-key": "tat_" + "0" * 72},
        {"x-api-key": b"t\xe4t_"},
    ],
)
def test_without_a_credential_every_path_and_method_is_401(
    client: httpx.Client, method: str, path: str, headers: dict[str, str]
) -> None:
    """In the admin's error shape; nothing tells a path that exists from one that does not."""
    answer = client.request(method, path, headers=headers, content=b"{")

    problem = answer.json()
    assert answer.status_code == 401
    assert list(problem) == ["type", "title", "status", "detail", "instance"]
    assert problem["type"] == "/errors/unauthorized"
    assert PASSWORD not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": PASSWORD.encode()},
        {"authorization": b"Bearer " + PASSWORD.encode()},
        {"authorization": b"bearer  " + PASSWORD.encode()},
        {"authorization": "Basic eDp5", "x-api-key": PASSWORD.encode()},
    ],
)
def test_the_password_opens_in_either_header(
    client: httpx.Client, headers: dict[str, bytes]
) -> None:
    """X-API-KEY as ever, or a bearer token."""
    assert client.get(TOKENS, headers=headers).status_code == 200


def test_health_readiness_and_description_are_open(client: httpx.Client, locked: Gateway) -> None:
    """They say nothing of what is configured."""
    health = client.get("/api/health")
    locked.wait_until(lambda: client.get("/api/ready").status_code == 200)
    ready = client.get("/api/ready")

    assert (health.status_code, health.content) == (200, b"")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "missing": {}})
    assert client.get("/openapi.json").json()["openapi"] == "3.1.0"
    assert client.get("/docs").status_code == 200


def test_unknown_paths_and_other_methods_are_404_in_plain_text(client: httpx.Client) -> None:
    """As BricksLLM's router has it, for those who may ask."""
    for method, path in (
        ("GET", "/api/nothing"),
        ("GET", "/api/nothing/"),
        ("DELETE", KEYS),
        ("OPTIONS", KEYS),
        ("PATCH", "/api/health"),
        ("GET", "//api/users"),
        ("GET", "/api//users"),
        ("GET", "/API/users"),
        ("GET", "/api/users//"),
    ):
        answer = client.request(method, path, headers=password())

        assert (answer.status_code, answer.text) == (404, "404 page not found"), path
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert client.head(TOKENS, headers=password()).status_code == 404


def test_a_trailing_slash_is_redirected(client: httpx.Client) -> None:
    """301 for GET, 307 for what has a body; the query goes along."""
    read = client.get(f"{TOKENS}/?a=b%20c", headers=password())
    write = client.post(f"{TOKENS}/", headers=password(), json={})

    assert (read.status_code, read.headers["location"]) == (301, f"{TOKENS}?a=b%20c")
    assert (write.status_code, write.headers["location"]) == (307, TOKENS)


def test_a_token_is_shown_once_and_stored_as_a_hash(
    client: httpx.Client, made, module_postgres: PostgresDatabase
) -> None:
    """Neither the list nor the database nor the audit log has its text."""
    token = made("read", "keys", name="shown once")
    text = str(token["token"])

    listed = client.get(TOKENS, headers=password())
    log = client.get("/api/audit-log", headers=password(), params={"kind": "admin_token"})
    stored = _select(module_postgres.url, "SELECT document::text FROM configuration_items")

    assert is_token_text(text)
    assert (token["scopes"], token["expiresAt"]) == (["read", "keys"], None)
    shown = next(one for one in listed.json() if one["id"] == token["id"])
    assert shown == {name: value for name, value in token.items() if name != "token"}
    for elsewhere in (listed.text, log.text, "".join(stored)):
        assert text not in elsewhere
    assert any('"shown once"' in row for row in stored)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"scopes": ["read"]}, "name must have 1 to 256 bytes and no NUL"),
        ({"name": "a\0", "scopes": ["read"]}, "name must have 1 to 256 bytes and no NUL"),
        ({"name": "ü" * 129, "scopes": ["read"]}, "name must have 1 to 256 bytes and no NUL"),
        ({"name": "n"}, "scopes must be some of read, write, keys"),
        ({"name": "n", "scopes": []}, "scopes must be some of read, write, keys"),
        ({"name": "n", "scopes": ["root"]}, "scopes must be some of read, write, keys"),
        (
            {"name": "n", "scopes": ["read"], "expiresAt": 1},
            "expiresAt must be Unix seconds in the future",
        ),
        (
            {"name": "n", "scopes": ["read"], "expiresAt": 2**63},
            "expiresAt must be Unix seconds in the future",
        ),
        (
            {"name": "n", "scopes": ["read"], "expires_at": 4_102_444_800},
            "unknown member expires_at: is expiresAt meant?",
        ),
        (
            {"name": "n", "scopes": ["read"], "ttl": "1h"},
            "unknown member ttl",
        ),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(
    client: httpx.Client, body: dict[str, object], detail: str
) -> None:
    """400, and the reason."""
    answer = client.put(TOKENS, json=body, headers=password())

    assert (answer.status_code, answer.json()["detail"]) == (400, detail)


def test_two_tokens_cannot_have_one_name(client: httpx.Client, made) -> None:
    """The audit log tells tokens apart by it."""
    made("read", name="twin")

    answer = client.post(TOKENS, json={"name": "twin", "scopes": ["read"]}, headers=password())

    assert (answer.status_code, answer.json()["detail"]) == (400, "name twin is taken")


ROUTES = {
    "see a token": ("GET", TOKENS),
    "see the log": ("GET", "/api/audit-log"),
    "see settings": ("GET", "/api/provider-settings"),
    "see users": ("GET", "/api/users?tags=a"),
    "see a report": ("GET", "/api/reporting/metering"),
    "write settings": ("PUT", "/api/provider-settings"),
    "write keys": ("PUT", KEYS),
    "write users": ("POST", "/api/users"),
    "delete users": ("DELETE", "/api/users/none"),
    "make tokens": ("POST", TOKENS),
    "delete tokens": ("DELETE", f"{TOKENS}/none"),
}
ALLOWED = {
    "read": {"see a token", "see the log", "see settings", "see users", "see a report"},
    "keys": {"see users", "write keys", "write users", "delete users"},
    "write": set(ROUTES),
}


@pytest.mark.parametrize("scope", sorted(ALLOWED))
def test_a_token_may_do_what_its_scopes_say(client: httpx.Client, made, scope: str) -> None:
    """What it may not is 403, before the body is looked at; what it may goes on to the route."""
    headers = bearer(made(scope)["token"])

    got = {
        name: client.request(method, path, headers=headers, content=b"{").status_code
        for name, (method, path) in ROUTES.items()
    }

    refused = {name for name, status in got.items() if status == 403}
    assert refused == set(ROUTES) - ALLOWED[scope]
    assert 401 not in got.values()


def test_scopes_add_up(client: httpx.Client, made) -> None:
    """Reading everything and writing keys is one token's work."""
    headers = bearer(made("read", "keys")["token"])

    assert client.get("/api/audit-log", headers=headers).status_code == 200
    assert client.delete("/api/users/none", headers=headers).status_code == 200
    assert client.put("/api/provider-settings", headers=headers, json={}).status_code == 403


def test_a_deleted_token_is_refused_at_once(client: httpx.Client, made) -> None:
    """The next request is 401; deleting it again is 404."""
    token = made("read")
    headers = bearer(token["token"])
    before = client.get(TOKENS, headers=headers).status_code

    deleted = client.delete(f"{TOKENS}/{token['id']}", headers=password())

    assert (before, deleted.status_code, deleted.content) == (200, 200, b"")
    assert client.get(TOKENS, headers=headers).status_code == 401
    again = client.delete(f"{TOKENS}/{token['id']}", headers=password())
    assert (again.status_code, again.json()["type"]) == (404, "/errors/not-found")
    assert again.json()["instance"] == f"{TOKENS}/:id"


def test_an_expired_token_is_refused(
    client: httpx.Client, made, module_postgres: PostgresDatabase
) -> None:
    """From the very second that expiresAt names."""
    expires_at = int(time.time()) + 1000
    token = made("read", expiresAt=expires_at)
    assert token["expiresAt"] == expires_at
    headers = {"x-api-key": str(token["token"])}
    seen: list[int] = []

    # Another two seconds for a machine that was away all through the last ones.
    while not seen:
        expires_at = int(time.time()) + 2
        changed = _select(
            module_postgres.url,
            "UPDATE configuration_items SET document ="
            f" jsonb_set(document, '{{expires_at}}', '{expires_at}')"
            f" WHERE id = '{token['id']}' RETURNING document ->> 'expires_at'",
        )
        assert changed == [str(expires_at)]
        while time.time() < expires_at:
            status = client.get(TOKENS, headers=headers).status_code
            if time.time() < expires_at:
                seen.append(status)
            time.sleep(0.05)

    assert set(seen) == {200}
    assert client.get(TOKENS, headers=headers).status_code == 401


def test_the_audit_log_names_who_wrote(client: httpx.Client, made) -> None:
    """The password is `admin`, a token is itself."""
    token = made("keys", name="ci bot")
    user = client.post("/api/users", headers=bearer(token["token"]), json={"name": "a"}).json()

    def actors(item_id: object) -> list[str]:
        params = {"itemId": str(item_id)}
        log = client.get("/api/audit-log", headers=password(), params=params)
        return [entry["actor"] for entry in log.json()["entries"]]

    assert actors(token["id"]) == ["admin"]
    assert actors(user["id"]) == ["token:ci bot"]


def test_a_body_over_the_limit_is_413(client: httpx.Client) -> None:
    """In the admin's shape, whether its length is told or not."""

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 10_000

    for content in (b" " * 200_000, chunks()):
        answer = client.put(KEYS, content=content, headers=password())

        assert answer.status_code == 413
        assert answer.json() == {
            "type": "/errors/request-body-read",
            "title": "request body reader error",
            "status": 413,
            "detail": "the body is larger than ADMIN_BODY_BYTES_MAX",
            "instance": KEYS,
        }


async def test_reporting_takes_the_same_credentials(
    client: httpx.Client, made, module_postgres: PostgresDatabase
) -> None:
    """The password and tokens that may read; a deleted token is refused there too."""
    reader, keeper = made("read"), made("keys")
    settings = ReportingSettings(
        admin_pass=Secret(PASSWORD),
        postgres_url=Secret(module_postgres.url),
        clickhouse_url="http://127.0.0.1:1",
        clickhouse_connect_timeout=Duration(1),
        report_postgres_timeout=Duration(60),
        nats_url="nats://127.0.0.1:1",
    )

    async with opened_app(settings) as api:

        async def status(headers: dict[str, str] | dict[str, bytes]) -> int:
            answer = await api.post("/api/reporting/events", json=QUESTION, headers=headers)
            return answer.status_code

        got = [
            await status(password()),
            await status(bearer(reader["token"])),
            await status(bearer(keeper["token"])),
            await status(bearer(new_token_text())),
            await status({}),
        ]
        await asyncio.to_thread(client.delete, f"{TOKENS}/{reader['id']}", headers=password())
        after = await status(bearer(reader["token"]))

    # There is no ledger here: 503 is what those get who may ask.
    assert got == [503, 503, 403, 401, 401]
    assert after == 401


async def test_reporting_without_a_database_knows_the_password_only() -> None:
    """A token that cannot be looked up is none."""
    settings = ReportingSettings(admin_pass=Secret(PASSWORD), clickhouse_url="http://127.0.0.1:1")

    async with opened_app(settings) as api:
        answer = await api.get("/api/events", headers=bearer(new_token_text()))

    assert answer.status_code == 401


async def test_reporting_says_when_tokens_cannot_be_looked_up() -> None:
    """503: the token may be good."""
    settings = ReportingSettings(
        admin_pass=Secret(PASSWORD),
        postgres_url=Secret(f"postgres://nobody@127.0.0.1:{free_port()}/none"),
    )

    async with opened_app(settings) as api:
        answer = await api.get("/api/events", headers=bearer(new_token_text()))
        mistyped = await api.get("/api/events", headers=bearer("tat_" + "1" * 72))

    assert (answer.status_code, answer.json()["type"]) == (503, "/errors/unavailable")
    assert mistyped.status_code == 401


OPEN_HEADERS = [
    ({}, 200),
    ({"host": "localhost:1"}, 200),
    ({"host": "[::1]"}, 200),
    ({"host": "127.9.9.9:80"}, 200),
    ({"host": "evil.example"}, 403),
    ({"host": "127.0.0.1.evil.example:8001"}, 403),
    ({"host": "localhost.evil.example"}, 403),
    ({"host": "10.0.0.1"}, 403),
    ({"host": ""}, 403),
    ({"host": "[::1"}, 403),
    ({"host": "localhost:8001", "origin": "http://localhost:8001"}, 200),
    ({"host": "localhost:8001", "origin": "https://evil.example"}, 403),
    ({"host": "localhost:8001", "origin": "http://localhost:3000"}, 403),
    ({"host": "localhost:8001", "origin": "null"}, 403),
    ({"host": "localhost:8001", "origin": ""}, 403),
]


@pytest.mark.parametrize(("headers", "expected"), OPEN_HEADERS)
def test_without_a_password_web_pages_are_kept_out(
    gateway: Gateway, headers: dict[str, str], expected: int
) -> None:
    """Neither a name made to resolve to 127.0.0.1 nor another site's form can drive an open API."""
    answer = loopback.post(f"{gateway.admin_url}/api/users", json={"name": "a"}, headers=headers)

    assert answer.status_code == expected, answer.text
    if expected == 403:
        assert answer.json()["type"] == "/errors/forbidden"


@pytest.mark.parametrize(("headers", "expected"), OPEN_HEADERS)
async def test_open_reporting_keeps_web_pages_out_too(
    headers: dict[str, str], expected: int
) -> None:
    """The same door."""
    settings = ReportingSettings(clickhouse_url="http://127.0.0.1:1")

    async with opened_app(settings) as api:
        answer = await api.post("/api/reporting/events", content=b"{", headers=headers)

    assert answer.status_code == (400 if expected == 200 else 403)


def test_without_a_password_writers_are_anonymous_unless_they_send_a_token(
    gateway: Gateway,
) -> None:
    """A token that is sent is honoured, its limits too; a wrong one is refused."""
    url = gateway.admin_url
    reader = loopback.post(f"{url}{TOKENS}", json={"name": "r", "scopes": ["read"]}).json()
    writer = loopback.post(f"{url}{TOKENS}", json={"name": "w", "scopes": ["write"]}).json()

    refused = loopback.post(f"{url}/api/users", json={}, headers=bearer(reader["token"]))
    unknown = loopback.post(f"{url}/api/users", json={}, headers=bearer(new_token_text()))
    made = loopback.post(f"{url}/api/users", json={"name": "a"}, headers=bearer(writer["token"]))
    ignored = loopback.get(f"{url}{TOKENS}", headers={"x-api-key": "whatever"})

    log = loopback.get(f"{url}/api/audit-log").json()["entries"]
    assert (refused.status_code, unknown.status_code, ignored.status_code) == (403, 401, 200)
    assert (log[0]["itemId"], log[0]["actor"]) == (made.json()["id"], "token:w")
    assert log[1]["actor"] == "anonymous"


def test_an_open_admin_api_says_so_when_it_starts(gateway: Gateway, locked: Gateway) -> None:
    """Once, as a warning; a locked one has nothing to say."""
    assert gateway.log.read_text().count("admin.open") == 1
    assert "admin.open" not in locked.log.read_text()
    assert PASSWORD not in locked.log.read_text()


def test_the_gateway_refuses_to_be_open_to_the_network() -> None:
    """It says which two settings would do, and binds nothing."""
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    paths = os.pathsep.join(str(ROOT / part) for part in ("libs", "services", "."))
    port = free_port()

    done = subprocess.run(
        [sys.executable, "-m", "gateway"],
        env=environ | {"PYTHONPATH": paths, "ADMIN_HOST": "0.0.0.0", "ADMIN_PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "ADMIN_HOST=0.0.0.0 is reachable by others" in done.stdout + done.stderr
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def _select(url: str, statement: str) -> list[str]:
    import asyncpg

    async def select() -> list[str]:
        connection = await asyncpg.connect(url, timeout=60)
        try:
            return [row[0] for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(select())
