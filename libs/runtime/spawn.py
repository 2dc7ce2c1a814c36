"""One child process: started so that it cannot outlive us, its exit awaited, its output kept."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from typing import IO, Final

from runtime.children_spec import Child
from runtime.processes import birth_mark, dying_with_parent

_PIPE_READ_BYTES: Final = 65_536
_EXIT_POLL_S: Final = 0.05


class Spawned:
    """A running child. Its pid stays ours until `exited` returns: nobody else can get it."""

    def __init__(self, child: Child, write_log: Callable[[bytes], None] | None) -> None:
        """Raises OSError when the program cannot be started."""
        self._pipe: IO[bytes] | None = None
        self._write_log = write_log
        self._popen = subprocess.Popen(
            child.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if write_log else None,
            stderr=subprocess.STDOUT if write_log else None,
            env=None if child.env is None else dict(child.env),
            cwd=child.cwd,
            user=child.user,
            group=child.group,
            extra_groups=[] if child.user is not None else None,
            pass_fds=child.pass_fds,
            # Its own group: Ctrl-C in a terminal reaches the supervisor alone.
            process_group=0,
            # Only prctl runs between fork and exec; no Python lock is taken there.
            preexec_fn=dying_with_parent(child.parent_death_signal),  # noqa: PLW1509
        )
        self.pid: Final = self._popen.pid
        self.birth: Final = birth_mark(self.pid)
        self._has_exited = asyncio.Event()
        self._waiter = asyncio.get_running_loop().create_task(
            self._await_exit(), name=f"child.{child.name}.exit"
        )
        if write_log:
            self._follow_output()

    @property
    def returncode(self) -> int | None:
        """The exit status (negative: the signal), None while it runs."""
        return self._popen.returncode

    async def exited(self) -> int:
        """Wait for the end. What is left of its process group is killed with it."""
        await asyncio.shield(self._waiter)
        return self._popen.returncode

    def signal(self, signum: int) -> None:
        """Signal the child, if it still runs."""
        if self._popen.returncode is None:
            self._popen.send_signal(signum)

    def kill_group(self) -> None:
        """SIGKILL to the child and what it left in its group."""
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def stop(self, signum: int, timeout_s: float) -> int:
        """Ask, wait, kill past the timeout; the exit status."""
        self.signal(signum)
        try:
            async with asyncio.timeout(timeout_s):
                return await self.exited()
        except TimeoutError:
            self.kill_group()
            return await self.exited()

    async def _await_exit(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            await self._poll_exit()
        else:
            dead = asyncio.Event()
            loop.add_reader(descriptor, dead.set)
            try:
                await dead.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
            # Until poll() reaps it the zombie holds pid and group: this can hit no stranger.
            self.kill_group()
            while self._popen.poll() is None:  # noqa: ASYNC110 - a zombie is reaped at once
                await asyncio.sleep(0.001)

    async def _poll_exit(self) -> None:
        while self._popen.poll() is None:  # noqa: ASYNC110 - this kernel has no descriptor of it
            await asyncio.sleep(_EXIT_POLL_S)

    def _follow_output(self) -> None:
        pipe = self._popen.stdout
        assert pipe is not None
        os.set_blocking(pipe.fileno(), False)
        self._pipe = pipe
        asyncio.get_running_loop().add_reader(pipe.fileno(), self._read_output)

    def _read_output(self) -> None:
        pipe, write_log = self._pipe, self._write_log
        if pipe is None or write_log is None:
            return
        try:
            content = os.read(pipe.fileno(), _PIPE_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            content = b""
        if content:
            write_log(content)
        else:
            self.close_output()

    def drain_output(self) -> None:
        """Take what a dead child left in its pipe, then close it."""
        while self._pipe is not None:
            try:
                content = os.read(self._pipe.fileno(), _PIPE_READ_BYTES)
            except OSError:
                break
            if not content or self._write_log is None:
                break
            self._write_log(content)
        self.close_output()

    def close_output(self) -> None:
        """Stop following the output."""
        if self._pipe is not None:
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self._pipe.close()
            self._pipe = None
