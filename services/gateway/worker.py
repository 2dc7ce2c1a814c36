"""A data worker, child of the gateway: `python -m gateway.worker --fd N --index I`."""

import argparse
import asyncio
import gc
import logging
import os
import resource
import socket
from pathlib import Path

import msgspec
import uvloop

from gateway.adapters.http_server import ServerLimits
from gateway.adapters.http_server import serve as serve_clients
from gateway.adapters.worker_states import WorkerState, state_path
from gateway.bootstrap import DataWorker, data_worker
from gateway.configuration.fingerprint import as_text
from gateway.recording.settings import load_journal_settings
from gateway.settings import GatewaySettings, load_settings
from runtime.logs import LogSettings, take_over_stdlib, to_stream
from runtime.processes import birth_mark
from runtime.settings import load
from runtime.signals import stop_event
from runtime.state import write_atomically

log = logging.getLogger(__name__)

STATE_INTERVAL_S = 1.0
STATE_INTERVAL_MIN_S = 0.05
"""What configuration is in force is told at once, but not for each of many changes."""


def _state(worker: DataWorker) -> WorkerState:
    counts = worker.counters.by_name() | {"in_flight": worker.corridor.in_flight}
    snapshot = worker.configuration.snapshot
    return WorkerState(
        pid=os.getpid(),
        birth=birth_mark(os.getpid()),
        is_ready=worker.is_ready,
        configuration_revision=snapshot.revision,
        configuration_fingerprint=as_text(snapshot.fingerprint),
        configuration_unusable=len(snapshot.unusable),
        keys=len(snapshot.principal_by_digest),
        started_at_ms=worker.started_at_ms,
        counts=counts,
        by_model=worker.tallies.by_model,
        by_provider=worker.tallies.by_provider,
        journal=msgspec.to_builtins(worker.journal.facts()),
    )


async def _tell(worker: DataWorker, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        snapshot = worker.configuration.snapshot
        try:
            write_atomically(path, msgspec.json.encode(_state(worker)))
        except OSError as error:
            # A full disk is over some time; what is told then must not be what was.
            log.error("the worker's state cannot be written: %s", error)
        await asyncio.sleep(STATE_INTERVAL_MIN_S)
        await worker.configuration.wait_for_change(snapshot, STATE_INTERVAL_S)


def _may_open_many() -> None:
    """As many descriptors as we are allowed: an open stream takes two of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def run_data(settings: GatewaySettings, listener: socket.socket, index: int) -> None:
    """Serve until told to stop; then drain: readiness off, exchanges finished, journal shipped."""
    stop = stop_event()
    async with data_worker(settings, load_journal_settings(settings), stop) as worker:
        if not worker.is_ready:
            return
        # Start-up objects live for ever: the collector need not walk them again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)
        path = state_path(settings.run_dir, index)
        telling = asyncio.create_task(_tell(worker, path), name="state")

        async def drain() -> None:
            worker.is_ready = False
            await worker.corridor.drain(float(settings.drain_s))

        try:
            await serve_clients(
                worker.api,
                listener,
                stop,
                ServerLimits(
                    head_bytes_max=settings.request_headers_bytes_max,
                    connections_max=settings.client_connections_max,
                    head_s=float(settings.client_head_timeout),
                    idle_s=float(settings.client_idle_timeout),
                ),
                drain,
            )
        finally:
            telling.cancel()
            path.unlink(missing_ok=True)


def main() -> None:
    """Entry point of a worker."""
    parser = argparse.ArgumentParser(description="A data worker; started by the gateway.")
    parser.add_argument("--fd", type=int, required=True, help="inherited listening socket")
    parser.add_argument("--index", type=int, required=True)
    arguments = parser.parse_args()
    take_over_stdlib(to_stream(load(LogSettings)))
    _may_open_many()
    listener = socket.socket(fileno=arguments.fd)
    uvloop.run(run_data(load_settings(), listener, arguments.index))


if __name__ == "__main__":
    main()
