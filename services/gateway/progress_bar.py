"""Shows on a terminal how far something has come; nothing elsewhere."""

import contextlib
import sys
from collections.abc import Callable, Iterator

Advance = Callable[[], None]


@contextlib.contextmanager
def progress_bar(name: str, total: int) -> Iterator[Advance]:
    """On standard error, one step for each call of what it yields."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=total)
        yield lambda: progress.advance(task)
