"""`python -m gateway`: supervises N data workers (8002) and one admin process (8001)."""

import argparse
import asyncio
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

from gateway.adapters.seal_keys import check_seal_keys
from gateway.adapters.worker_states import read_state, state_path
from gateway.recording.settings import load_journal_settings
from gateway.settings import GatewaySettings, load_settings
from runtime.children import Child, Probe, StartFailed, Supervisor, run_until_signal
from runtime.logs import Log, LogSettings, take_over_stdlib, to_stream
from runtime.output import say_settings
from runtime.ports import PortInUse, bind, require_free
from runtime.settings import BadSettings, load

_PYTHON: Final = (sys.executable, "-m")


def _worker_probe(path: Path) -> Probe:
    """A worker shares its port with the others, so it says itself that it is ready."""

    async def probe() -> str | None:
        state = read_state(path)
        if state is None:
            return "has not said that it is ready"
        return None if state.is_ready else "is stopping"

    return probe


def _admin_probe(port: int) -> Probe:
    async def probe() -> str | None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET /api/health HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
            line = await reader.readline()
        finally:
            writer.close()
        return None if b" 200 " in line else f"answered {line!r}"

    return probe


class _Listening(Supervisor):
    """The children of sockets that we hold: a stop closes them first, so that nobody queues."""

    listeners: tuple[int, ...] = ()

    async def stop(self) -> None:
        listeners, self.listeners = self.listeners, ()
        for descriptor in listeners:
            os.close(descriptor)
        await super().stop()


def supervisor(settings: GatewaySettings, log: Log) -> Supervisor:
    """The gateway's children. Sockets are bound here and inherited. Raises PortInUse."""
    for port, host in (
        (settings.proxy_port, settings.proxy_host),
        (settings.admin_port, settings.admin_host),
    ):
        require_free(port, host)
    # Held for as long as this process lives: a worker that starts anew finds the same sockets.
    proxy_fd = bind(settings.proxy_host, settings.proxy_port).detach()
    admin_fd = bind(settings.admin_host, settings.admin_port).detach()
    release = version("tollway")
    workers = tuple(
        Child(
            name=f"gateway-worker-{index}",
            argv=(*_PYTHON, "gateway.worker", "--fd", str(proxy_fd), "--index", str(index)),
            kind="worker",
            pass_fds=(proxy_fd,),
            probe=_worker_probe(state_path(settings.run_dir, index)),
            # A stop waits for streams, then for the journal to be shipped.
            stop_timeout_s=float(settings.drain_s + settings.journal_stop) + 10,
            port=settings.proxy_port,
            version=release,
        )
        for index in range(1, settings.worker_count + 1)
    )
    admin = Child(
        name="gateway-admin",
        argv=(*_PYTHON, "gateway.admin_process", "--fd", str(admin_fd)),
        kind="worker",
        pass_fds=(admin_fd,),
        probe=_admin_probe(settings.admin_port),
        port=settings.admin_port,
        version=release,
    )
    gateway = _Listening(
        "gateway",
        [
            (admin, *workers),
        ],
        data_dir=Path(settings.data_dir).resolve(),
        log=log,
    )
    gateway.listeners = (proxy_fd, admin_fd)
    return gateway


def main() -> int:
    """Entry point of the service."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway",
        description="The gateway: data plane on PROXY_PORT, admin API on ADMIN_PORT.",
    )
    parser.add_argument(
        "--check-config", action="store_true", help="print the settings in force and exit"
    )
    arguments = parser.parse_args()
    log = to_stream(load(LogSettings))
    take_over_stdlib(log)
    try:
        settings = load_settings()
        journal_settings = load_journal_settings(settings)
        check_seal_keys(settings)
        if arguments.check_config:
            say_settings(settings, journal_settings)
            return 0
        return asyncio.run(run_until_signal(supervisor(settings, log)))
    except BadSettings as error:
        for problem in error.problems:
            log.error("settings.bad", problem=problem)
    except PortInUse as error:
        log.error("port.in_use", problem=str(error))
    except StartFailed as error:
        log.error("start.failed", problem=str(error))
    return 1


if __name__ == "__main__":
    sys.exit(main())
