"""One coarse timer for all connections of an engine: a deadline costs an integer, not a timer."""

import asyncio
import math
import sys
from typing import Final, Protocol

NEVER: Final = sys.maxsize


class Watched(Protocol):
    """Something with a deadline, in ticks of its clock."""

    deadline_tick: int

    def expire(self) -> None:
        """The deadline has passed. Ends it or sets a later one."""
        ...

    def abort(self) -> None:
        """End now; `forget` follows."""
        ...


class TickClock:
    """Counts ticks of `tick_s` seconds while anything is watched, and expires what is due.

    A tick follows the one before it, however late: a loop that stood still for seconds does not
    blame its upstreams for the silence.
    """

    def __init__(self, tick_s: float) -> None:
        self.tick = 0
        self._tick_s = tick_s
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    def ticks(self, seconds: float) -> int:
        """How many ticks from now are surely no less than `seconds`."""
        return math.ceil(seconds / self._tick_s) + 1

    def watch(self, watched: Watched) -> None:
        """Look at its deadline on every tick."""
        self._watched.add(watched)
        if self._timer is None:
            self._arm()

    def forget(self, watched: Watched) -> None:
        """Look no more. The timer stops when nothing is left."""
        self._watched.discard(watched)
        if not self._watched:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._emptied is not None and not self._emptied.done():
                self._emptied.set_result(None)

    def watched_count(self) -> int:
        """How many are watched."""
        return len(self._watched)

    async def abort_all(self) -> None:
        """End everything watched, and wait until it is gone."""
        while self._watched:
            self._emptied = asyncio.get_running_loop().create_future()
            for watched in list(self._watched):
                watched.abort()
            await self._emptied

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._advance)

    def _advance(self) -> None:
        self.tick += 1
        tick = self.tick
        for watched in [each for each in self._watched if each.deadline_tick <= tick]:
            watched.expire()
        if self._watched:
            self._arm()
        else:
            self._timer = None
