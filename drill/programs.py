"""Child processes of a drill: started, killed, paused, started again on the same ports."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from infra.embedded.plan import ServerPlan
from runtime.processes import dying_with_parent

# Below the kernel's range for outgoing connections: what was killed finds its port free. Below that
# of the tests and the benches too, which may run beside a drill.
_PORTS: Final = range(14_000, 18_000)
_LONGEST_S: Final = 60.0
"""How long an end may take on a disk that stalls."""
_POLL_S: Final = 0.02

Probe = Callable[[], Awaitable[bool]]


def free_ports(count: int) -> list[int]:
    """Distinct loopback ports that nobody listens on now."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                if port not in found:
                    found.append(port)
    return found


class Program:
    """One program that may be killed and started again. Use it from the main thread."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        is_ready: Probe,
        *,
        cwd: Path | None = None,
        uid: int | None = None,
        gid: int | None = None,
        stop_signal: int = signal.SIGTERM,
        death_signal: int = signal.SIGKILL,
        ready_timeout_s: float = 100.0,
    ) -> None:
        self.name = name
        self.log = log
        self.env = dict(env)
        self._argv = list(argv)
        self._is_ready = is_ready
        self._cwd = cwd
        self._uid, self._gid = uid, gid
        self._stop_signal = stop_signal
        self._death_signal = death_signal
        self._ready_timeout_s = ready_timeout_s
        self._popen: subprocess.Popen[bytes] | None = None

    @classmethod
    def of_server(cls, plan: ServerPlan, log: Path, is_ready: Probe) -> "Program":
        """An embedded server by its plan."""
        return cls(
            plan.name,
            plan.argv,
            plan.env,
            log,
            is_ready,
            cwd=plan.cwd,
            uid=plan.uid,
            gid=plan.gid,
            stop_signal=plan.stop_signal,
            # Postgres leaves shared memory behind when it is killed; its quick end is SIGQUIT.
            death_signal=signal.SIGQUIT if plan.name == "postgres" else signal.SIGKILL,
        )

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return self._popen.pid if self._popen is not None and self._popen.poll() is None else None

    def run_by(self, interpreter: str) -> str:
        """Another interpreter from the next start on; which one it was."""
        before, self._argv[0] = self._argv[0], interpreter
        return before

    def launch(self) -> None:
        """Start it; does not wait."""
        assert self.pid is None, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self._argv,
                cwd=self._cwd,
                env=self.env,
                user=self._uid,
                group=self._gid,
                extra_groups=None if self._uid is None else [],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=dying_with_parent(self._death_signal),  # noqa: PLW1509 - only prctl
            )

    async def ready(self) -> None:
        """Wait until it answers. Raises RuntimeError with the end of its log."""
        deadline = time.monotonic() + self._ready_timeout_s
        while self.pid is not None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if await self._is_ready():
                    return
            await asyncio.sleep(_POLL_S)
        raise RuntimeError(f"{self.name} is not ready:\n{self.log_tail()}")

    async def start(self) -> None:
        """Launch and wait until it answers."""
        self.launch()
        await self.ready()

    async def kill(self) -> None:
        """`kill -9`, and what is left of its group with it."""
        popen = self._popen
        if popen is None:
            return
        popen.kill()
        await self._gone(_LONGEST_S)
        self._popen = None

    async def stop(self, timeout_s: float = _LONGEST_S) -> None:
        """Ask, wait, kill past the timeout."""
        popen = self._popen
        if popen is None:
            return
        with contextlib.suppress(ProcessLookupError):
            popen.send_signal(self._stop_signal)
            # One that is paused would never hear it.
            popen.send_signal(signal.SIGCONT)
        try:
            await self._gone(timeout_s)
        except TimeoutError:
            await self.kill()
        self._popen = None

    async def _gone(self, timeout_s: float) -> None:
        popen = self._popen
        assert popen is not None
        async with asyncio.timeout(timeout_s):
            while popen.poll() is None:
                await asyncio.sleep(0.005)

    def log_tail(self, size: int = 3000) -> str:
        """The last characters it wrote."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""


def send(pid: int, signum: int) -> bool:
    """A signal; False when there is nobody any more."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True
