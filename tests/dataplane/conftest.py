"""A running gateway that may forward everything, and a provider that remembers what it was sent."""

from collections.abc import Iterator

import pytest
from support.echo_provider import EchoProvider, echo_provider
from support.programs import Gateway
from support.running_gateway import bus, provider
from support.stores import NatsServer, PostgresDatabase

__all__ = ["bus", "provider"]


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, bus: NatsServer, module_postgres: PostgresDatabase
) -> Iterator[Gateway]:
    """A gateway with one data worker, for the tests of one file."""
    program = Gateway(
        tmp_path_factory.mktemp("gateway"),
        {"NATS_URL": bus.url, "POSTGRES_URL": module_postgres.url},
    )
    program.start_ready()
    yield program
    program.kill()


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoProvider]:
    """A provider that remembers what it was sent."""
    with echo_provider() as provider:
        yield provider
