"""Journals whose rest will not come: an operator said so, or nothing was heard of them for long."""

import msgspec

from metering.holding import Holding
from metering.partition_ports import PartitionPorts
from metering.reading import Reading


class Losses:
    """Of one partition. `incarnations` are those that count as lost now."""

    def __init__(self, ports: PartitionPorts, holding: Holding) -> None:
        self._ports = ports
        self._holding = holding
        self.incarnations: frozenset[bytes] = frozenset()
        self._read_at_ms = 0
        self._idle_since_ms: int | None = None

    async def read(self) -> None:
        """What operators declared; what silence said before is forgotten. Raises Unavailable."""
        self.incarnations = await self._ports.checkpoints.lost()
        self._read_at_ms = self._ports.clock.monotonic_ms()

    async def read_now_and_then(self) -> None:
        """The same, if the last time was long ago."""
        now_ms = self._ports.clock.monotonic_ms()
        if now_ms - self._read_at_ms >= self._ports.limits.lost_check_ms:
            await self.read()

    def add_silent(self, reading: Reading) -> None:
        """A day without a word from an incarnation is a loss, if there has been nothing left to
        read for a while: after an outage of a day the words are still on their way."""
        limits, clock = self._ports.limits, self._ports.clock
        now_ms = clock.monotonic_ms()
        if reading.last_seq or self._idle_since_ms is None:
            self._idle_since_ms = None if reading.last_seq else now_ms
            return
        if now_ms - self._idle_since_ms < limits.silence_settle_ms:
            return
        silent_before_ms = clock.now_ms() - limits.silence_ms
        silent = set()
        for incarnation in self._holding.openings.incarnations():
            position = self._holding.positions.get(incarnation.hex())
            if position is not None and position.last_time_ms < silent_before_ms:
                silent.add(incarnation)
        self.incarnations |= silent

    def end(self, reading: Reading) -> bool:
        """A lost incarnation counts as ended, which its shipper and the checkpoint's size wait for.

        Whether there was one that had not.
        """
        has_ended = False
        for name in map(bytes.hex, self.incarnations):
            position = reading.positions.get(name)
            if position is not None and position.ended_at_ms is None:
                reading.positions[name] = msgspec.structs.replace(
                    position, ended_at_ms=self._ports.clock.now_ms()
                )
                reading.ended.append(name)
                has_ended = True
        return has_ended
