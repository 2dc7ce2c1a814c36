"""Fixtures of a running gateway over real Postgres and NATS, with the demo provider behind it."""

from collections.abc import Iterator

import pytest

from support.programs import Gateway, demo_upstream
from support.servers import run_apart
from support.stores import NatsServer, PostgresDatabase


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS server for the tests of one file, with its streams."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    run_apart(server.migrate())
    yield server
    server.kill()


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo provider's base URL."""
    program, url = demo_upstream(tmp_path_factory.mktemp("provider"))
    yield url
    program.kill()


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, bus: NatsServer, module_postgres: PostgresDatabase
) -> Iterator[Gateway]:
    """A gateway with one data worker, for the tests of one file."""
    program = Gateway(
        tmp_path_factory.mktemp("gateway"),
        {
            "NATS_URL": bus.url,
            "POSTGRES_URL": module_postgres.url,
            "EVENT_BODY_BYTES_MAX": "4096",
        },
    )
    program.start_ready()
    yield program
    program.kill()
