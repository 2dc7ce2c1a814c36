"""What lies ahead of what is booked: the missing range is asked for, or known to be booked, or lost."""

from collections.abc import Iterable

import msgspec

from contracts.checkpoint import Position
from contracts.records import ParcelHeaders
from metering.holding import Holding
from metering.losses import Losses
from metering.partition_ports import PartitionPorts
from metering.reading import NOWHERE, Gap, Reading


class Wait(msgspec.Struct, frozen=True):
    """Patience with the gap at an offset: how long, and when it ends."""

    offset: int
    patience_ms: int
    until_ms: int


class Gaps:
    """Of one partition."""

    def __init__(self, ports: PartitionPorts, holding: Holding, losses: Losses) -> None:
        self._ports = ports
        self._holding = holding
        self._losses = losses
        self._asked_at_ms: dict[str, int] = {}
        self._republished: set[str] = set()
        self._waits: dict[str, Wait] = {}
        self._jumps: dict[str, dict[int, int]] = {}

    def begin(self, *, is_older: bool) -> None:
        """The partition is taken anew, perhaps with an older checkpoint than before."""
        self._republished = set()
        if is_older:
            self._waits, self._jumps = {}, {}

    def is_crossed(self, reading: Reading, headers: ParcelHeaders) -> bool:
        """Whether a parcel lies behind a gap that the ledger holds, and nobody filled it."""
        name = headers.incarnation.hex()
        position = reading.positions.get(name)
        if position is None or name not in self._jumps:
            return False
        return headers.offset <= self._jumps[name].get(position.offset, 0)

    async def mend(self, reading: Reading) -> bool:
        """Ask for what is missing; whether parcels were sent through once more."""
        is_mended = False
        now_ms = self._ports.clock.monotonic_ms()
        for name, gap in reading.gaps.items():
            incarnation = bytes.fromhex(name)
            if incarnation in self._holding.breaker.quarantined:
                continue
            if incarnation in self._losses.incarnations and name not in self._republished:
                # Nothing will fill this gap. What lies ahead of it is sent through once more, and
                # the first of it is then booked across the gap.
                booked = reading.positions.get(name, NOWHERE).offset
                ahead = await self._ahead(incarnation, booked, gap)
                await self._republish(seq for _, _, seq in ahead)
                self._republished.add(name)
                is_mended = True
            position = reading.positions.get(name)
            asked_at_ms = self._asked_at_ms.get(name)
            if asked_at_ms is None or now_ms - asked_at_ms >= self._ports.limits.gap_ask_ms:
                self._asked_at_ms[name] = now_ms
                self._holding.progress.gaps += 1
                await self._ports.stream.ask_again(
                    incarnation, 0 if position is None else position.offset
                )
            if position is not None and self._has_waited(name, position, now_ms):
                is_mended |= await self._cross(incarnation, position, gap)
        return is_mended

    def _has_waited(self, name: str, position: Position, now_ms: int) -> bool:
        """A checkpoint that was put back asks for what its shipper deleted as booked long ago.

        What the journal still holds comes first, because an admission without an end is in no
        ledger: so there is time to send it. Each time at the same offset it is twice as long.
        """
        if position.verify_to == 0:
            return False
        wait = self._waits.get(name)
        if wait is not None and wait.offset == position.offset:
            if now_ms < wait.until_ms:
                return False
            patience_ms = wait.patience_ms * 2
        else:
            wait, patience_ms = None, self._ports.limits.booking_deadline_ms
            patience_ms += self._ports.limits.execution_max_ms
        self._waits[name] = Wait(position.offset, patience_ms, now_ms + patience_ms)
        return wait is not None

    async def _cross(self, incarnation: bytes, position: Position, gap: Gap) -> bool:
        """Go on with what the stream holds, which may be all there is: its shipper has it booked.

        Gaps are stepped over up to the ledger's mark, which shows that they were booked, and only
        to the lowest parcel beyond, whoever reads what in which order meanwhile.
        """
        jumps, useful, reached = {}, [], position.offset
        for offset, end, seq in await self._ahead(incarnation, position.offset, gap):
            if offset > reached:
                if offset > position.verify_to:
                    break
                jumps[reached] = offset
            reached = max(reached, end)
            useful.append(seq)
        self._jumps[incarnation.hex()] = jumps
        await self._republish(useful)
        return bool(useful)

    async def _ahead(self, incarnation: bytes, booked: int, gap: Gap) -> list[tuple[int, int, int]]:
        """Offset, end and sequence of what the stream holds beyond `booked`, by offset."""
        ahead = []
        last_seq = (await self._ports.stream.state()).last_seq
        async for message in self._ports.between(gap.first_seq, last_seq):
            headers = message.headers
            if headers is not None and headers.incarnation == incarnation:
                ahead.append((headers.offset, headers.offset + len(message.content), message.seq))
        return sorted(each for each in ahead if each[1] > booked)

    async def _republish(self, seqs: Iterable[int]) -> None:
        """Send parcels that lie behind the reader through once more."""
        stream = self._ports.stream
        for seq in seqs:
            for message in (await stream.read(seq, 1))[:1]:
                if message.seq == seq:
                    await stream.republish(message)
