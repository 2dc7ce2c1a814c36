"""What the kernel says of cores and processes: CPU time, memory, which core runs what."""

import contextlib
import os
import resource
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")
_LOW_PRIORITY: Final = 10


class CoreTime(msgspec.Struct, frozen=True):
    """Seconds since boot that one core was not idle."""

    busy_s: float


def core_time(core: int) -> CoreTime:
    """Reads it now. Raises ValueError for a core that is not there."""
    for line in (_PROC / "stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            ticks = [int(field) for field in fields]
            # All but idle, waiting for a disk, and the guest columns, which user time includes.
            return CoreTime((sum(ticks[:3]) + sum(ticks[5:8])) / _TICKS_PER_S)
    raise ValueError(f"there is no core {core}")


def tree(pid: int) -> list[int]:
    """A process and all it started that still lives."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields is not None:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        left += children.get(one, [])
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds the processes used since they began, their reaped children included."""
    total = 0
    for pid in pids:
        fields = _stat(pid)
        if fields is not None:
            total += sum(int(field) for field in fields[11:15])
    return total / _TICKS_PER_S


def pss_mb(pids: Iterable[int]) -> float:
    """Memory in MB, shared pages counted by their share."""
    total_kb = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total_kb += int(line.split()[1])
    return total_kb / 1024


class PeakMemory:
    """How far processes rise above what they have now. The kernel keeps the mark, nobody looks."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._before_kb: dict[int, int] = {}
        for pid in pids:
            try:
                # "5" forgets the highest mark and touches nothing else.
                (_PROC / str(pid) / "clear_refs").write_text("5")
                self._before_kb[pid] = _status_kb(pid, "VmRSS")
            except OSError:
                continue

    def rise_mb(self) -> float | None:
        """Sum over the processes since this was made, in MB; None where the kernel forbids it."""
        if not self._before_kb:
            return None
        rises_kb = 0
        for pid, before_kb in self._before_kb.items():
            with contextlib.suppress(OSError):
                rises_kb += max(0, _status_kb(pid, "VmHWM") - before_kb)
        return rises_kb / 1024


def _status_kb(pid: int, name: str) -> int:
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def raise_descriptor_limit() -> int:
    """Lets this process and its children open as many files as they may; how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def pin(pid: int, cores: set[int]) -> None:
    """Moves a running process, every thread of it. Threads made later inherit."""
    for thread in (_PROC / str(pid) / "task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


def yield_to_others(pid: int) -> None:
    """Lowers the priority of a running process, every thread of it: on a busy core it waits."""
    for thread in (_PROC / str(pid) / "task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), _LOW_PRIORITY)


def wait_until_quiet(cores: Iterable[int], limit_s: float, *, busy_share_max: float = 0.12) -> None:
    """Returns when every core was nearly idle for a second, or when the limit is over."""
    cores = list(cores)
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        before = [core_time(core).busy_s for core in cores]
        time.sleep(1.0)
        after = [core_time(core).busy_s for core in cores]
        if max(b - a for a, b in zip(before, after, strict=True)) < busy_share_max:
            return


def _stat(pid: int) -> list[str] | None:
    """The fields after the command's name, which may itself hold blanks and brackets."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
