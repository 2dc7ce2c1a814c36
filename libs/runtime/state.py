"""What a supervisor says about its children, in a file that is always whole."""

import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import Literal

import msgspec

from runtime.processes import is_same

Kind = Literal["server", "service", "worker"]
State = Literal["waiting", "starting", "ready", "backing_off", "stopping", "stopped", "gone"]


class ProcessState(msgspec.Struct, frozen=True):
    """One child. `pid`, `birth`, `started_at` (Unix seconds) are None while it does not run."""

    name: str
    kind: Kind
    pid: int | None
    birth: str | None
    port: int | None
    state: State
    started_at: float | None
    restarts: int
    version: str | None


class SupervisorState(msgspec.Struct, frozen=True):
    """A supervisor and its children in the order they are started."""

    supervisor: str
    pid: int
    birth: str | None
    started_at: float
    processes: tuple[ProcessState, ...]

    @property
    def is_running(self) -> bool:
        """Whether the supervisor that wrote this still runs."""
        return is_same(self.pid, self.birth)


class ProcessRow(msgspec.Struct, frozen=True):
    """A line of `tollway status`."""

    name: str
    kind: Kind
    pid: int | None
    port: int | None
    state: State
    uptime_s: float | None
    version: str | None
    restarts: int


def run_dir(data_dir: Path) -> Path:
    """Where state files live."""
    return data_dir / "run"


def make_run_dir(data_dir: Path) -> Path:
    """The same, for whoever writes there; who only reads makes nothing."""
    path = run_dir(data_dir)
    path.mkdir(parents=True, exist_ok=True)
    return path


def state_path(data_dir: Path, supervisor: str) -> Path:
    """The state file of one supervisor."""
    return run_dir(data_dir) / f"{supervisor}.json"


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace a file so that a reader sees the old or the new one, never a part."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(descriptor, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def hold(data_dir: Path, supervisor: str) -> int | None:
    """A descriptor that makes this process the supervisor of that name until it is closed.

    None when another process is.
    """
    # Not inheritable (Python's default): a child that outlived us must not hold the lock.
    path = make_run_dir(data_dir) / f"{supervisor}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def write_state(data_dir: Path, state: SupervisorState) -> None:
    """Write `<data_dir>/run/<supervisor>.json`."""
    path = make_run_dir(data_dir) / f"{state.supervisor}.json"
    write_atomically(path, msgspec.json.encode(state))


def read_state(path: Path) -> SupervisorState | None:
    """A state file's content; None when it is missing or not one of ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=SupervisorState)
    except (OSError, msgspec.DecodeError):
        return None


def read_states(data_dir: Path) -> list[SupervisorState]:
    """Every supervisor's state in a data directory, running or not, by name."""
    directory = run_dir(data_dir)
    if not directory.is_dir():
        return []
    states = [read_state(path) for path in sorted(directory.glob("*.json"))]
    return [state for state in states if state is not None]


def rows(states: list[SupervisorState], *, now: float | None = None) -> list[ProcessRow]:
    """The processes of running supervisors; one whose process is not there is `gone`.

    In the order of starting; the children of a child that supervises follow it.
    """
    now = time.time() if now is None else now
    running = {state.supervisor: state for state in states if state.is_running}
    nested = {process.name for state in running.values() for process in state.processes}
    found: list[ProcessRow] = []

    def add(state: SupervisorState) -> None:
        for process in state.processes:
            found.append(_row(process, now))
            own = running.get(process.name)
            if own is not None and own.pid == process.pid and own is not state:
                add(own)

    for name, state in running.items():
        if name not in nested:
            add(state)
    return found


def _row(process: ProcessState, now: float) -> ProcessRow:
    is_there = is_same(process.pid, process.birth)
    uptime_s = None
    if is_there and process.started_at is not None:
        uptime_s = round(max(0.0, now - process.started_at), 1)
    state = process.state
    if process.pid is not None and not is_there:
        state = "gone"
    return ProcessRow(
        name=process.name,
        kind=process.kind,
        pid=process.pid if is_there else None,
        port=process.port,
        state=state,
        uptime_s=uptime_s,
        version=process.version,
        restarts=process.restarts,
    )
