"""Tollway on an operator's own servers: one part a command, told by the environment."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import psutil
import pytest
from support import loopback
from support.programs import SECRETS_KEY, demo_upstream
from support.servers import RunningServer, dies_with_parent, free_port, run_apart
from support.stores import NatsServer

from e2e.conftest import TOLLWAY
from e2e.waiting import eventually

PARTITIONS = ("0", "1")


class Parts:
    """The parts of an installation, each started by its command."""

    def __init__(self, data_dir: Path, servers: dict[str, str]) -> None:
        self.data_dir = data_dir
        proxy, admin, reporting = (free_port() for _ in range(3))
        self.proxy_url, self.admin_url, self.reporting_url = (
            f"http://127.0.0.1:{port}" for port in (proxy, admin, reporting)
        )
        self._environ = {
            **os.environ,
            **servers,
            "DATA_DIR": str(data_dir),
            "PROXY_PORT": str(proxy),
            "ADMIN_PORT": str(admin),
            "REPORTING_PORT": str(reporting),
            "REPORTING_URL": self.reporting_url,
            "GATEWAY_WORKERS": "1",
            "NUMBER_OF_EVENT_MESSAGE_CONSUMERS": "1",
            "METERING_PARTITIONS": str(len(PARTITIONS)),
            # A new owner of a partition lets the last one's inserts end first: not for long here.
            "BOOKING_DEADLINE_S": "1",
            "BOOKING_EXECUTION_MAX": "1",
            "MEMBER_INTERVAL": "200ms",
            "ALLOW_PRIVATE_UPSTREAMS": "true",
            "SECRETS_KEY": SECRETS_KEY,
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, *words: str) -> str:
        """What a command prints; it must succeed."""
        done = self._command(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def open_by_audit(self) -> int | None:
        """How many requests an audit finds open; None while it finds differences."""
        done = self._command("audit", "--json")
        return int(json.loads(done.stdout)["open"]) if done.returncode == 0 else None

    def _command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [TOLLWAY, *words, "--data-dir", str(self.data_dir)],
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    def start(self, name: str) -> None:
        """Starts a part; does not wait."""
        self._processes[name] = subprocess.Popen(
            [TOLLWAY, name, "--data-dir", str(self.data_dir)],
            env=self._environ,
            preexec_fn=dies_with_parent(signal.SIGTERM),  # noqa: PLW1509 - only prctl
        )

    def stop(self, name: str) -> None:
        """SIGTERM, and its end."""
        process = self._processes.pop(name)
        process.terminate()
        assert process.wait(100) == 0

    def kill(self, name: str) -> None:
        """`kill -9` of the part and all its workers at once."""
        process = self._processes.pop(name)
        family = psutil.Process(process.pid).children(recursive=True)
        for member in [process, *family]:
            member.kill()
        process.wait(60)

    def are_ready(self) -> bool:
        """Whether the admin API and reports can be asked, and the data plane takes requests."""
        paths = ((self.admin_url, "/api/ready"), (self.reporting_url, "/api/ready"))
        try:
            answers = [
                loopback.get(url + path) for url, path in (*paths, (self.proxy_url, "/health"))
            ]
        except httpx.TransportError:
            return False
        return all(answer.status_code == 200 for answer in answers)

    def ask(self, custom_id: str, **headers: str) -> int:
        """The status of a chat completion."""
        return loopback.post(
            f"{self.proxy_url}/v1/chat/completions",
            json={"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]},
            headers={"x-api-key": "sk-own", "x-custom-event-id": custom_id, **headers},
            timeout=150,
        ).status_code

    def ratings(self) -> dict[str, str]:
        """How each request in the ledger is rated, by custom id; none is there twice.

        Nothing is seen while reporting cannot ask the ledger.
        """
        question = {"start": int(time.time()) - 3600, "end": int(time.time()) + 3600}
        names = {"customIds": ["whole", "lost"]}
        answer = loopback.post(f"{self.reporting_url}/api/v2/events", json={**question, **names})
        if answer.status_code == 503:
            return {}
        ratings = [(row["custom_id"], row["rating_status"]) for row in answer.json()["events"]]
        assert len(ratings) == len(dict(ratings))
        return dict(ratings)

    def end(self) -> None:
        """Of whatever still runs."""
        for name in list(self._processes):
            self.kill(name)


@pytest.fixture
def parts(
    tmp_path: Path,
    nats_server: NatsServer,
    postgres_process: RunningServer,
    clickhouse_process: RunningServer,
) -> Iterator[Parts]:
    """On servers that hold nothing yet."""
    database = f"own_{secrets.token_hex(6)}"
    run_apart(_make_database(postgres_process.url, database))
    installation = Parts(
        tmp_path / "data",
        {
            "NATS_URL": nats_server.url,
            "POSTGRES_URL": _with_database(postgres_process.url, database),
            "CLICKHOUSE_URL": clickhouse_process.url,
            "CLICKHOUSE_DATABASE": database,
        },
    )
    yield installation
    installation.end()


def _with_database(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


async def _make_database(url: str, database: str) -> None:
    connection = await asyncpg.connect(_with_database(url, "postgres"), timeout=60)
    await connection.execute(f"CREATE DATABASE {database}")
    await connection.close()


def test_parts_started_one_by_one_serve_book_and_are_repaired(
    parts: Parts, tmp_path: Path, request: pytest.FixtureRequest
):
    """Migrated once, a request is booked; what went down with a gateway is declared lost."""
    upstream, upstream_url = demo_upstream(tmp_path)
    request.addfinalizer(upstream.kill)
    parts.run("migrate")
    for name in ("gateway", "metering", "reporting"):
        parts.start(name)
    eventually(parts.are_ready)
    setting = loopback.put(
        f"{parts.admin_url}/api/provider-settings",
        json={"provider": "openai", "setting": {"apikey": "k", "url": upstream_url}},
    ).json()
    key = {"name": "own", "key": "sk-own", "settingIds": [setting["id"]]}
    loopback.put(f"{parts.admin_url}/api/key-management/keys", json=key)

    eventually(lambda: parts.ask("whole") == 200)
    eventually(lambda: parts.ratings() == {"whole": "rated"})
    with ThreadPoolExecutor() as threads:
        lost = threads.submit(parts.ask, "lost", **{"x-demo-latency-ms": "600000"})
        try:
            eventually(lambda: parts.open_by_audit() == 1)
        finally:
            parts.kill("gateway")
        with pytest.raises(httpx.TransportError):
            lost.result()
    parts.stop("metering")
    journal = parts.data_dir / "journal"
    incarnations = {segment.name.partition(".")[0] for segment in journal.iterdir()}
    shutil.rmtree(journal)
    for incarnation in incarnations:
        parts.run("lost", incarnation)
    parts.run("resync", *PARTITIONS)
    parts.start("metering")

    eventually(lambda: parts.ratings() == {"whole": "rated", "lost": "unknown"})
