"""What the data workers of a gateway have in force, as they say it themselves."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import msgspec
import psutil

from gateway.adapters.postgres import open_pool
from gateway.adapters.postgres_config import PostgresConfiguration
from gateway.adapters.postgres_store import PostgresStore
from gateway.configuration.fingerprint import as_text
from gateway.settings import GatewaySettings
from runtime.settings import Secret
from support import loopback
from support.programs import Gateway
from support.servers import run_apart

_KEPT = httpx.Limits(keepalive_expiry=60)
"""A connection leads to one worker; a new one may lead to another."""


class WorkerFacts(msgspec.Struct, frozen=True):
    """The part of a worker's state file that says what is in force."""

    pid: int
    is_ready: bool
    configuration_revision: int
    configuration_fingerprint: str
    configuration_unusable: int
    keys: int


def worker_facts(gateway: Gateway) -> list[WorkerFacts]:
    """Of every data worker that has said something, by its number."""
    paths = sorted((gateway.data_dir / "run").glob("gateway-worker-*.state.json"))
    return [msgspec.json.decode(path.read_bytes(), type=WorkerFacts) for path in paths]


def stored_configuration(url: str) -> tuple[int, str]:
    """Newest revision and fingerprint, as the database works them out."""

    async def ask() -> tuple[int, int]:
        settings = GatewaySettings(postgres_url=Secret(url))
        async with open_pool(settings) as pool:
            return await PostgresConfiguration(pool, settings).fingerprint()

    revision, fingerprint = run_apart(ask())
    return revision, as_text(fingerprint)


def until_in_force(gateway: Gateway, url: str, workers: int = 1, seconds: float = 60) -> None:
    """Waits until every worker has what is stored now. Raises AssertionError."""
    stored = stored_configuration(url)
    deadline = time.monotonic() + seconds
    while True:
        facts = worker_facts(gateway)
        held = [(one.configuration_revision, one.configuration_fingerprint) for one in facts]
        if held == [stored] * workers:
            return
        assert time.monotonic() < deadline, f"stored {stored}, in force {held}"
        time.sleep(0.01)


def store(url: str, *values: tuple[str, msgspec.Struct]) -> None:
    """Writes ids and values as the admin API would, but for its rules: their age is the test's."""

    async def put() -> None:
        async with (
            open_pool(GatewaySettings(postgres_url=Secret(url))) as pool,
            PostgresStore(pool).change("test") as change,
        ):
            for item_id, value in values:
                await change.put(item_id, value)

    run_apart(put())


@contextmanager
def clients_of_every_worker(gateway: Gateway, workers: int) -> Iterator[list[httpx.Client]]:
    """Clients of 8002 with a connection each, of which every worker holds some."""
    clients: list[httpx.Client] = []
    try:
        held: list[int] = []
        deadline = time.monotonic() + 60
        while not (len(held) == workers and all(held)):
            assert time.monotonic() < deadline, f"connections by worker: {held}"
            if len(clients) == 100:
                # One worker takes them all as long as the other does not run.
                clients.pop(0).close()
                time.sleep(0.05)
            client = loopback.Client(base_url=gateway.proxy_url, limits=_KEPT)
            clients.append(client)
            client.get("/health")
            held = [
                sum(
                    one.status == psutil.CONN_ESTABLISHED and one.laddr.port == gateway.proxy_port
                    for one in psutil.Process(worker.pid).net_connections("tcp")
                )
                for worker in worker_facts(gateway)
            ]
        yield clients
    finally:
        for client in clients:
            client.close()
