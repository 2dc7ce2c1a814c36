"""Real embedded servers as test handles: start, stop and kill are one call each, and blocking."""

import asyncio
import ctypes
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil

from infra.embedded.plan import Server, ServerPlan
from infra.embedded.settings import EmbeddedSettings

Value = TypeVar("Value")

# Below the kernel's range for outgoing connections: a server that was killed finds its port free.
_PORTS = range(18_000, 28_000)
_LONGEST_S = 60.0
"""How long a start or an end may take on a disk that stalls."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _ports_of_this_process() -> Iterator[int]:
    """Each worker of pytest-xdist has ports of its own, and goes through all before it repeats one.

    What was given out is often bound late, or never, or free for a while between two servers.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = _PORTS[number :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    # Those who run side by side without workers, as benches do, begin far from each other.
    first = os.getpid() * 101 % len(own)
    return itertools.cycle([*own[first:], *own[:first]])


_ports = _ports_of_this_process()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now, and nobody else in this run is given."""
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("there is always a next port")


def run_apart(work: Coroutine[Any, Any, Value]) -> Value:
    """Runs a coroutine to its end in a loop of its own, also from within a running loop."""
    outcome: list[Value] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def dies_with_parent(number: int) -> Callable[[], None] | None:
    """For `preexec_fn`: the kernel sends the child this signal when the calling thread ends."""
    if _LIBC is None:
        return None
    parent = os.getpid()

    def ask_kernel() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask_kernel


class RunningServer:
    """One embedded server with its own data directory and a port that stays the same."""

    def __init__(
        self,
        server: Server,
        data_dir: Path,
        settings: EmbeddedSettings | None = None,
        *,
        port: int | None = None,
    ) -> None:
        self.server = server
        self.data_dir = data_dir
        self.log = data_dir / f"{server.name}.log"
        self.port = free_port() if port is None else port
        self.plan: ServerPlan = server.prepare(
            data_dir, self.port, settings if settings is not None else EmbeddedSettings()
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What the services' setting should be."""
        return self.plan.url

    @property
    def pid(self) -> int:
        """The process id; the server must run."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> "RunningServer":
        """Starts it and returns when it answers. Call it from the main thread."""
        assert self.process is None
        plan = self.plan
        # Postgres leaves shared memory behind when it is killed; its quick end is SIGQUIT.
        death = signal.SIGQUIT if plan.name == "postgres" else signal.SIGKILL
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                plan.argv,
                cwd=plan.cwd,
                env=plan.env,
                user=plan.uid,
                group=plan.gid,
                extra_groups=None if plan.uid is None else [],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # One call of a C function that is already loaded: nothing a thread could hold.
                preexec_fn=dies_with_parent(death),  # noqa: PLW1509
            )
        if not run_apart(self._becomes_ready()):
            code = self.process.poll()
            self.kill()
            raise RuntimeError(f"{plan.name} did not start ({code}): {self.log_tail()}")
        return self

    async def _becomes_ready(self) -> bool:
        deadline = time.monotonic() + max(self.plan.ready_timeout_s, _LONGEST_S)
        while time.monotonic() < deadline:
            if await self.server.is_ready(self.plan):
                return True
            if self.process is None or self.process.poll() is not None:
                return False
            await asyncio.sleep(0.01)
        return False

    def log_tail(self) -> str:
        """The last lines the server wrote."""
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self) -> int:
        """The graceful end. Returns the exit code."""
        assert self.process is not None
        self.process.send_signal(self.plan.stop_signal)
        return self.ended()

    def ended(self) -> int:
        """The exit code, once it has been told to stop."""
        assert self.process is not None
        code = self.process.wait(max(self.plan.stop_timeout_s, _LONGEST_S))
        self.process = None
        return code

    def kill(self) -> None:
        """`kill -9`; does nothing when it is not running."""
        if self.process is not None:
            has_ended = self.process.poll() is not None
            children = [] if has_ended else psutil.Process(self.pid).children(recursive=True)
            self.process.kill()
            self.process.wait(_LONGEST_S)
            self.process = None
            # Postgres's own end a little later, and hold its data directory until then.
            psutil.wait_procs(children, _LONGEST_S)

    def pause(self) -> None:
        """SIGSTOP: it holds its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)
