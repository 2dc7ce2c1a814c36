"""The real ledger, with an insert that fails after some of its rows have landed."""

from collections.abc import Callable, Sequence

from contracts.ledger import Entry
from metering.adapters.clickhouse_ledger import ClickHouseLedger
from metering.adapters.native_block import EntryBlock
from metering.ports import Unavailable

A_MONTH_MS = 31 * 86_400_000
IN_TIME_MS = 60_000
"""Rows that are to land do so however long it takes: their deadline is a later one."""


class HalfLedger:
    """Its next insert leaves the earlier month's rows, and then fails."""

    def __init__(self, ledger: ClickHouseLedger) -> None:
        self._ledger = ledger
        self._entries: Sequence[Entry] = ()
        self.is_broken = True

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    def seal(self, entries: Sequence[Entry]) -> EntryBlock:
        self._entries = entries
        return self._ledger.seal(entries)

    def landing(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """The rows that the failing insert leaves."""
        first = min(entry.occurred_at_ms for entry in entries)
        return [e for e in entries if e.occurred_at_ms < first + A_MONTH_MS // 2]

    async def insert(self, block: EntryBlock, token: str, insert_by_ms: int) -> None:
        if not self.is_broken:
            await self._ledger.insert(block, token, insert_by_ms)
            return
        self.is_broken = False
        if left := self.landing(self._entries):
            await self._ledger.insert(self._ledger.seal(left), token, insert_by_ms + IN_TIME_MS)
        raise Unavailable("killed between two parts")


class EmptyLedger(HalfLedger):
    """Nothing of its next insert lands."""

    def landing(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        return ()


class WholeLedger(HalfLedger):
    """All of its next insert lands, and nobody hears of it."""

    def landing(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        return entries


class ClockAhead:
    """A ledger of either kind whose clock shows another time; its deadlines are the real ones or
    later.

    Set ahead behind a deadline, it is over at once: for inserts of which nothing is under way.
    """

    def __init__(self, ledger: object, ahead_ms: int = 0) -> None:
        self._ledger = ledger
        self.ahead_ms = ahead_ms

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    async def now_ms(self) -> int:
        return int(await self._ledger.now_ms()) + self.ahead_ms  # type: ignore[attr-defined]


def kept_in(ledgers: list[ClockAhead]) -> Callable[[ClickHouseLedger], ClockAhead]:
    """For a meter whose ledger's clock the test puts forward."""

    def keep(ledger: ClickHouseLedger) -> ClockAhead:
        ledgers.append(ClockAhead(ledger))
        return ledgers[-1]

    return keep
