"""`python -m reporting` as a process: it listens, answers, drains, refuses what is unsafe."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from clickhouse_connect.driver.client import Client
from support import loopback
from support.entries import insert_entries, make_entry
from support.reporting import opened_app
from support.servers import RunningServer
from support.stores import ClickHouseDatabase

from reporting.settings import ReportingSettings
from runtime.settings import Duration

ROOT = Path(__file__).parents[2]
START = 1_700_000_000
START_TIMEOUT_S = 60


def environment(**settings: str) -> dict[str, str]:
    """Ours, without any setting of reporting but those given."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("libs", "services", "."))
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {"PYTHONPATH": paths, "REPORTING_PORT": "0"} | settings


async def started(*arguments: str, **settings: str) -> asyncio.subprocess.Process:
    """The process, its log to be read from `stderr`."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "reporting",
        *arguments,
        env=environment(**settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def listening(**settings: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The process once it listens, and its address; it is killed if the test leaves it."""
    process = await started(**settings)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            line = (await process.stderr.readline()).decode()
        found = re.search(r"reporting\.listening .*port=(\d+)", line)
        assert found, line + (await process.stderr.read()).decode()
        yield process, f"http://127.0.0.1:{found[1]}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_process_answers_and_stops_when_told(
    clickhouse: ClickHouseDatabase, ledger_client: Client
) -> None:
    """One question end to end over a real socket; SIGTERM ends it with 0."""
    insert_entries(ledger_client, [make_entry(occurred_at_ms=START * 1000)])

    async with (
        listening(
            CLICKHOUSE_URL=clickhouse.url,
            CLICKHOUSE_DATABASE=clickhouse.database,
            ADMIN_PASS="secret",
        ) as (process, url),
        loopback.AsyncClient(base_url=url) as client,
    ):
        refused = await client.post("/api/reporting/events", json={})
        answer = await client.post(
            "/api/reporting/events",
            json={"start": START, "end": START + 1, "increment": 1},
            headers={"X-API-KEY": "secret"},
        )
        ready = await client.get("/api/ready")
        process.send_signal(signal.SIGTERM)
        status = await asyncio.wait_for(process.wait(), 60)

    assert refused.status_code == 401
    assert answer.json()["dataPoints"][0]["numberOfRequests"] == 1
    assert (ready.status_code, status) == (200, 0)


async def test_process_starts_without_its_stores_and_says_503() -> None:
    """A ledger that comes up later needs no restart of reporting."""
    async with (
        listening(CLICKHOUSE_URL="http://127.0.0.1:1") as (_, url),
        loopback.AsyncClient(base_url=url) as client,
    ):
        health = await client.get("/api/health")
        ready = await client.get("/api/ready")

    assert (health.status_code, ready.status_code) == (200, 503)


class HeldRelay:
    """TCP between a client and a server, that holds what the client sends until it is let go."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.lets_through = asyncio.Event()
        self.lets_through.set()
        self.is_holding = asyncio.Event()
        self.url = ""
        self._relaying: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listens on a free port; its connections end with it."""
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield
        server.close()
        for relaying in self._relaying:
            relaying.cancel()
        await asyncio.gather(*self._relaying, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._relaying.append(asyncio.create_task(self._relay(reader, writer)))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection(*self._target)

        async def back() -> None:
            while piece := await target_reader.read(65_536):
                writer.write(piece)
                await writer.drain()

        async def forth() -> None:
            while piece := await reader.read(65_536):
                if not self.lets_through.is_set():
                    self.is_holding.set()
                    await self.lets_through.wait()
                target_writer.write(piece)
                await target_writer.drain()

        try:
            await asyncio.gather(back(), forth())
        finally:
            for closing in (writer, target_writer):
                closing.close()
                with contextlib.suppress(OSError):
                    await closing.wait_closed()


async def test_question_under_way_is_answered_before_the_process_ends(
    clickhouse: ClickHouseDatabase,
) -> None:
    """SIGTERM drains: new connections are refused, the answer is whole, the process is gone."""
    address = urlsplit(clickhouse.url)
    relay = HeldRelay(address.hostname or "", address.port or 0)
    async with (
        relay.listening(),
        listening(
            CLICKHOUSE_URL=relay.url, CLICKHOUSE_DATABASE=clickhouse.database, DRAIN_S="60"
        ) as (
            process,
            url,
        ),
        loopback.AsyncClient(base_url=url) as client,
    ):
        assert (await client.get("/api/ready")).status_code == 200
        relay.lets_through.clear()
        question = {"start": START, "end": START + 40_000, "increment": 1}
        asking = asyncio.create_task(client.post("/api/reporting/events", json=question))
        await asyncio.wait_for(relay.is_holding.wait(), 60)
        process.send_signal(signal.SIGTERM)
        await refuses_connections(url)
        # A process that does not drain is gone by then.
        await asyncio.sleep(0.5)
        relay.lets_through.set()
        answer = await asking
        status = await asyncio.wait_for(process.wait(), 60)

    assert (answer.status_code, status) == (200, 0), answer.text
    assert len(answer.json()["dataPoints"]) == 40_001


async def refuses_connections(url: str) -> None:
    """Waits until nobody listens there."""
    address = urlsplit(url)
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection(address.hostname, address.port)
            except OSError:
                return
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            await asyncio.sleep(0.02)


async def test_ledger_that_dies_and_returns_needs_no_restart_of_ours(
    clickhouse_server: RunningServer,
) -> None:
    """503 while it is away, 200 when it is back, over the same app."""
    settings = ReportingSettings(
        clickhouse_url=clickhouse_server.url, clickhouse_database="default"
    )
    async with opened_app(settings) as client:
        before = await client.get("/api/ready")
        clickhouse_server.kill()
        away = await client.get("/api/ready")
        clickhouse_server.start()
        after = await client.get("/api/ready")

    assert [answer.status_code for answer in (before, away, after)] == [200, 503, 200]


async def test_question_beyond_the_queue_is_503_and_the_one_before_it_is_answered(
    clickhouse: ClickHouseDatabase,
) -> None:
    """A turn is waited for, but not for ever."""
    address = urlsplit(clickhouse.url)
    relay = HeldRelay(address.hostname or "", address.port or 0)
    async with relay.listening():
        settings = ReportingSettings(
            clickhouse_url=relay.url,
            clickhouse_database=clickhouse.database,
            report_queries_max=1,
            report_queue_timeout=Duration(0.05),
        )
        async with opened_app(settings) as client:
            await client.get("/api/ready")
            relay.lets_through.clear()
            first = asyncio.create_task(client.get("/api/ready"))
            await asyncio.wait_for(relay.is_holding.wait(), 60)
            second = await client.get("/api/ready")
            relay.lets_through.set()
            answered = await first

    assert (second.status_code, answered.status_code) == (503, 200)
    assert "1 queries are under way" in second.json()["detail"]


async def test_open_door_is_refused_in_words() -> None:
    """Beyond loopback there is no serving without a pass."""
    process = await started(REPORTING_HOST="0.0.0.0")
    _, stderr = await process.communicate()

    assert process.returncode == 2
    assert b"ADMIN_PASS" in stderr


async def test_port_in_use_is_said() -> None:
    """Not a stack trace."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await started(REPORTING_PORT=str(taken.getsockname()[1]))
        _, stderr = await process.communicate()

    assert process.returncode == 1
    assert b"reporting.not_started" in stderr
    assert b"Traceback" not in stderr


async def test_check_config_prints_settings_and_no_secret() -> None:
    """The whole settings, secrets masked, and no serving."""
    process = await started("--check-config", ADMIN_PASS="hidden", REPORT_BUCKETS_MAX="77")
    stdout, _ = await process.communicate()

    assert process.returncode == 0
    assert b"REPORT_BUCKETS_MAX=77" in stdout
    assert b"ADMIN_PASS=***" in stdout
    assert b"hidden" not in stdout
