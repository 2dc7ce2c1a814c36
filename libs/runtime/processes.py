"""Who a process is: a pid alone may be recycled, a pid with its birth mark may not."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_IS_LINUX: Final = sys.platform == "linux"


def birth_mark(pid: int) -> str | None:
    """A text that no other process with this pid will ever have; None when there is no such one.

    On Linux the boot's id and the start in clock ticks: wall-clock corrections do not move it.
    A zombie counts as gone.
    """
    if not _IS_LINUX:
        return _birth_mark_portable(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The command name may hold blanks and brackets: fields are counted from the last bracket.
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else f"{_boot_id()}:{fields[19]}"


def _birth_mark_portable(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return f"{process.create_time():.2f}"
    except psutil.Error:
        return None


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()[:8]
    except OSError:
        return "boot"


def is_same(pid: int | None, birth: str | None) -> bool:
    """Whether the process that was recorded as (pid, birth) still runs."""
    return pid is not None and birth is not None and birth_mark(pid) == birth


def send_signal(pid: int | None, birth: str | None, signum: int) -> bool:
    """Signal exactly the recorded process; False when it is gone or its pid belongs to another.

    Raises PermissionError when it is another user's.
    """
    if pid is None or birth is None:
        return False
    if not _IS_LINUX:
        if not is_same(pid, birth):
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
            return True
        return False
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor pins whoever has the pid now; only then is the mark worth comparing.
        if birth_mark(pid) != birth:
            return False
        signal.pidfd_send_signal(descriptor, signum)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)


def stop_recorded(
    pid: int | None, birth: str | None, *, signum: int = signal.SIGTERM, timeout_s: float = 10.0
) -> bool:
    """Signal a recorded process that is not our child, wait, SIGKILL past the timeout.

    True when it runs no more (or never did); False when even SIGKILL left it for a second.
    """
    if not send_signal(pid, birth, signum):
        return True
    if _gone_within(pid, birth, timeout_s):
        return True
    send_signal(pid, birth, signal.SIGKILL)
    return _gone_within(pid, birth, 1.0)


def _gone_within(pid: int | None, birth: str | None, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while is_same(pid, birth):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@cache
def _prctl() -> Callable[..., int] | None:
    if not _IS_LINUX:
        return None
    function: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
    return function


def dying_with_parent(signum: int) -> Callable[[], None] | None:
    """What a fork runs before exec so that the kernel signals it when its parent dies.

    None where the kernel has no such thing. It runs after the change of user, which would clear
    the request; it must be spawned from the thread that lives as long as the process.
    """
    prctl = _prctl()
    if prctl is None:
        return None
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
        if os.getppid() != parent:  # It died before we could ask.
            os._exit(1)

    return ask_kernel
