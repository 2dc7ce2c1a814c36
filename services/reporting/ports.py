"""The seams of reporting: the ledger it reads, and metering's word on how far it is."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from reporting.queries.query import Query


class Ledger(Protocol):
    """The ledger, read-only."""

    async def rows(self, query: Query) -> Sequence[Sequence[Any]]:
        """The rows of one SELECT, whole.

        Raises Unavailable, Busy, QuestionTooLarge, QuestionTimedOut, LedgerFailed.
        """
        ...


class PartitionProgress(msgspec.Struct, frozen=True, rename="camel"):
    """How far one partition is booked.

    `metered_up_to_ms` is Unix milliseconds: everything admitted before it is in the ledger; None
    when its meter has not said. `backlog_messages` counts parcels in the stream not yet booked.
    """

    partition: int
    member: str | None
    metered_up_to_ms: int | None
    lag_ms: int | None
    backlog_messages: int | None
    committed_seq: int
    batch_is_pending: bool


class Progress(Protocol):
    """What metering says of itself."""

    async def partitions(self) -> list[PartitionProgress]:
        """Every partition that has a checkpoint, in order. Raises Unavailable."""
        ...
