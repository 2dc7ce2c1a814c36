"""What many keys cost: start, memory, writes, and how soon a revocation is in force everywhere.

    PYTHONPATH=tests python -m bench.configuration [--keys 100000] [--workers 2]

Keys of all sorts (tags, paths, models, ttl) are copied into a Postgres of its own; then a gateway
with that many data workers is started over it, once with none of them and once with all, and
written to through its admin API. What a change does to a worker's event loop is measured in this
process, with the classes that a worker uses.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import asyncpg
import httpx
import msgspec
import psutil
import uvloop
from support import loopback
from support.programs import Gateway
from support.servers import RunningServer
from support.stores import NatsServer

from contracts.config.keys import AllowedPath, ApiKey
from gateway.adapters.postgres import open_pool
from gateway.adapters.postgres_config import PostgresConfiguration
from gateway.configuration.watcher import Configuration
from gateway.settings import GatewaySettings
from infra.embedded.postgres import POSTGRES
from infra.migrations.postgres import migrate_postgres
from infra.migrations.settings import MigrationSettings
from runtime.settings import Secret

BORN = 1_767_225_600
CONNECTIONS = 16


def stored(number: int, setting_id: str) -> ApiKey:
    """One of many keys: a quarter has paths, a quarter has models, every other has tags."""
    return ApiKey(
        key_id=f"019ab0c4-5d2e-7c1a-9f00-{number:012x}",
        key_hash=sha256(f"sk-bench-{number}".encode()).hexdigest(),
        name=f"key {number}",
        created_at=BORN + number,
        updated_at=BORN + number,
        setting_ids=(setting_id,),
        tags=(f"team-{number % 500}", f"member-{number}") if number % 2 else (),
        allowed_paths=(
            AllowedPath("/v1/chat/completions", "POST"),
            AllowedPath("/v1/embeddings", "POST"),
        )
        if number % 4 == 0
        else None,
        allowed_models=("gpt-4o", f"gpt-{number % 100}") if number % 4 == 1 else None,
        ttl="87600h" if number % 8 == 0 else "",
    )


async def copy_keys(url: str, count: int, setting_id: str) -> None:
    """Into the table at once; through the API they would take an hour."""
    connection = await asyncpg.connect(url)
    try:
        first = await connection.fetchval("SELECT nextval('configuration_revision')")
        rows = []
        for number in range(count):
            key = stored(number, setting_id)
            document = msgspec.json.encode(key).decode()
            rows.append(
                ("key", key.key_id, document, key.created_at, key.updated_at, first + number)
            )
        await connection.copy_records_to_table(
            "configuration_items",
            records=rows,
            columns=["kind", "id", "document", "created_at", "updated_at", "revision"],
        )
        await connection.execute("SELECT setval('configuration_revision', $1)", first + count)
        await connection.execute("ANALYZE configuration_items")
        await connection.execute("SELECT pg_notify('tollway_configuration', '')")
    finally:
        await connection.close()


class WorkerFacts(msgspec.Struct):
    """The part of a worker's state file that is wanted here."""

    pid: int
    is_ready: bool
    configuration_revision: int
    configuration_fingerprint: str
    keys: int


def workers(gateway: Gateway, count: int) -> list[WorkerFacts]:
    """Of the workers that are ready; [] until all are."""
    paths = sorted((gateway.data_dir / "run").glob("gateway-worker-*.state.json"))
    facts = [msgspec.json.decode(path.read_bytes(), type=WorkerFacts) for path in paths]
    return facts if len(facts) == count and all(one.is_ready for one in facts) else []


def started(gateway: Gateway, count: int) -> tuple[float, list[WorkerFacts]]:
    """Seconds until every data worker serves with its first snapshot, and what they say."""
    began = time.perf_counter()
    gateway.start()
    gateway.wait_until(lambda: bool(workers(gateway, count)), 120)
    took_s = time.perf_counter() - began
    gateway.wait_until(
        lambda: loopback.get(f"{gateway.admin_url}/api/health").status_code == 200, 60
    )
    return took_s, workers(gateway, count)


def memory_mib(facts: list[WorkerFacts]) -> list[int]:
    """Resident memory of each worker."""
    return [psutil.Process(one.pid).memory_info().rss // 2**20 for one in facts]


def told(name: str, seconds: list[float]) -> None:
    """Prints median, 99th percentile and the worst, in milliseconds."""
    ms = sorted(1000 * one for one in seconds)
    p99 = ms[min(len(ms) - 1, int(len(ms) * 0.99))]
    print(
        f"{name}: median {statistics.median(ms):.1f} ms, p99 {p99:.1f} ms, worst {ms[-1]:.1f} ms"
        f" (n={len(ms)})"
    )


def write(gateway: Gateway, setting_id: str, count: int) -> None:
    """Creates and changes keys through the admin API, one after the other."""
    creating, patching = [], []
    with loopback.Client(base_url=gateway.admin_url, timeout=60) as api:
        for number in range(count):
            began = time.perf_counter()
            answer = api.put(
                "/api/key-management/keys",
                json={
                    "name": f"new {number}",
                    "key": f"sk-new-{number}",
                    "settingIds": [setting_id],
                    "tags": ["new", f"member-{number}"],
                },
            )
            creating.append(time.perf_counter() - began)
            key_id = answer.raise_for_status().json()["keyId"]
            began = time.perf_counter()
            answer = api.patch(f"/api/key-management/keys/{key_id}", json={"name": "changed"})
            patching.append(time.perf_counter() - began)
            answer.raise_for_status()
    told("create a key", creating)
    told("patch a key", patching)


@contextmanager
def connections(gateway: Gateway, facts: list[WorkerFacts]) -> Iterator[list[httpx.Client]]:
    """Clients with a connection each, such that every worker has some."""
    clients = [loopback.Client(base_url=gateway.proxy_url, timeout=60) for _ in range(CONNECTIONS)]
    try:
        deadline = time.monotonic() + 60
        while True:
            for client in clients:
                client.get("/health")
            held = [
                sum(
                    one.status == psutil.CONN_ESTABLISHED and one.laddr.port == gateway.proxy_port
                    for one in psutil.Process(worker.pid).net_connections("tcp")
                )
                for worker in facts
            ]
            if all(held):
                print(f"connections a worker: {held}")
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"no connection to every worker: {held}")
            # One that takes none may be held up for a moment.
            time.sleep(0.2)
            clients.append(loopback.Client(base_url=gateway.proxy_url, timeout=60))
        yield clients
    finally:
        for client in clients:
            client.close()


def revoke(gateway: Gateway, setting_id: str, facts: list[WorkerFacts], count: int) -> None:
    """From the answer to a revocation until no connection to any worker takes the key."""
    taking = []
    with (
        loopback.Client(base_url=gateway.admin_url, timeout=60) as api,
        connections(gateway, facts) as clients,
    ):
        for number in range(count):
            key = f"sk-revoked-{number}"
            bearer = {"authorization": f"Bearer {key}"}

            def is_refused(client: httpx.Client, bearer: dict[str, str] = bearer) -> bool:
                answer = client.post("/v1/chat/completions", content=b"{}", headers=bearer)
                return answer.status_code == 401

            answer = api.put(
                "/api/key-management/keys",
                json={"name": key, "key": key, "settingIds": [setting_id]},
            )
            key_id = answer.raise_for_status().json()["keyId"]
            while any(is_refused(client) for client in clients):
                time.sleep(0.01)
            url = f"/api/key-management/keys/{key_id}"
            api.patch(url, json={"revoked": True}).raise_for_status()
            began = time.perf_counter()
            left = list(clients)
            while left:
                left = [client for client in left if not is_refused(client)]
            taking.append(time.perf_counter() - began)
    told("a revocation in force in every worker, after its answer", taking)


async def stall_of(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Seconds that the work took, and the longest that the loop did nothing else meanwhile."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest = max(longest, now - last)
            last = now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.05)
    longest = 0.0
    began = time.perf_counter()
    await work()
    took_s = time.perf_counter() - began
    await asyncio.sleep(0)
    ticking.cancel()
    return took_s, longest


async def follow(url: str, setting_id: str) -> None:
    """What loading, one change, a thousand and a reload do to the loop of a worker."""

    async def no_target(*_: object) -> NoReturn:
        raise ValueError("nothing is called here")

    settings = GatewaySettings(postgres_url=Secret(url))
    async with open_pool(settings) as pool:
        configuration = Configuration(PostgresConfiguration(pool, settings), no_target, 60)
        took_s, longest_s = await stall_of(configuration.refresh)
        print(f"first snapshot: {took_s:.2f} s, loop held at most {1000 * longest_s:.1f} ms")

        async def touch(keys: int) -> None:
            await pool.execute(
                "UPDATE configuration_items SET revision = nextval('configuration_revision')"
                " WHERE kind = 'key' AND id = ANY($1::text[])",
                [stored(number, setting_id).key_id for number in range(keys)],
            )

        taking, holding = [], []
        for _ in range(50):
            await touch(1)
            took_s, longest_s = await stall_of(configuration.refresh)
            taking.append(took_s)
            holding.append(longest_s)
        told("one change read and applied", taking)
        told("one change holds the loop", holding)
        await touch(1000)
        took_s, longest_s = await stall_of(configuration.refresh)
        print(f"1,000 changes: {took_s:.2f} s, loop held at most {1000 * longest_s:.1f} ms")
        configuration.snapshot = msgspec.structs.replace(configuration.snapshot, revision=2**62)
        took_s, longest_s = await stall_of(configuration.refresh)
        print(f"everything anew: {took_s:.2f} s, loop held at most {1000 * longest_s:.1f} ms")
        revision, fingerprint = await PostgresConfiguration(pool, settings).fingerprint()
        assert (revision, fingerprint) == (
            configuration.snapshot.revision,
            configuration.snapshot.fingerprint,
        )


def measure(directory: Path, keys: int, count: int, writes: int) -> None:
    """Everything, printed as it comes."""
    postgres = RunningServer(POSTGRES, directory)
    nats = NatsServer(directory)
    gateway: Gateway | None = None
    try:
        postgres.start()
        nats.start()
        asyncio.run(migrate_postgres(MigrationSettings(postgres_url=Secret(postgres.url))))
        asyncio.run(nats.migrate())
        gateway = Gateway(
            directory,
            {
                "POSTGRES_URL": postgres.url,
                "NATS_URL": nats.url,
                "GATEWAY_WORKERS": str(count),
            },
        )
        took_s, facts = started(gateway, count)
        print(f"start without keys: {took_s:.2f} s, {memory_mib(facts)} MiB a worker")
        setting_id = gateway.setting("https://api.openai.com")
        gateway.stop()
        asyncio.run(copy_keys(postgres.url, keys, setting_id))
        took_s, facts = started(gateway, count)
        print(f"start with {keys} keys: {took_s:.2f} s, {memory_mib(facts)} MiB a worker")
        assert [one.keys for one in facts] == [keys] * count
        write(gateway, setting_id, writes)
        revoke(gateway, setting_id, facts, max(5, writes // 10))
        print(f"memory afterwards: {memory_mib(facts)} MiB a worker")
        gateway.stop()
        gateway = None
        uvloop.run(follow(postgres.url, setting_id))
    finally:
        if gateway is not None:
            gateway.kill()
        nats.kill()
        postgres.stop()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="What many keys cost.")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--writes", type=int, default=200)
    arguments = parser.parse_args()
    print(f"{arguments.keys} keys, {arguments.workers} workers, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="tollway-bench-") as directory:
        measure(Path(directory), arguments.keys, arguments.workers, arguments.writes)


if __name__ == "__main__":
    main()
