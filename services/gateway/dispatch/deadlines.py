"""Ends exchanges that take too long, with one clock for all of them instead of a timer apiece.

The same clock looks for clients that have left, where nobody else would notice.
"""

import asyncio
from typing import Final

from gateway.values import ClientLeft, Reply

TICK_S: Final = 0.1


class Deadlines:
    """The time limits of the tasks of one worker. They are rounded up to a tick, never cut short."""

    def __init__(self) -> None:
        self._armed: dict[asyncio.Task[object], tuple[float, Reply | None]] = {}
        self._ended: dict[asyncio.Task[object], type[TimeoutError | ClientLeft]] = {}

    def arm(self, task: asyncio.Task[object], seconds: float, reader: Reply | None = None) -> None:
        """From now on `task` has so long; it is cancelled when it takes longer.

        Also when the client has left who was to read the answer, if `reader` is given.
        """
        self._armed[task] = (asyncio.get_running_loop().time() + seconds, reader)

    def disarm(self, task: asyncio.Task[object]) -> type[TimeoutError | ClientLeft] | None:
        """No limit any more. Why the task was cancelled from here, None when it was not."""
        self._armed.pop(task, None)
        return self._ended.pop(task, None) if self._ended else None

    async def run(self) -> None:
        """Watches the clock until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            for task, (at, reader) in list(self._armed.items()):
                if at <= now:
                    self._ended[task] = TimeoutError
                elif reader is not None and reader.is_gone:
                    self._ended[task] = ClientLeft
                else:
                    continue
                del self._armed[task]
                task.cancel("deadline")
