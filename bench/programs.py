"""Child processes of the bench: on their cores, logged, and ended whatever happens."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from runtime.processes import dying_with_parent


class NotReady(RuntimeError):
    """A program ended early or did not answer in time."""


class Program:
    """A running program; leaving the `with` block stops it and all it started."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cores: set[int],
        log: Path,
        environ: Mapping[str, str] | None = None,
        stop_timeout_s: float = 10.0,
        pipes_output: bool = False,
    ) -> None:
        """Starts it. With `pipes_output` standard output is `output`, not the log."""
        self.log = log
        self._stop_timeout_s = stop_timeout_s
        self._began = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        ask_kernel = dying_with_parent(signal.SIGTERM)

        def before_exec() -> None:
            os.sched_setaffinity(0, cores)
            if ask_kernel is not None:
                ask_kernel()

        with log.open("ab") as file:
            self._process = subprocess.Popen(
                argv,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes_output else file,
                stderr=file,
                # Its own session: Ctrl-C reaches the bench alone, which then stops it in order.
                start_new_session=True,
                preexec_fn=before_exec,  # noqa: PLW1509 - two system calls, no lock is taken
            )
        self.pid = self._process.pid

    @property
    def output(self) -> IO[bytes]:
        """Standard output, when it was asked for."""
        assert self._process.stdout is not None
        return self._process.stdout

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> float:
        """Asks until it is ready; the seconds since the start. Raises NotReady."""
        while time.monotonic() - self._began < timeout_s:
            if self._process.poll() is not None:
                raise self.failed(f"ended with status {self._process.returncode}")
            if is_ready():
                return time.monotonic() - self._began
            time.sleep(0.03)
        raise self.failed(f"not ready after {timeout_s:g} s")

    def failed(self, reason: str) -> NotReady:
        """An error with the end of the log in it."""
        return NotReady(f"{reason}; {self.log} ends:\n{tail(self.log)}")

    def interrupt(self) -> None:
        """What Ctrl-C would send it."""
        self._process.send_signal(signal.SIGINT)

    def stop(self) -> None:
        """Asks, waits, kills what is left."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._stop_timeout_s)
        # A child that ignored the request to end is in the same group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> "Program":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def tail(path: Path, length: int = 1500) -> str:
    """The end of a file that may be missing."""
    try:
        return path.read_text(errors="replace")[-length:]
    except OSError:
        return ""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now, outside of the range of clients' ports."""
    while True:
        port = random.randrange(18_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
