"""Real servers for every test: NATS, Postgres, Redis and ClickHouse's engine, each its own process.

Session servers belong to one pytest process, so workers of pytest-xdist share nothing. Servers die
with the process that started them, however that ends.
"""

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import HealthCheck, settings
from support.servers import RunningServer, run_apart
from support.stores import (
    ClickHouseDatabase,
    NatsServer,
    PostgresDatabase,
    copied,
    migrated,
    migrated_postgres,
)

from infra.embedded.clickhouse import CLICKHOUSE
from infra.embedded.redis import REDIS

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")
"""A property holds on a busy machine too."""

_NEEDS = {
    "strace": ("strace -o /dev/null true", "needs strace and the right to trace"),
    "docker": ("docker info", "needs a Docker engine"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long`: tests marked `long_form` go round as often as in `make drill`."""
    parser.addoption("--long", action="store_true", help="the long form of tests marked long_form")


def _rounds(config: pytest.Config, node: pytest.Item) -> int:
    form = node.get_closest_marker("long_form")
    assert form is not None, f"{node.nodeid} is not marked long_form(short=..., long=...)"
    return int(form.kwargs["long" if config.getoption("long") else "short"])


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How often a test marked `long_form` goes round."""
    return _rounds(request.config, request.node)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test marked `long_form` that takes a `seed` runs once for each, from 1 on."""
    is_marked = metafunc.definition.get_closest_marker("long_form") is not None
    if is_marked and "seed" in metafunc.fixturenames:
        seeds = range(1, _rounds(metafunc.config, metafunc.definition) + 1)
        metafunc.parametrize("seed", seeds)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What this machine cannot run is skipped, with the reason in the summary."""
    for marker, (command, reason) in _NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker) is not None]
        if marked and not _succeeds(command):
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


def _succeeds(command: str) -> bool:
    try:
        done = subprocess.run(command.split(), capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A running NATS server of the test's own, without streams: `await nats_server.migrate()`."""
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RunningServer]:
    """A running, empty Valkey of the test's own."""
    server = RunningServer(REDIS, tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def clickhouse_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The owner process that every `clickhouse` database lives in; do not kill this one."""
    server = RunningServer(CLICKHOUSE, tmp_path_factory.mktemp("clickhouse"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def _clickhouse_template(clickhouse_process: RunningServer) -> ClickHouseDatabase:
    return migrated(clickhouse_process.url, "template")


@pytest.fixture(scope="session")
def _clickhouse_client(_clickhouse_template: ClickHouseDatabase) -> Iterator[Client]:
    client = _clickhouse_template.client()
    yield client
    client.close()


@pytest.fixture
def clickhouse(
    _clickhouse_template: ClickHouseDatabase, _clickhouse_client: Client
) -> Iterator[ClickHouseDatabase]:
    """A migrated database of the test's own: `.url`, `.database`, `.client()`."""
    database = f"t_{secrets.token_hex(6)}"
    yield copied(_clickhouse_template, database, _clickhouse_client)
    _clickhouse_client.command(f"DROP DATABASE {database} SYNC")


@pytest.fixture
def clickhouse_server(tmp_path: Path) -> Iterator[RunningServer]:
    """An owner process of the test's own, for faults; nothing is migrated: `stores.migrated`."""
    server = RunningServer(CLICKHOUSE, tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def postgres_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The Postgres that every `postgres` database lives in; `/tollway` is the migrated template."""
    server = migrated_postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture
def postgres(postgres_process: RunningServer) -> Iterator[PostgresDatabase]:
    """A migrated database of the test's own: `.url`."""
    yield from _database(postgres_process)


@pytest.fixture(scope="module")
def module_postgres(postgres_process: RunningServer) -> Iterator[PostgresDatabase]:
    """A migrated database for the tests of one file."""
    yield from _database(postgres_process)


def _database(server: RunningServer) -> Iterator[PostgresDatabase]:
    database = f"t_{secrets.token_hex(6)}"
    run_apart(_execute(server.url, f"CREATE DATABASE {database} TEMPLATE tollway"))
    parts = urlsplit(server.url)
    yield PostgresDatabase(urlunsplit(parts._replace(path=f"/{database}")), database)
    run_apart(_execute(server.url, f"DROP DATABASE {database} WITH (FORCE)"))


async def _execute(url: str, statement: str) -> None:
    parts = urlsplit(url)
    connection = await asyncpg.connect(urlunsplit(parts._replace(path="/postgres")), timeout=60)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
