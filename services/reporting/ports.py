"""The seams of reporting: the ledger it reads, the configured keys, and how far metering is."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from contracts.reports import PartitionProgress
from reporting.queries.query import Query
from reporting.questions import Window


class Ledger(Protocol):
    """The ledger, read-only."""

    async def rows(self, query: Query) -> Sequence[Sequence[Any]]:
        """The rows of one SELECT, whole.

        Raises Unavailable, Busy, QuestionTooLarge, QuestionTimedOut, LedgerFailed.
        """
        ...


class KeyFilter(msgspec.Struct, frozen=True):
    """Which keys of the configuration. Empty and None mean any; `created` is the window of their
    creation; `name` is a part of the name, whatever its case; tags must all be there.
    """

    key_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    name: str = ""
    revoked: bool | None = None
    created: Window | None = None


class KeyDirectory(Protocol):
    """The keys as configured: the ledger knows only those that were used."""

    async def key_ids(self, wanted: KeyFilter, rows_max: int) -> list[str]:
        """Ids of the keys that match, at most rows_max + 1. Raises Unavailable."""
        ...


class Progress(Protocol):
    """What metering says of itself."""

    async def partitions(self) -> list[PartitionProgress]:
        """Every partition that has a checkpoint, in order. Raises Unavailable."""
        ...
