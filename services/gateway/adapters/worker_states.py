"""What the data workers say of themselves, read where they write it."""

from pathlib import Path

import msgspec

from runtime.processes import is_same


class _State(msgspec.Struct, frozen=True):
    """The part of a worker's state that says whether it serves. It is written once the snapshot is
    loaded.
    """

    pid: int
    birth: str | None
    is_ready: bool


_decode = msgspec.json.Decoder(_State).decode


def state_path(run_dir: Path, index: int) -> Path:
    """Where a data worker writes its state."""
    return run_dir / f"gateway-worker-{index}.state.json"


def workers_not_ready(run_dir: Path, worker_count: int) -> list[int]:
    """The numbers of the data workers that serve nobody."""
    return [
        index for index in range(1, worker_count + 1) if not _serves(state_path(run_dir, index))
    ]


def _serves(path: Path) -> bool:
    try:
        state = _decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return False
    return state.is_ready and is_same(state.pid, state.birth)
