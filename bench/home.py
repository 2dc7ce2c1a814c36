"""Where the bench keeps what it installs and writes: BENCH_HOME, else .tollway/bench here."""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent


class SetupFailed(RuntimeError):
    """Something is missing on this machine; what, is said on standard error."""


def bench_home() -> Path:
    """Made when it is not there."""
    home = Path(os.environ.get("BENCH_HOME", _HERE.parent / ".tollway" / "bench")).resolve()
    home.mkdir(parents=True, exist_ok=True)
    return home


class AlreadyMeasuring(RuntimeError):
    """Another bench runs here; two would measure each other."""

    def __init__(self, home: Path) -> None:
        super().__init__(f"another bench is running in {home}")


@contextlib.contextmanager
def only_one(home: Path) -> Iterator[Path]:
    """Gives an empty directory for what targets write. Raises AlreadyMeasuring."""
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyMeasuring(home) from None
        work = home / "work"
        # A bench that was killed could not clear it.
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def set_up(home: Path, targets: Iterable[str]) -> None:
    """Brings what the targets need, the first time from the network. Raises SetupFailed."""
    names = [name for name in targets if name in ("nginx", "litellm", "tensorzero")]
    done = subprocess.run(
        # Without a name it would bring all of them.
        [_HERE / "setup", *(names or ["none"])],
        env={**os.environ, "BENCH_HOME": str(home)},
        check=False,
    )
    if done.returncode != 0:
        raise SetupFailed(f"bench/setup ended with status {done.returncode}")
