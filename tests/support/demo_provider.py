"""The demo provider as the program it is."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def running_demo_provider() -> Iterator[str]:
    """Its address, on a free port, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.demo_upstream"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
