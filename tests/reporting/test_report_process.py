"""`python -m reporting` as a process: it listens, answers, drains, refuses what is unsafe."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from clickhouse_connect.driver.client import Client
from support.entries import insert_entries, make_entry
from support.stores import ClickHouseDatabase

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
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        refused = await client.post("/api/reporting/events", json={})
        answer = await client.post(
            "/api/reporting/events",
            json={"start": START, "end": START + 1, "increment": 1},
            headers={"X-API-KEY": "secret"},
        )
        ready = await client.get("/api/ready")
        process.send_signal(signal.SIGTERM)
        status = await asyncio.wait_for(process.wait(), 30)

    assert refused.status_code == 401
    assert answer.json()["dataPoints"][0]["numberOfRequests"] == 1
    assert (ready.status_code, status) == (200, 0)


async def test_process_starts_without_its_stores_and_says_503() -> None:
    """A ledger that comes up later needs no restart of reporting."""
    async with (
        listening(CLICKHOUSE_URL="http://127.0.0.1:1") as (_, url),
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        health = await client.get("/api/health")
        ready = await client.get("/api/ready")

    assert (health.status_code, ready.status_code) == (200, 503)


async def test_question_under_way_is_answered_before_the_process_ends(
    clickhouse: ClickHouseDatabase,
) -> None:
    """SIGTERM drains: the answer is whole, then the process is gone."""
    async with (
        listening(CLICKHOUSE_URL=clickhouse.url, CLICKHOUSE_DATABASE=clickhouse.database) as (
            process,
            url,
        ),
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        await client.get("/api/ready")
        question = {"start": START, "end": START + 40_000, "increment": 1}
        asking = asyncio.create_task(client.post("/api/reporting/events", json=question))
        await asyncio.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        answer = await asking
        status = await asyncio.wait_for(process.wait(), 30)

    assert (answer.status_code, status) == (200, 0)
    assert len(answer.json()["dataPoints"]) == 40_001


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
