"""Where the bench keeps what it installs and writes: BENCH_HOME, else .tollway/bench here."""

import os
import subprocess
from collections.abc import Iterable
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
