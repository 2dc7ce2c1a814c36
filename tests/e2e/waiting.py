"""Waits for what a running house does in its own time."""

import time
from collections.abc import Callable


def eventually(condition: Callable[[], object], seconds: float = 100) -> object:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)
