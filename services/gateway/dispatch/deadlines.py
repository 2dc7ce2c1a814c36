"""Ends exchanges that take too long, with one clock for all of them instead of a timer apiece."""

import asyncio
from typing import Final

TICK_S: Final = 0.1


class Deadlines:
    """The time limits of the tasks of one worker. They are rounded up to a tick, never cut short."""

    def __init__(self) -> None:
        self._at_by_task: dict[asyncio.Task[object], float] = {}
        self._expired: set[asyncio.Task[object]] = set()

    def arm(self, task: asyncio.Task[object], seconds: float) -> None:
        """From now on `task` has so long; it is cancelled when it takes longer."""
        self._at_by_task[task] = asyncio.get_running_loop().time() + seconds

    def disarm(self, task: asyncio.Task[object]) -> bool:
        """No limit any more. True when the task was cancelled for being late."""
        self._at_by_task.pop(task, None)
        if task in self._expired:
            self._expired.discard(task)
            return True
        return False

    async def run(self) -> None:
        """Watches the clock until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            late = [task for task, at in self._at_by_task.items() if at <= now]
            for task in late:
                del self._at_by_task[task]
                self._expired.add(task)
                task.cancel("deadline")
