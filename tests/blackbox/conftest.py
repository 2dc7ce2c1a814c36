"""A running gateway, and what the checklist's tests ask it for."""

from collections.abc import Iterator

import httpx
import pytest
from support import loopback
from support.programs import Gateway
from support.running_gateway import bus, gateway, provider
from support.stores import NatsServer, PostgresDatabase

__all__ = ["bus", "gateway", "provider"]

ADMIN_PASS = "not-the-default"


@pytest.fixture(scope="module")
def api(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client of the admin API."""
    with loopback.Client(base_url=gateway.admin_url) as client:
        yield client


@pytest.fixture(scope="module")
def data(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client of the data plane."""
    with loopback.Client(base_url=gateway.proxy_url) as client:
        yield client


@pytest.fixture(scope="module")
def locked_url(
    tmp_path_factory: pytest.TempPathFactory, bus: NatsServer, module_postgres: PostgresDatabase
) -> Iterator[str]:
    """The admin API of a gateway with ADMIN_PASS set."""
    program = Gateway(
        tmp_path_factory.mktemp("locked"),
        {"NATS_URL": bus.url, "POSTGRES_URL": module_postgres.url, "ADMIN_PASS": ADMIN_PASS},
    )
    program.start_ready()
    yield program.admin_url
    program.kill()
