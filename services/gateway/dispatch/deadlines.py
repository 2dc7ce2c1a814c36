"""Ends exchanges that take too long, with one clock for all of them instead of a timer apiece.

The same clock looks for clients that have left, where nobody else would notice.
"""

import asyncio
from types import TracebackType
from typing import Final

from gateway.values import ClientLeft, Reply

TICK_S: Final = 0.1


class Deadline:
    """A time limit, while its `with` lasts.

    Its task is cancelled when it takes longer, and when the client has left who was to read the
    answer, if `reader` is given. That ends the block as TimeoutError or ClientLeft; a cancellation
    from elsewhere passes through.
    """

    __slots__ = ("_armed", "_at", "_reader", "_reason", "_task")

    def __init__(
        self, armed: set["Deadline"], task: asyncio.Task[object], at: float, reader: Reply | None
    ) -> None:
        self._armed = armed
        self._task = task
        self._at = at
        self._reader = reader
        self._reason: type[TimeoutError | ClientLeft] | None = None

    def __enter__(self) -> None:
        self._armed.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._armed.discard(self)
        if self._reason is not None and kind is asyncio.CancelledError:
            self._task.uncancel()
            raise self._reason from None

    def look(self, now: float) -> None:
        """Ends it if there is a reason."""
        if self._at <= now:
            self._reason = TimeoutError
        elif self._reader is not None and self._reader.is_gone:
            self._reason = ClientLeft
        else:
            return
        self._armed.discard(self)
        self._task.cancel("deadline")


class Deadlines:
    """The time limits of the tasks of one worker. They are rounded up to a tick, never cut short."""

    def __init__(self) -> None:
        self._armed: set[Deadline] = set()

    def after(
        self, seconds: float, task: asyncio.Task[object], reader: Reply | None = None
    ) -> Deadline:
        """So long from now on."""
        at = asyncio.get_running_loop().time() + seconds
        return Deadline(self._armed, task, at, reader)

    async def run(self) -> None:
        """Watches the clock until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            for deadline in tuple(self._armed):
                deadline.look(now)
