"""The partitions that a consumer meters now, those with a last batch under way included."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from metering.partition_task import PartitionTask
from metering.state import PartitionState
from runtime.logs import Log

_CANCELLED_WITHIN_S: Final = 1.0


class HeldPartitions:
    """Runs their loops; `change` is set whenever one that was left has ended."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._held: dict[int, tuple[PartitionTask, asyncio.Task[None]]] = {}
        self._leaving: set[int] = set()
        self.change = asyncio.Event()

    def begin(self, number: int, task: PartitionTask) -> None:
        """Run a partition that is not held."""
        assert number not in self._held, f"partition {number} is held already"
        running = asyncio.create_task(task.run(), name=f"partition.{number}")
        self._held[number] = (task, running)

    def leave(self, numbers: Iterable[int], has_left: Callable[[int], None]) -> None:
        """End these after the batch under way; `has_left` hears when each has ended."""
        for number in numbers:
            task, running = self._held[number]
            self._leaving.add(number)
            task.leave()
            running.add_done_callback(self._over(number, has_left))

    def _over(
        self, number: int, has_left: Callable[[int], None]
    ) -> Callable[[asyncio.Task[None]], None]:
        def is_over(running: asyncio.Task[None]) -> None:
            del self._held[number]
            self._leaving.discard(number)
            bug = None if running.cancelled() else running.exception()
            self._log.info(
                "partition.left", partition=number, bug=None if bug is None else repr(bug)
            )
            has_left(number)
            self.change.set()

        return is_over

    def states(self) -> Mapping[int, PartitionState]:
        """How each stands now."""
        return {number: task.state() for number, (task, _) in sorted(self._held.items())}

    def raise_bugs(self) -> None:
        """A partition's loop ends by itself only on a bug: the process ends with it, loudly."""
        for number, (_, running) in self._held.items():
            if running.done() and number not in self._leaving:
                running.result()
                raise AssertionError("a partition's loop has ended by itself")

    async def end(self, timeout_s: float) -> None:
        """End all after the batches under way; what is late is cancelled."""
        for task, _ in self._held.values():
            task.leave()
        waiting = {running for _, running in self._held.values()}
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=timeout_s)
        for running in late:
            # Harmless: an insert that lives on has a deadline, and its batch a pending entry.
            running.cancel()
        if late:
            await asyncio.wait(late, timeout=_CANCELLED_WITHIN_S)
