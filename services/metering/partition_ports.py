"""The outside of one partition's meter, and the numbers it works within, as one value."""

from collections.abc import AsyncIterator

from metering.limits import Limits
from metering.ports import Billers, Checkpoints, Clock, Ledger, Message, Stream


class PartitionPorts:
    """What every part of the batch protocol works with."""

    def __init__(
        self,
        partition: int,
        *,
        stream: Stream,
        checkpoints: Checkpoints,
        ledger: Ledger,
        clock: Clock,
        billers: Billers,
        limits: Limits,
    ) -> None:
        self.partition = partition
        self.stream = stream
        self.checkpoints = checkpoints
        self.ledger = ledger
        self.clock = clock
        self.billers = billers
        self.limits = limits

    async def between(self, first_seq: int, last_seq: int) -> AsyncIterator[Message]:
        """The stream's messages of a range that lies behind its end."""
        while first_seq <= last_seq:
            messages = await self.stream.read(first_seq, self.limits.bytes_max)
            if not messages:
                return
            for message in messages:
                if message.seq <= last_seq:
                    yield message
            first_seq = messages[-1].seq + 1
