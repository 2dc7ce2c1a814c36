"""Reads a batch: parcels behind the committed sequence, until a limit is reached or waiting ends."""

from contracts.checkpoint import Position
from contracts.records import ParcelHeaders
from metering.gaps import Gaps
from metering.holding import Holding
from metering.losses import Losses
from metering.partition_ports import PartitionPorts
from metering.ports import Message
from metering.reading import Reading


class BatchReader:
    """Of one partition."""

    def __init__(self, ports: PartitionPorts, holding: Holding, losses: Losses, gaps: Gaps) -> None:
        self._ports = ports
        self._holding = holding
        self._losses = losses
        self._gaps = gaps

    async def read(self) -> Reading:
        """What there is. Raises Unavailable.

        A batch waits for more, because an insert of one row costs as much as one of a thousand:
        shortly when the partition was idle, longer right after a batch.
        """
        limits, clock, holding = self._ports.limits, self._ports.clock, self._holding
        reading = Reading(holding.positions, holding.gaps)
        next_seq = holding.checkpoint.committed_seq + 1
        until_ms, poll_ms = 0, limits.poll_ms
        while not self._is_full(reading):
            messages = await self._ports.stream.read(next_seq, limits.bytes_max - reading.bytes)
            now_ms = clock.monotonic_ms()
            if not messages:
                if reading.last_seq == 0 or now_ms >= until_ms:
                    break
                await clock.sleep(min(poll_ms, until_ms - now_ms) / 1000)
                poll_ms = min(poll_ms * 2, limits.poll_max_ms)
                continue
            until_ms = until_ms or max(now_ms + limits.delay_ms, holding.rests_until_ms)
            for message in messages:
                if self._is_full(reading) or not await self._take(reading, message):
                    return reading
                next_seq = message.seq + 1
        return reading

    def _is_full(self, reading: Reading) -> bool:
        limits = self._ports.limits
        return (
            reading.records >= limits.rows_max
            or reading.bytes >= limits.bytes_max
            or reading.ends >= limits.ended_max
        )

    async def _take(self, reading: Reading, message: Message) -> bool:
        headers = message.headers
        if headers is not None and headers.incarnation in self._holding.breaker.quarantined:
            reading.pass_by(message, headers)
            return True
        is_lost = False
        if headers is not None:
            await self._meet(reading, headers)
            is_lost = headers.incarnation in self._losses.incarnations or self._gaps.is_crossed(
                reading, headers
            )
        return reading.take(message, is_lost=is_lost, ended_at_ms=self._ports.clock.now_ms())

    async def _meet(self, reading: Reading, headers: ParcelHeaders) -> None:
        """An incarnation the checkpoint does not name is new, or ended so long ago that it was
        dropped: the ledger knows, and asking once per incarnation costs little.

        A dropped one was booked to its end, with nothing open: any of its parcels may come first.
        """
        name = headers.incarnation.hex()
        if name in reading.positions:
            return
        mark = await self._ports.ledger.mark(headers.incarnation)
        if mark is not None:
            offset = min(headers.offset, mark.offset)
            reading.positions[name] = Position(
                offset, None, 0, mark.segment_no, verify_to=mark.offset
            )
