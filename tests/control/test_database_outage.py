"""What 8001 says while its database is away, frozen, read-only, and back."""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import httpx
import psutil
import pytest
from support import loopback
from support.operations import Call, Description
from support.programs import Gateway
from support.servers import RunningServer, run_apart
from support.stores import NatsServer, migrated_postgres

from contracts.config.admin_tokens import new_token_text

PASSWORD = "outage"
FILTERS = {"tags", "userId"}
LONGEST_ANSWER_S = 60.0
"""What an operator bears; above the sum of the admin API's own limits."""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A Postgres that may be killed."""
    server = migrated_postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, bus: NatsServer, database: RunningServer
) -> Iterator[Gateway]:
    """A gateway over it."""
    program = Gateway(
        tmp_path_factory.mktemp("gateway"),
        {
            "NATS_URL": bus.url,
            "POSTGRES_URL": database.url,
            "POSTGRESQL_READ_TIME_OUT": "1s",
            "ADMIN_PASS": PASSWORD,
        },
    )
    program.start_ready()
    yield program
    program.kill()


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client with the password."""
    with loopback.Client(
        base_url=gateway.admin_url, headers={"x-api-key": PASSWORD}, timeout=LONGEST_ANSWER_S
    ) as client:
        yield client


@pytest.fixture(scope="module")
def description(client: httpx.Client) -> Description:
    """What 8001 says of itself."""
    return Description(client.get("/openapi.json").json())


def sent(client: httpx.Client, call: Call) -> httpx.Response:
    """The call, of things that need not exist."""
    path = call.template
    for parameter in call.parameters:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", "some")
    query = {
        parameter["name"]: parameter.get("example", "some")
        for parameter in call.parameters
        if parameter["in"] == "query" and ("example" in parameter or parameter["name"] in FILTERS)
    }
    body = {} if call.body_example is None else {"json": call.body_example}
    return client.request(call.method.upper(), path, params=query, **body)


def until_served(client: httpx.Client, *methods: str) -> None:
    """Waits for what the database's own time limit of a second may refuse on a busy machine."""
    for method in methods or ("GET", "POST"):
        deadline = time.monotonic() + 60
        asked = {"params": {"tags": "a"}} if method == "GET" else {"json": {"name": "a"}}
        while (answer := client.request(method, "/api/users", **asked)).status_code != 200:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.05)


def test_without_its_database_every_route_is_503_and_comes_back_by_itself(
    client: httpx.Client, description: Description, database: RunningServer
) -> None:
    """Health lives, readiness names what is missing, nothing is 500; then all is well again."""
    calls = [call for call in description.calls() if call.template.startswith("/api/")]
    until_served(client)
    assert client.get("/api/ready").json() == {"status": "ready", "missing": {}}

    database.stop()
    answers = {repr(call): (call, sent(client, call)) for call in calls}
    token = loopback.get(f"{client.base_url}/api/users", headers={"x-api-key": new_token_text()})

    for name, (call, answer) in answers.items():
        assert not list(description.problems_of(call, answer)), name
        if "/reporting/" in name or "/events" in name:
            assert answer.status_code == 502, name
        elif name == "GET /api/health":
            assert answer.status_code == 200
        else:
            assert answer.status_code == 503, (name, answer.text)
    ready = answers["GET /api/ready"][1].json()
    assert ready["missing"] == {"postgres": "the configuration database cannot be reached"}
    assert (token.status_code, token.json()["type"]) == (503, "/errors/unavailable")

    database.start()
    until_served(client)


def freeze(process: psutil.Process) -> None:
    """Returns once it stands still; one that has ended does."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.suspend()
        while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            time.sleep(0.001)


def test_a_database_that_hangs_does_not_hang_its_callers(
    client: httpx.Client, database: RunningServer
) -> None:
    """Readers, writers and readiness are told within their time limits."""
    until_served(client)
    postmaster = psutil.Process(database.pid)
    freeze(postmaster)
    # It forks no more: these are all that could answer, those of the newest connections too.
    sessions = postmaster.children(recursive=True)
    for session in sessions:
        freeze(session)
    try:
        with ThreadPoolExecutor() as threads:
            asked = [
                threads.submit(client.get, "/api/ready"),
                threads.submit(client.get, "/api/users", params={"tags": "a"}),
                threads.submit(client.post, "/api/users", json={"name": "a"}),
                threads.submit(client.get, "/api/audit-log"),
            ]
            answers = [one.result() for one in asked]
    finally:
        for process in (*sessions, postmaster):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    assert [answer.status_code for answer in answers] == [503, 503, 503, 503]
    assert answers[0].json()["missing"]["postgres"]
    until_served(client)


def test_writers_are_503_while_the_database_only_reads(
    client: httpx.Client, database: RunningServer
) -> None:
    """As a standby does; what can be read is."""
    run_apart(_execute(database.url, "ALTER SYSTEM SET default_transaction_read_only = on"))
    try:
        run_apart(_execute(database.url, "SELECT pg_reload_conf()"))
        deadline = time.monotonic() + 60
        while (answer := client.post("/api/users", json={"name": "a"})).status_code == 200:
            assert time.monotonic() < deadline
        assert answer.status_code == 503, answer.text
        until_served(client, "GET")
    finally:
        run_apart(_execute(database.url, "ALTER SYSTEM RESET default_transaction_read_only"))
        run_apart(_execute(database.url, "SELECT pg_reload_conf()"))
    until_served(client)


def test_a_restart_under_load_is_503_and_the_audit_log_holds_what_was_done(
    client: httpx.Client, database: RunningServer
) -> None:
    """However a connection ends, it is no 500; a write that was answered is there, and audited."""
    is_over = threading.Event()
    answers: list[tuple[int, str]] = []

    def write(number: int) -> None:
        while not is_over.is_set():
            answer = client.post("/api/users", json={"name": f"writer {number}"})
            answers.append((answer.status_code, answer.json().get("id", "")))

    def until_answered(status: int) -> None:
        begun, deadline = len(answers), time.monotonic() + 60
        while all(one != status for one, _ in answers[begun:]):
            assert time.monotonic() < deadline, status
            time.sleep(0.01)

    with ThreadPoolExecutor(16) as threads:
        writers = [threads.submit(write, number) for number in range(16)]
        try:
            until_answered(200)
            for _ in range(3):
                run_apart(_execute(database.url, _END_SESSIONS))
            database.kill()
            until_answered(503)
            database.start()
            for _ in range(3):
                run_apart(_execute(database.url, _END_SESSIONS))
            until_answered(200)
        finally:
            is_over.set()
        for writer in writers:
            writer.result()

    assert {status for status, _ in answers} == {200, 503}
    made = {item_id for status, item_id in answers if status == 200}
    stored = "SELECT id FROM configuration_items WHERE kind = 'user'"
    audited = "SELECT item_id FROM audit_log WHERE kind = 'user'"
    assert made <= set(run_apart(_execute(database.url, stored)))
    assert run_apart(_execute(database.url, f"({stored}) EXCEPT ({audited})")) == []
    assert run_apart(_execute(database.url, f"({audited}) EXCEPT ({stored})")) == []


_END_SESSIONS = (
    "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity"
    " WHERE application_name = 'tollway-gateway'"
)


async def _execute(url: str, statement: str) -> list[str]:
    connection = await asyncpg.connect(
        url, server_settings={"default_transaction_read_only": "off"}
    )
    try:
        return [row[0] for row in await connection.fetch(statement)]
    finally:
        await connection.close()
