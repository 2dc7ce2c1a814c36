"""What `tollway doctor` asks the servers: do they answer, which version, whose clock."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Final

import msgspec

from infra.cli.checks import Check
from runtime.urls import split_urls, without_password

SERVER_TIMEOUT_S: Final = 15.0
CLOCK_OFF_S_MAX: Final = 1.0
NATS_VERSION_MIN: Final = (2, 15)
_CLIENTS: Final = {
    "POSTGRES_URL": "asyncpg",
    "REDIS_URL": "redis.asyncio",
    "CLICKHOUSE_URL": "httpx",
}


class _Found(msgspec.Struct, frozen=True):
    """`clock` is the server's own time in Unix seconds, None when it tells none."""

    version: str
    clock: float | None = None
    wrong: str = ""


async def servers(environ: dict[str, str]) -> list[Check]:
    """Those that the environment names."""
    asks: dict[str, Callable[[str], Awaitable[_Found]]] = {
        "NATS_URL": _nats,
        "POSTGRES_URL": _postgres,
        "REDIS_URL": _redis,
        "CLICKHOUSE_URL": _clickhouse(environ),
    }
    named = [(name, ask) for name, ask in asks.items() if environ.get(name)]
    # Before anybody's time runs: an import holds up all of them.
    for name, _ in named:
        if name in _CLIENTS:
            import_module(_CLIENTS[name])
    return await asyncio.gather(*(_check(name, environ[name], ask) for name, ask in named))


async def _check(name: str, url: str, ask: Callable[[str], Awaitable[_Found]]) -> Check:
    server = name.removesuffix("_URL").lower()
    where = ""
    try:
        where = without_password(url)
        asked_at = time.time()
        async with asyncio.timeout(SERVER_TIMEOUT_S):
            found = await ask(url)
        answered_at = time.time()
    except Exception as error:  # noqa: BLE001 - every client library has errors of its own
        detail = f"{where}: {type(error).__name__}: {error}".strip(": ")
        mend = f"is it running, and is {name} right? An embedded one: `tollway logs {server}`"
        return Check(name=server, verdict="bad", detail=detail, mend=mend)
    detail = f"{where}, version {found.version}"
    if found.wrong:
        return Check(name=server, verdict="bad", detail=detail, mend=found.wrong)
    if found.clock is not None:
        off = clock_off(found.clock, asked_at, answered_at)
        detail += f", clock {off:+.2f} s"
        if abs(off) > CLOCK_OFF_S_MAX:
            mend = "set both clocks by NTP: booking deadlines and reports go by them"
            return Check(name=server, verdict="bad", detail=detail, mend=mend)
    return Check(name=server, verdict="ok", detail=detail)


def clock_off(clock: float, asked_at: float, answered_at: float) -> float:
    """How far a server's clock is off at least: it was read at some moment between the two."""
    return min(clock - asked_at, 0.0) + max(clock - answered_at, 0.0)


async def _nats(url: str) -> _Found:
    [parts, *_] = split_urls(url.split(",", 1)[0])
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 4222)
    try:
        line = await reader.readline()
    finally:
        writer.close()
    if not line.startswith(b"INFO "):
        raise ValueError("that is no NATS server")
    info: dict[str, Any] = msgspec.json.decode(line[5:])
    version = str(info["version"])
    wrong = ""
    if not info.get("jetstream"):
        wrong = "start it with JetStream (-js)"
    elif tuple(int(part) for part in version.split(".")[:2]) < NATS_VERSION_MIN:
        wrong = "2.15 or newer is needed"
    return _Found(version, None, wrong)


async def _postgres(url: str) -> _Found:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(
            "select current_setting('server_version') as version, clock_timestamp() as clock"
        )
    finally:
        await connection.close()
    assert row is not None
    return _Found(row["version"], row["clock"].timestamp())


async def _redis(url: str) -> _Found:
    from redis.asyncio import Redis

    client = Redis.from_url(url)
    try:
        info: dict[str, Any] = await client.info("server")
        seconds, microseconds = await client.time()
    finally:
        await client.aclose()
    version = info.get("valkey_version") or info["redis_version"]
    return _Found(str(version), seconds + microseconds / 1e6)


def _clickhouse(environ: dict[str, str]) -> Callable[[str], Awaitable[_Found]]:
    async def ask(url: str) -> _Found:
        import httpx

        headers = {"x-clickhouse-user": environ.get("CLICKHOUSE_USER", "default")}
        if environ.get("CLICKHOUSE_PASSWORD"):
            headers["x-clickhouse-key"] = environ["CLICKHOUSE_PASSWORD"]
        query = "SELECT version(), toString(now64(3, 'UTC'))"
        async with httpx.AsyncClient(timeout=SERVER_TIMEOUT_S, trust_env=False) as client:
            response = await client.post(
                url, params={"default_format": "TabSeparated"}, content=query, headers=headers
            )
        if response.status_code != 200:
            raise ValueError(f"status {response.status_code}: {response.text[:200].strip()}")
        version, clock = response.text.strip().split("\t")
        return _Found(version, datetime.fromisoformat(clock).replace(tzinfo=UTC).timestamp())

    return ask
