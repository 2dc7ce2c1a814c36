"""`python -m infra.embedded.clickhouse_server --path DIR --port N`: the engine's owner process.

Only one process can have the engine's directory open, so one owns it and everybody else talks
HTTP to it, exactly as to a real ClickHouse server. Requests run in threads; SIGTERM lets the
running ones finish. `kill -9` loses nothing acknowledged: the tables say fsync.
"""

import argparse
import os
import select
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Final

from infra.embedded.chdb_engine import Engine, EngineBusy, EngineClosed
from infra.embedded.chdb_http import Connection, Limits
from infra.embedded.plan import LOOPBACK

CONNECTIONS_MAX: Final = 256
STOP_TIMEOUT_S: Final = 20.0
_BACKLOG: Final = 128


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.embedded.clickhouse_server")
    parser.add_argument("--path", type=Path, required=True, help="the engine's directory")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1; 0 takes any")
    parser.add_argument("--memory-bytes-max", type=int, default=4 << 30)
    parser.add_argument("--request-bytes-max", type=int, default=256 << 20)
    return parser.parse_args(argv)


class _Server:
    """Accepts connections until told to stop; a thread each, `CONNECTIONS_MAX` at most."""

    def __init__(self, listener: socket.socket, engine: Engine, limits: Limits) -> None:
        self._listener = listener
        self._engine = engine
        self._limits = limits
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._stopping = threading.Event()

    def run(self, told: socket.socket) -> None:
        """Returns once there is something to read on `told`."""
        # A client that has left again before it is accepted must not be waited for.
        self._listener.setblocking(False)
        while told not in select.select([self._listener, told], [], [])[0]:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                continue  # that client, or out of descriptors for a moment
            if not self._free.acquire(blocking=False):
                sock.close()
                continue
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()
        self._stopping.set()
        self._listener.close()

    def _serve(self, sock: socket.socket) -> None:
        try:
            Connection(sock, self._engine, self._limits, self._stopping).serve()
        finally:
            self._free.release()


def _told_to_stop() -> socket.socket:
    """Readable from SIGTERM or SIGINT on.

    The interpreter writes to it wherever the signal comes in: between two calls of the main thread,
    where a call that waits would not be interrupted, or in a thread of the engine's.
    """
    told, teller = socket.socketpair()
    teller.setblocking(False)
    signal.set_wakeup_fd(teller.detach(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return told


def main(argv: list[str] | None = None) -> int:
    """Returns 0 after SIGTERM or SIGINT, 3 when another owns the directory, else 4."""
    arguments = _arguments(argv)
    directory = arguments.path.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    os.chdir(directory)
    spool = directory / "spool"
    with socket.create_server((LOOPBACK, arguments.port), backlog=_BACKLOG) as listener:
        try:
            engine = Engine.open_(directory, arguments.memory_bytes_max)
        except EngineBusy as error:
            print(error, file=sys.stderr)
            return 3
        except EngineClosed as error:
            print(f"cannot open {directory}: {error}", file=sys.stderr)
            return 4
        spool.mkdir(exist_ok=True)
        limits = Limits(
            request_bytes_max=arguments.request_bytes_max,
            spool=spool,
            hosts=frozenset({LOOPBACK, "localhost"}),
        )
        told = _told_to_stop()
        print(f"clickhouse engine {engine.version} on {listener.getsockname()[1]}", flush=True)
        _Server(listener, engine, limits).run(told)
    is_quiet = engine.close(STOP_TIMEOUT_S)
    sys.stdout.flush()
    # Threads may still wait for clients; the engine is closed, nothing is left to do.
    os._exit(0 if is_quiet else 1)


if __name__ == "__main__":
    sys.exit(main())
