"""`tollway down`, `status`, `logs`: what runs on a data directory."""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from infra.cli.parameters import DATA_DIR_DEFAULT, AsJson, DataDir
from infra.cli.problems import Problem
from infra.embedded.instance import launcher_state
from infra.embedded.leftovers import end_leftovers, leftovers
from runtime.logs import tail
from runtime.processes import stop_recorded
from runtime.state import ProcessRow, read_states, rows

NOT_RUNNING_STATUS = 3


def down(
    *,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    timeout: Annotated[
        float, Parameter(help="Seconds to wait for a clean end before killing.")
    ] = 120.0,
) -> int:
    """Stop what `up` started, in reverse order. Nothing running is fine."""
    data_dir = data_dir.resolve()
    state = launcher_state(data_dir)
    if state is None and not leftovers(data_dir):
        sys.stderr.write("nothing runs\n")
        return 0
    began = time.monotonic()
    if state is not None:
        stop_recorded(state.pid, state.birth, signum=signal.SIGTERM, timeout_s=timeout)
    stubborn = end_leftovers(data_dir)
    if stubborn:
        names = ", ".join(f"{process.name} (pid {process.pid})" for process in stubborn)
        raise Problem(f"these would not end: {names}")
    sys.stderr.write(f"stopped in {time.monotonic() - began:.1f} s\n")
    return 0


def status(*, data_dir: DataDir = DATA_DIR_DEFAULT, as_json: AsJson = False) -> int:
    """Show every process, its state and its restarts. Exit status 3 when nothing runs."""
    data_dir = data_dir.resolve()
    found = rows(read_states(data_dir))
    if as_json:
        sys.stdout.write(json.dumps({"processes": msgspec.to_builtins(found)}) + "\n")
    elif found:
        _show(found)
    else:
        left = leftovers(data_dir)
        if left:
            names = ", ".join(f"{process.name} (pid {process.pid})" for process in left)
            sys.stderr.write(f"not running, but left behind: {names}; `tollway down` ends them\n")
        else:
            sys.stderr.write(f"nothing runs on {data_dir}\n")
    return 0 if found else NOT_RUNNING_STATUS


def _show(found: list[ProcessRow]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "kind", "pid", "port", "state", "uptime", "version", "restarts", box=None)
    for row in found:
        uptime = "" if row.uptime_s is None else f"{row.uptime_s:.0f} s"
        cells = (row.name, row.kind, row.pid, row.port, row.state, uptime, row.version)
        table.add_row(*("" if cell is None else str(cell) for cell in cells), str(row.restarts))
    Console().print(table)


def logs(
    name: Annotated[str | None, Parameter(help="A process; all when left out.")] = None,
    /,
    *,
    follow: Annotated[
        bool, Parameter(name=("--follow", "-f"), negative="", help="Go on with what is written.")
    ] = False,
    lines: Annotated[int, Parameter(name=("--lines", "-n"), help="Lines of each log.")] = 50,
    data_dir: DataDir = DATA_DIR_DEFAULT,
) -> int:
    """Show the logs of all processes, or of one."""
    log_dir = data_dir.resolve() / "logs"
    paths = {path.stem: path for path in sorted(log_dir.glob("*.log"))}
    if name is not None:
        if name not in paths:
            known = ", ".join(paths) or "none yet"
            raise Problem(f"there is no log of {name!r} in {log_dir}; there are: {known}")
        paths = {name: paths[name]}
    if not paths:
        raise Problem(f"there are no logs in {log_dir}")
    followed = {name: _Followed(path) for name, path in paths.items()}
    prefixed = len(paths) > 1
    for of, path in paths.items():
        for line in tail(path, lines):
            _print_line(of, line, prefixed=prefixed)
    sys.stdout.flush()
    while follow:
        for of, file in followed.items():
            for line in file.new_lines():
                _print_line(of, line, prefixed=prefixed)
        sys.stdout.flush()
        time.sleep(0.2)
    return 0


def _print_line(name: str, line: str, *, prefixed: bool) -> None:
    sys.stdout.write(f"{name}: {line}\n" if prefixed else f"{line}\n")


class _Followed:
    """A log file from its end on, through rotations."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._file.seek(0, 2)
        self._rest = b""

    def new_lines(self) -> list[str]:
        content = self._rest + self._file.read()
        try:
            is_rotated = self._path.stat().st_ino != _inode(self._file.fileno())
        except FileNotFoundError:
            is_rotated = False
        if is_rotated:
            content += self._file.read()
            self._file.close()
            self._file = self._path.open("rb")
            content += self._file.read()
        *whole, self._rest = content.split(b"\n")
        return [line.decode("utf-8", "replace") for line in whole]


def _inode(descriptor: int) -> int:
    import os

    return os.fstat(descriptor).st_ino
