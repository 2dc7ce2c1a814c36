"""Processes of a launcher that was killed: found by their state files, ended before a new start."""

import signal
from pathlib import Path

from runtime.processes import is_same, stop_recorded
from runtime.state import ProcessState, read_states

STOP_TIMEOUT_S = 20.0


def leftovers(data_dir: Path) -> list[ProcessState]:
    """Processes that still run although their supervisor does not; services first."""
    left = [
        process
        for state in read_states(data_dir)
        if not state.is_running
        for process in state.processes
        if is_same(process.pid, process.birth)
    ]
    order = {"worker": 0, "service": 1, "server": 2}
    return sorted(left, key=lambda process: order[process.kind])


def end_leftovers(data_dir: Path) -> list[ProcessState]:
    """Stop them, one after the other; returns those that would not end."""
    stubborn = []
    for process in leftovers(data_dir):
        signum = signal.SIGINT if process.name == "postgres" else signal.SIGTERM
        if not stop_recorded(process.pid, process.birth, signum=signum, timeout_s=STOP_TIMEOUT_S):
            stubborn.append(process)
    return stubborn
