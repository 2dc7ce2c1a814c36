"""Everything on one machine: servers, migrations, the demo provider, the three services.

Started in order, kept alive, stopped in reverse, one instance a data directory.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path
from signal import SIGKILL, SIGQUIT
from typing import Annotated, Final

import msgspec

from infra.embedded.instance import (
    SUPERVISOR,
    Addresses,
    Announcement,
    Demo,
    UpOptions,
    make_data_dir,
    only_one,
    write_addresses,
)
from infra.embedded.kept_ports import keep_ports
from infra.embedded.leftovers import end_leftovers
from infra.embedded.plan import LOOPBACK, Server, ServerPlan
from infra.embedded.readiness import answers_ok, server_answers, supervisor_ready
from infra.embedded.servers import SERVERS
from infra.embedded.settings import EmbeddedSettings
from runtime.children import Child, RestartLimits, Step, Supervisor, run_until_signal
from runtime.logs import Log, LogFileSettings, LogSettings, RotatedFile, tail
from runtime.ports import require_free
from runtime.sealing import make_key_file
from runtime.settings import Duration, Secret, load
from runtime.spawn import Spawned
from runtime.state import ProcessState

DEMO_UPSTREAM: Final = "demo-upstream"
_FOREIGN: Final = (
    "CLICKHOUSE_URL",
    "CLICKHOUSE_USER",
    "CLICKHOUSE_PASSWORD",
    "CLICKHOUSE_DATABASE",
    "NATS_URL",
    "NATS_CREDS",
    "NATS_TLS_CA",
    "POSTGRES_URL",
    "POSTGRESQL_",
    "REDIS_URL",
    "REDIS_TLS",
    "REDIS_HOSTS",
    "REDIS_PASSWORD",
    "REDIS_USERNAME",
)
"""Settings of servers, or how their names begin; REDIS_MEMORY_BYTES_MAX is our own server's."""

MIGRATE_TIMEOUT_S: Final = 120.0
SERVICE_READY_TIMEOUT_S: Final = 120.0
SERVICE_STOP_MARGIN_S: Final = 30.0


class LauncherSettings(msgspec.Struct, frozen=True):
    """What the launcher itself reads from the environment it passes on."""

    drain_s: Annotated[
        Duration, msgspec.Meta(description="how long the services may take to finish at a stop")
    ] = Duration(30)
    admin_pass: Annotated[
        Secret, msgspec.Meta(description="what admin callers, the launcher too, send as X-API-KEY")
    ] = Secret("")
    secrets_key: Annotated[
        Secret, msgspec.Meta(description="passed on; not set: a key is made in the data directory")
    ] = Secret("")
    secrets_key_file: Annotated[str, msgspec.Meta(description="passed on, as SECRETS_KEY")] = ""
    allow_private_upstreams: Annotated[
        bool | None,
        msgspec.Meta(description="passed on; not set: true with the demo, whose provider is here"),
    ] = None


class StepFailed(RuntimeError):
    """A step between the servers and the services went wrong; `last_lines` end its log."""

    def __init__(self, name: str, reason: str, last_lines: list[str]) -> None:
        super().__init__(f"{name} failed: {reason}")
        self.last_lines = last_lines


class Observer:
    """What happens while an instance comes up, for whoever shows it. All of it may be ignored."""

    def preparing(self, text: str) -> None:
        """A step that takes a moment begins."""

    def changed(self, process: ProcessState) -> None:
        """A child changed its state."""

    def ready(self, announcement: Announcement, took_s: float) -> None:
        """Everything is ready."""


def check_new(options: UpOptions) -> None:
    """Refuse what cannot start before a data directory is made for it.

    Where there is one a port may be that of a process we left behind, which is ended first. Raises
    PortInUse, BadSettings.
    """
    for settings in (LauncherSettings, EmbeddedSettings, LogFileSettings, LogSettings):
        load(settings)
    if not Path(options.data_dir).exists():
        _require_free_ports(options)


def _require_free_ports(options: UpOptions) -> None:
    for port in (options.proxy_port, options.admin_port, options.reporting_port):
        require_free(port)


async def run_up(options: UpOptions, observer: Observer) -> int:
    """Bring everything up, wait for a signal, take everything down; the exit status.

    Raises AlreadyRunning, PortInUse, StartFailed, StepFailed, DemoFailed, BadSettings, OSError;
    whatever was started is stopped then.
    """
    began = time.monotonic()
    data_dir = Path(options.data_dir)
    check_new(options)
    make_data_dir(data_dir)
    with only_one(data_dir):
        observer.preparing("servers")
        end_leftovers(data_dir)
        _require_free_ports(options)
        up = await _Up.plan(options, data_dir)
        up.make_secrets_key()
        supervisor = up.supervisor(observer)

        async def on_ready() -> None:
            demo = await up.demo()
            announcement = up.announcement(demo)
            observer.ready(announcement, time.monotonic() - began)

        return await run_until_signal(supervisor, on_ready=on_ready)


class _Up:
    """One instance: its plans, its environment and what is derived from them."""

    def __init__(
        self,
        options: UpOptions,
        data_dir: Path,
        servers: list[tuple[Server, ServerPlan]],
        upstream_port: int,
    ) -> None:
        self._options = options
        self._data_dir = data_dir
        self._servers = servers
        self._upstream_port = upstream_port
        self._settings = load(LauncherSettings)
        self._version = metadata.version("tollway")
        self.addresses = Addresses(
            data_dir=str(data_dir),
            proxy_url=f"http://{LOOPBACK}:{options.proxy_port}",
            admin_url=f"http://{LOOPBACK}:{options.admin_port}",
            reporting_url=f"http://{LOOPBACK}:{options.reporting_port}",
            demo_upstream_url=f"http://{LOOPBACK}:{upstream_port}",
            environment=self._additions(),
        )
        # Credentials meant for somebody's own servers are none of our embedded ones'.
        inherited = {
            name: text for name, text in os.environ.items() if not name.startswith(_FOREIGN)
        }
        self._environ = {**inherited, **self.addresses.environment}
        write_addresses(data_dir, self.addresses)

    @classmethod
    async def plan(cls, options: UpOptions, data_dir: Path) -> "_Up":
        """Choose ports and make the servers' directories. Raises OSError, RuntimeError."""
        settings = load(EmbeddedSettings)
        names = [*(server.name for server in SERVERS), DEMO_UPSTREAM]
        own = {options.proxy_port, options.admin_port, options.reporting_port}
        ports = keep_ports(data_dir, names, own)
        plans = await asyncio.gather(
            *(
                asyncio.to_thread(server.prepare, data_dir, ports[server.name], settings)
                for server in SERVERS
            )
        )
        return cls(options, data_dir, list(zip(SERVERS, plans, strict=True)), ports[DEMO_UPSTREAM])

    def _additions(self) -> dict[str, str]:
        options = self._options
        allows_private = self._settings.allow_private_upstreams
        if allows_private is None:
            allows_private = options.with_demo
        return {
            **{server.url_setting: plan.url for server, plan in self._servers},
            "DATA_DIR": str(self._data_dir),
            "PROXY_PORT": str(options.proxy_port),
            "ADMIN_PORT": str(options.admin_port),
            "REPORTING_PORT": str(options.reporting_port),
            "REPORTING_URL": f"http://{LOOPBACK}:{options.reporting_port}",
            "CLICKHOUSE_DATABASE": "tollway",
            "GATEWAY_WORKERS": str(options.workers),
            "PYTHONUNBUFFERED": "1",
            "ALLOW_PRIVATE_UPSTREAMS": "true" if allows_private else "false",
        }

    def make_secrets_key(self) -> None:
        """A key to seal provider secrets with, unless there is one. Raises OSError.

        A file that somebody named is theirs to make: a new key would hide that theirs is missing.
        """
        if not (self._settings.secrets_key or self._settings.secrets_key_file):
            make_key_file(self._data_dir / "secrets.key")

    def supervisor(self, observer: Observer) -> Supervisor:
        """Everything in its order; members of a tuple start together."""
        log_dir = self._data_dir / "logs"
        log_files = load(LogFileSettings)
        log_settings = load(LogSettings)
        log_file = RotatedFile(log_dir / f"{SUPERVISOR}.log", log_files)
        log = Log(
            lambda line: log_file.write(line.encode()),
            log_format=log_settings.log_format,
            level=log_settings.log_level,
        )
        servers = tuple(self._server(server, plan) for server, plan in self._servers)
        return Supervisor(
            SUPERVISOR,
            [
                (*servers, *([self._demo_upstream()] if self._options.with_demo else [])),
                Step("migrations", self._step("migrations", observer, self._migrate)),
                (self._gateway(), self._metering(), self._reporting()),
            ],
            data_dir=self._data_dir,
            log=log,
            log_dir=log_dir,
            log_files=log_files,
            # A service has retried its own children by then: once more is enough to know.
            limits=RestartLimits(deaths_at_start_max=2),
            on_change=observer.changed,
        )

    def _server(self, server: Server, plan: ServerPlan) -> Child:
        return Child(
            name=plan.name,
            argv=plan.argv,
            kind="server",
            env=plan.env,
            cwd=plan.cwd,
            user=plan.uid,
            group=plan.gid,
            probe=server_answers(server, plan),
            ready_timeout_s=plan.ready_timeout_s,
            stop_signal=plan.stop_signal,
            stop_timeout_s=plan.stop_timeout_s,
            # Postgres has children of its own, in their own groups: SIGQUIT takes them along.
            parent_death_signal=SIGQUIT if plan.name == "postgres" else SIGKILL,
            port=plan.port,
            version=plan.version,
        )

    def _python(self, module: str, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", module, *arguments)

    def _demo_upstream(self) -> Child:
        port = self._upstream_port
        return Child(
            name=DEMO_UPSTREAM,
            argv=self._python("infra.demo_upstream", "--port", str(port)),
            kind="service",
            env=self._environ,
            probe=answers_ok((port, "/demo/health")),
            port=port,
            version=self._version,
        )

    def _service(
        self,
        name: str,
        port: int | None,
        *probes: Callable[[], Awaitable[str | None]],
        stop_after: tuple[str, ...] = (),
    ) -> Child:
        async def probe() -> str | None:
            for ask in probes:
                reason = await ask()
                if reason is not None:
                    return reason
            return None

        return Child(
            name=name,
            argv=self._python(name),
            kind="service",
            env=self._environ,
            probe=probe,
            ready_timeout_s=SERVICE_READY_TIMEOUT_S,
            stop_timeout_s=self._settings.drain_s + SERVICE_STOP_MARGIN_S,
            stop_after=stop_after,
            port=port,
            version=self._version,
        )

    def _gateway(self) -> Child:
        options = self._options
        answers = answers_ok((options.proxy_port, "/health"), (options.admin_port, "/api/health"))
        return self._service(
            "gateway", options.proxy_port, supervisor_ready(self._data_dir, "gateway"), answers
        )

    def _metering(self) -> Child:
        # What the gateway ships while it stops is still booked; less is left for the next start.
        ready = supervisor_ready(self._data_dir, "metering")
        return self._service("metering", None, ready, stop_after=("gateway",))

    def _reporting(self) -> Child:
        port = self._options.reporting_port
        return self._service("reporting", port, answers_ok((port, "/api/health")))

    def _step(
        self, name: str, observer: Observer, run: Callable[[], Awaitable[None]]
    ) -> Callable[[], Awaitable[None]]:
        async def step() -> None:
            observer.preparing(name)
            await run()

        return step

    async def _migrate(self) -> None:
        """Migrations in a process of their own: their clients' memory goes with it."""
        path = self._data_dir / "logs" / "migrations.log"
        log_file = RotatedFile(path, load(LogFileSettings))
        child = Child(
            name="migrations",
            argv=self._python("infra.migrations"),
            kind="service",
            env=self._environ,
        )
        spawned = Spawned(child, log_file.write)
        try:
            async with asyncio.timeout(MIGRATE_TIMEOUT_S):
                status = await spawned.exited()
        except TimeoutError:
            raise StepFailed("migrations", f"no end after {MIGRATE_TIMEOUT_S:g} s", []) from None
        finally:
            spawned.kill_group()
            await spawned.exited()
            spawned.drain_output()
            log_file.close()
        if status != 0:
            raise StepFailed("migrations", f"exit status {status}", tail(path, 20))

    async def demo(self) -> Demo | None:
        """The demo's setting and key, unless not wanted. Raises DemoFailed."""
        if not self._options.with_demo:
            return None
        from infra.embedded.demo_setup import set_up_demo

        return await set_up_demo(
            self._data_dir,
            self.addresses.admin_url,
            self.addresses.demo_upstream_url,
            self._settings.admin_pass.reveal(),
        )

    def announcement(self, demo: Demo | None) -> Announcement:
        """What is told when all is ready."""
        return Announcement(
            data_dir=self.addresses.data_dir,
            proxy_url=self.addresses.proxy_url,
            admin_url=self.addresses.admin_url,
            reporting_url=self.addresses.reporting_url,
            demo_key=demo.key if demo else None,
        )
