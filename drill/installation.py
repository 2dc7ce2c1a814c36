"""The whole product on one machine, every program of it in reach of a fault.

Started one by one rather than by `tollway up`, with a proxy before NATS and one before ClickHouse,
so that stores can be stopped, restored and started between the services' breaths.
"""

import asyncio
import base64
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from drill.programs import Program, free_ports, send
from drill.proxy import Proxy
from infra.embedded.clickhouse import CLICKHOUSE
from infra.embedded.nats import NATS
from infra.embedded.plan import LOOPBACK, Server, ServerPlan
from infra.embedded.postgres import POSTGRES
from infra.embedded.readiness import answers_ok, supervisor_ready
from infra.embedded.settings import EmbeddedSettings
from runtime.state import read_state, state_path

SERVERS: Final = ("nats", "postgres", "clickhouse")
SUPERVISORS: Final = ("gateway", "metering")
TARGETS: Final = (*SERVERS, *SUPERVISORS, "gateway-worker", "metering-consumer")
"""What can be killed and paused; the last two are one of several, picked by the caller's chance."""

PORTS: Final = 8
DEADLINE_S: Final = 1.0
EXECUTION_S: Final = 1.0
MEMBER_TTL_S: Final = 2.0
_KNOWN_S: Final = 60.0

_QUICK: Final = {
    "GATEWAY_WORKERS": "2",
    "NUMBER_OF_EVENT_MESSAGE_CONSUMERS": "2",
    "METERING_PARTITIONS": "4",
    "JOURNAL_LANES": "2",
    "JOURNAL_SEGMENT_BYTES": "262144",
    "JOURNAL_KEEP": "1s",
    "ADOPT_INTERVAL": "300ms",
    "BOOKED_POLL": "200ms",
    "RESEND_AFTER": "1500ms",
    "PARCEL_ACK_TIMEOUT": "1s",
    "PARCEL_BACKOFF_MAX": "500ms",
    "PROXY_TIMEOUT": "30s",
    "DRAIN_S": "5s",
    "JOURNAL_STOP": "20s",
    "BOOKING_DEADLINE_S": f"{DEADLINE_S:g}s",
    "BOOKING_EXECUTION_MAX": f"{EXECUTION_S:g}s",
    "BATCH_DELAY": "50ms",
    "MEMBER_INTERVAL": "300ms",
    "MEMBER_TTL": f"{MEMBER_TTL_S:g}s",
    "NATS_TIMEOUT": "2s",
    "CLICKHOUSE_TIMEOUT": "10s",
    "LOG_LEVEL": "info",
}
"""The product's own settings, shortened so that a drill need not wait for what is meant to wait."""


class Installation:
    """Everything that runs. `start`, then faults and load, then `stop`; one event loop."""

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        ports: Sequence[int] | None = None,
    ) -> None:
        """`ports` are PORTS free ones that nobody else is given; without them any that are free."""
        self.directory = directory
        self.key = f"drill-{secrets.token_hex(12)}"
        self.gateway_killed_at: list[float] = []
        """When workers of the gateway died, by `time.monotonic`: only they abandon requests."""
        self.disk_full: list[tuple[float, float]] = []
        """When the end of an admitted request may have found no room in the journal."""
        nats, postgres, clickhouse, nats_proxy, clickhouse_proxy, *own = ports or free_ports(PORTS)
        self.proxy_port, self.admin_port, self.upstream_port = own
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "logs").mkdir(exist_ok=True)
        self.plans = {
            server.name: server.prepare(directory, port, EmbeddedSettings())
            for server, port in ((NATS, nats), (POSTGRES, postgres), (CLICKHOUSE, clickhouse))
        }
        self.nats_proxy = Proxy(nats_proxy, nats)
        self.clickhouse_proxy = Proxy(clickhouse_proxy, clickhouse)
        self._environ = {
            **os.environ,
            "POSTGRES_URL": self.plans["postgres"].url,
            "NATS_URL": f"nats://{LOOPBACK}:{nats_proxy}",
            "CLICKHOUSE_URL": f"http://{LOOPBACK}:{clickhouse_proxy}",
            "CLICKHOUSE_DATABASE": "tollway",
            "DATA_DIR": str(directory),
            "PROXY_PORT": str(self.proxy_port),
            "ADMIN_PORT": str(self.admin_port),
            "PYTHONUNBUFFERED": "1",
            "ALLOW_PRIVATE_UPSTREAMS": "true",
            "SECRETS_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            **_QUICK,
            **(settings or {}),
        }
        self.record_file = directory / "provider-record.jsonl"
        self.programs = {
            **{
                server.name: self._server(server, self.plans[server.name])
                for server in (NATS, POSTGRES, CLICKHOUSE)
            },
            "upstream": self._upstream(),
            "gateway": self._service(
                "gateway",
                supervisor_ready(directory, "gateway"),
                answers_ok((self.proxy_port, "/health"), (self.admin_port, "/api/health")),
            ),
            "metering": self._service("metering", supervisor_ready(directory, "metering")),
        }

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        ports: Sequence[int] | None = None,
    ) -> AsyncIterator["Installation"]:
        """A started installation until the end of the block."""
        installation = cls(directory, settings, ports)
        try:
            await installation.start()
            yield installation
        finally:
            await installation.stop()

    async def start(self) -> None:
        """Everything, in order, with a key for the load."""
        for name in (*SERVERS, "upstream"):
            self.programs[name].launch()
        await asyncio.gather(*(self.programs[name].ready() for name in (*SERVERS, "upstream")))
        await self.nats_proxy.start()
        await self.clickhouse_proxy.start()
        await self.migrate()
        for name in SUPERVISORS:
            self.programs[name].launch()
        await asyncio.gather(*(self.programs[name].ready() for name in SUPERVISORS))
        await self._make_key()

    async def stop(self) -> None:
        """Everything, in reverse; nothing is left behind."""
        for name in ("gateway", "metering"):
            for pid in self.children(name).values():
                send(pid, signal.SIGCONT)
            await self.programs[name].stop()
        for proxy in (self.nats_proxy, self.clickhouse_proxy):
            with contextlib.suppress(AssertionError):
                await proxy.stop()
        for name in ("upstream", *reversed(SERVERS)):
            await self.programs[name].stop()

    async def configure(self, settings: Mapping[str, str]) -> None:
        """Start the services anew, with these settings beside those of the drill."""
        for name in SUPERVISORS:
            program = self.programs[name]
            await program.stop()
            program.env = {**self._environ, **settings}
            await program.start()

    async def migrate(self) -> None:
        """Streams, buckets, tables, price book: what is missing is made. Raises RuntimeError."""
        await self.run("infra.migrations")

    async def run(self, *arguments: str, expected: int = 0) -> str:
        """One of our programs to its end; what it said. Raises RuntimeError on another status."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *arguments,
            env=self._environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), 100)
        if process.returncode != expected:
            raise RuntimeError(f"{arguments} ended with {process.returncode}: {said.decode()}")
        return said.decode()

    def children(self, name: str) -> dict[str, int]:
        """The living children of a supervisor: name to pid."""
        state = read_state(state_path(self.directory, name))
        if state is None or not state.is_running:
            return {}
        return {
            process.name: process.pid
            for process in state.processes
            if process.pid is not None and Path(f"/proc/{process.pid}").exists()
        }

    def workers(self) -> dict[str, int]:
        """The gateway's data workers."""
        children = self.children("gateway")
        return {name: pid for name, pid in children.items() if name != "gateway-admin"}

    def consumers(self) -> dict[str, int]:
        """Metering's consumer processes."""
        return self.children("metering")

    def _knows_keys(self) -> bool:
        """Whether every living worker says that it knows a key; there is but one."""
        workers = self.workers()
        known = 0
        for name in workers:
            with contextlib.suppress(OSError):
                path = state_path(self.directory, f"{name}.state")
                known += bool(msgspec.json.decode(path.read_bytes())["keys"])
        return bool(workers) and known == len(workers)

    def pids(self, target: str) -> list[int]:
        """The processes a target stands for; several for workers and consumers."""
        if target == "gateway-worker":
            return list(self.workers().values())
        if target == "metering-consumer":
            return list(self.consumers().values())
        pid = self.programs[target].pid
        return [] if pid is None else [pid]

    async def kill(self, target: str) -> None:
        """`kill -9` of a server or a supervisor; the caller starts it again."""
        if target == "gateway":
            self.note_gateway_death()
        await self.programs[target].kill()
        if target == "gateway":
            self.note_gateway_death()

    def note_gateway_death(self) -> None:
        """A worker is about to die, or just has."""
        self.gateway_killed_at.append(time.monotonic())

    async def all_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until every program and every child of a supervisor is there again."""
        async with asyncio.timeout(timeout_s):
            for program in self.programs.values():
                await program.ready()

    @property
    def clickhouse_url(self) -> str:
        """Past the proxy."""
        return self.plans["clickhouse"].url

    @property
    def nats_url(self) -> str:
        """Past the proxy."""
        return self.plans["nats"].url

    def _server(self, server: Server, plan: ServerPlan) -> Program:
        async def is_ready() -> bool:
            return await server.is_ready(plan)

        return Program.of_server(plan, self._log(plan.name), is_ready)

    def _upstream(self) -> Program:
        probe = answers_ok((self.upstream_port, "/demo/health"))

        async def is_ready() -> bool:
            return await probe() is None

        arguments = ("--port", str(self.upstream_port), "--record-file", str(self.record_file))
        argv = (sys.executable, "-m", "infra.demo_upstream", *arguments)
        return Program("upstream", argv, self._environ, self._log("upstream"), is_ready)

    def _service(self, name: str, *probes: Any) -> Program:
        async def is_ready() -> bool:
            for probe in probes:
                if await probe() is not None:
                    return False
            return True

        argv = (sys.executable, "-m", name)
        return Program(name, argv, self._environ, self._log(name), is_ready)

    def _log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"

    async def _make_key(self) -> None:
        async with httpx.AsyncClient(
            base_url=f"http://{LOOPBACK}:{self.admin_port}", timeout=60, trust_env=False
        ) as admin:
            setting = {
                "provider": "openai",
                "name": "drill",
                "setting": {
                    "apikey": "drill-provider",
                    "url": f"http://{LOOPBACK}:{self.upstream_port}",
                },
            }
            answer = await admin.put("/api/provider-settings", json=setting)
            answer.raise_for_status()
            key = {"name": "drill", "key": self.key, "settingIds": [answer.json()["id"]]}
            (await admin.put("/api/key-management/keys", json=key)).raise_for_status()
        async with asyncio.timeout(_KNOWN_S):
            while not self._knows_keys():
                await asyncio.sleep(0.05)
