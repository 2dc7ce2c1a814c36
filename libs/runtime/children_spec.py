"""What is declared of a child before it runs."""

import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from runtime.state import Kind

Probe = Callable[[], Awaitable[str | None]]
"""None when the child is ready, else why not yet. It may raise OSError or TimeoutError."""


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """A program to keep running.

    `env` is the whole environment, None to inherit ours. `parent_death_signal` is what the kernel
    sends it when the supervisor dies without a word. `stop_after` names members of the same tuple
    that must have stopped before this one is asked to.
    """

    name: str
    argv: tuple[str, ...]
    kind: Kind
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    user: str | int | None = None
    group: str | int | None = None
    pass_fds: tuple[int, ...] = ()
    probe: Probe | None = None
    ready_timeout_s: float = 60.0
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = 10.0
    stop_after: tuple[str, ...] = ()
    parent_death_signal: int = signal.SIGKILL
    port: int | None = None
    version: str | None = None


class Step(msgspec.Struct, frozen=True):
    """Something to be done once, in its place in the order, when all before it are ready."""

    name: str
    run: Callable[[], Awaitable[None]]


class RestartLimits(msgspec.Struct, frozen=True):
    """How a dead child comes back: pauses double up to a limit and start anew once it was well."""

    pause_first_s: float = 0.2
    pause_max_s: float = 30.0
    jitter_ratio: float = 0.5
    well_after_s: float = 30.0
    deaths_at_start_max: int = 3
    probe_interval_s: float = 0.03
    probe_timeout_s: float = 2.0


class StartFailed(RuntimeError):
    """A child did not become ready; `last_lines` are the end of its log."""

    def __init__(self, name: str, reason: str, last_lines: list[str]) -> None:
        super().__init__(f"{name} did not start: {reason}")
        self.name = name
        self.reason = reason
        self.last_lines = last_lines
