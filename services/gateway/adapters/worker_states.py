"""What the data workers say of themselves, read where they write it."""

from pathlib import Path

import msgspec

from runtime.processes import is_same


class WorkerState(msgspec.Struct, frozen=True):
    """What a data worker says of itself, in `<DATA_DIR>/run/gateway-worker-<index>.state.json`.

    Workers with equal fingerprints have read the same configuration; `configuration_unusable` of
    it, logged by name, cannot be put in force.
    """

    pid: int
    birth: str | None
    is_ready: bool
    configuration_revision: int
    configuration_fingerprint: str
    configuration_unusable: int
    keys: int
    started_at_ms: int
    counts: dict[str, int]
    by_model: dict[str, list[int]]
    by_provider: dict[str, list[int]]
    journal: dict[str, object]


_decode = msgspec.json.Decoder(WorkerState).decode


def state_path(run_dir: Path, index: int) -> Path:
    """Where a data worker writes its state."""
    return run_dir / f"gateway-worker-{index}.state.json"


def read_state(path: Path) -> WorkerState | None:
    """What a worker that is alive says; None before its snapshot is loaded."""
    try:
        state = _decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return state if is_same(state.pid, state.birth) else None


def workers_not_ready(run_dir: Path, worker_count: int) -> list[int]:
    """The numbers of the data workers that serve nobody."""
    states = {index: read_state(state_path(run_dir, index)) for index in range(1, worker_count + 1)}
    return [index for index, state in states.items() if state is None or not state.is_ready]
