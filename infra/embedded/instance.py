"""What a running `tollway up` leaves in its data directory for other commands to find it."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from runtime.state import (
    SupervisorState,
    make_run_dir,
    read_state,
    run_dir,
    state_path,
    write_atomically,
)

SUPERVISOR: Final = "tollway"


class UpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `tollway up` was asked. `data_dir` is absolute; `workers` 0 is one a core."""

    data_dir: str
    proxy_port: int = 8002
    admin_port: int = 8001
    reporting_port: int = 8003
    workers: int = 0
    with_demo: bool = True


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where an instance is. `environment` is what its services were given beyond the inherited;
    it holds passwords, so the file is its owner's only.
    """

    data_dir: str
    proxy_url: str
    admin_url: str
    reporting_url: str
    demo_upstream_url: str
    environment: dict[str, str]


class Demo(msgspec.Struct, frozen=True, kw_only=True):
    """The demo key as the client sends it, and what it stands on."""

    key: str
    key_id: str
    setting_id: str
    upstream_url: str


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What `tollway up --json` prints."""

    data_dir: str
    proxy_url: str
    admin_url: str
    reporting_url: str
    demo_key: str | None


class DetachedReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a detached instance tells the command that started it, once."""

    outcome: Literal["ready", "failed"]
    announcement: Announcement | None = None
    problem: str = ""


class AlreadyRunning(RuntimeError):
    """Another `up` has this data directory."""

    def __init__(self, data_dir: Path, pid: int | None) -> None:
        who = f" (pid {pid})" if pid else ""
        super().__init__(
            f"{data_dir} is in use by another tollway up{who}; "
            f"see `tollway status`, stop it with `tollway down`"
        )


class NotRunning(RuntimeError):
    """No `up` runs on this data directory."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(f"nothing runs on {data_dir}; start it with `tollway up`")


def make_data_dir(data_dir: Path) -> None:
    """Its owner's only when it is made here: it holds prompts, answers and passwords.

    One that is there already is left as its owner made it.
    """
    if not data_dir.exists():
        data_dir.mkdir(parents=True, mode=0o700, exist_ok=True)


@contextlib.contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Own the data directory until the end of the block. Raises AlreadyRunning."""
    path = make_run_dir(data_dir) / "up.lock"
    # Not inheritable (Python's default): a child that outlived us must not hold the lock.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            state = launcher_state(data_dir)
            raise AlreadyRunning(data_dir, state.pid if state else None) from None
        yield
    finally:
        os.close(descriptor)


def launcher_state(data_dir: Path) -> SupervisorState | None:
    """The launcher that runs on a data directory; None when none does."""
    state = read_state(state_path(data_dir, SUPERVISOR))
    return state if state is not None and state.is_running else None


def write_addresses(data_dir: Path, addresses: Addresses) -> None:
    """For other commands, readable by the owner only."""
    path = make_run_dir(data_dir) / "addresses"
    write_atomically(path, msgspec.json.encode(addresses), mode=0o600)


def find_addresses(data_dir: Path) -> Addresses | None:
    """Those of the instance that runs now, or ran last; None when there are none."""
    try:
        return msgspec.json.decode((run_dir(data_dir) / "addresses").read_bytes(), type=Addresses)
    except (OSError, msgspec.DecodeError):
        return None


def read_addresses(data_dir: Path) -> Addresses:
    """Of the running instance. Raises NotRunning."""
    addresses = find_addresses(data_dir)
    if addresses is None or launcher_state(data_dir) is None:
        raise NotRunning(data_dir)
    return addresses


def write_demo(data_dir: Path, demo: Demo) -> None:
    """Remember the demo key, readable by the owner only."""
    write_atomically(data_dir / "demo.json", msgspec.json.encode(demo), mode=0o600)


def read_demo(data_dir: Path) -> Demo | None:
    """The remembered demo key."""
    try:
        return msgspec.json.decode((data_dir / "demo.json").read_bytes(), type=Demo)
    except (OSError, msgspec.DecodeError):
        return None
