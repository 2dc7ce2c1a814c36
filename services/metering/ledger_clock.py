"""The ledger's clock: deadlines are set and waited for by it, because it alone refuses inserts."""

from collections.abc import Awaitable, Callable

from metering.partition_ports import PartitionPorts


class LedgerClock:
    """Carried on by this process's monotonic clock from the newest look at it."""

    def __init__(self, ports: PartitionPorts) -> None:
        self._ledger = ports.ledger
        self._clock = ports.clock
        self._limits = ports.limits
        self._ahead_ms = 0
        self._looked_at_ms = 0

    def now_ms(self) -> int:
        """Unix milliseconds there, about now."""
        return self._clock.monotonic_ms() + self._ahead_ms

    def deadline_ms(self) -> int:
        """Until when an insert that is sent now may land."""
        return self.now_ms() + self._limits.booking_deadline_ms

    def is_stale(self) -> bool:
        """Whether it is time for another look."""
        return self._clock.monotonic_ms() - self._looked_at_ms >= self._limits.ledger_check_ms

    async def look(self) -> None:
        """Ask the ledger for the time. Raises Unavailable."""
        self._ahead_ms = await self._ledger.now_ms() - self._clock.monotonic_ms()
        self._looked_at_ms = self._clock.monotonic_ms()

    async def let_pass(
        self, insert_by_ms: int, look: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Wait until nothing that had to be inserted by then can land any more.

        `look` is called now and then; what it raises ends the wait.
        """
        passed_at_ms = insert_by_ms + self._limits.execution_max_ms
        while (now_ms := await self._ledger.now_ms()) <= passed_at_ms:
            await self._clock.sleep(min(passed_at_ms - now_ms + 1, self._limits.look_ms) / 1000)
            if look is not None:
                await look()
        self._ahead_ms = now_ms - self._clock.monotonic_ms()
