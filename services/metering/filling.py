"""What is missing of a batch is inserted: the ledger is asked what it holds, before and after."""

from contracts.checkpoint import Pending
from metering.entries import copy_reversal_of
from metering.limits import Progress
from metering.ports import BatchRow, Billed, Ledger, Unavailable


class Filling:
    """Of one partition's batches."""

    def __init__(self, partition: int, ledger: Ledger, progress: Progress) -> None:
        self._partition = partition
        self._ledger = ledger
        self._progress = progress

    async def fill(self, pending: Pending, billed: Billed, *, is_drifted: bool) -> int:
        """Make the ledger hold each row of the batch with net effect one; how many rows it holds.

        Raises Unavailable when that could not be shown; the next try goes on from there.
        """
        present = await self._ledger.batch(pending.batch_id)
        # Rows of one event lie in one part, which is there or not: under drift the event counts.
        if is_drifted:
            events = {row.event_id for row in present}
            missing = [entry for entry in billed.entries if entry.event_id not in events]
        else:
            ids = {row.entry_id for row in present}
            missing = [entry for entry in billed.entries if entry.entry_id not in ids]
        by_id = {entry.entry_id: entry for entry in billed.entries}
        copies = {row.entry_id: row.copies for row in present}
        for row in present:
            entry = by_id.get(row.entry_id)
            if entry is None or row.copies == 1:
                continue
            reversal = copy_reversal_of(entry)
            surplus = row.copies - 1 - copies.get(reversal.entry_id, 0)
            self._progress.copies_reversed += surplus
            missing += [reversal] * surplus
        if missing:
            await self._ledger.insert(
                self._ledger.seal(missing),
                f"{pending.batch_id}:{pending.attempt}",
                pending.insert_by_ms,
            )
            present = await self._ledger.batch(pending.batch_id)
        self._prove(pending, billed, present, is_drifted=is_drifted)
        return sum(row.copies for row in present)

    def _prove(
        self, pending: Pending, billed: Billed, present: list[BatchRow], *, is_drifted: bool
    ) -> None:
        copies = {row.entry_id: row.copies for row in present}
        if is_drifted:
            events = {row.event_id for row in present}
            wrong = [entry for entry in billed.entries if entry.event_id not in events]
        else:
            wrong = [
                entry
                for entry in billed.entries
                if (count := copies.get(entry.entry_id, 0)) != 1
                and count - copies.get(copy_reversal_of(entry).entry_id, 0) != 1
            ]
        if wrong:
            raise Unavailable(
                f"partition {self._partition}: batch {pending.batch_id} attempt {pending.attempt} "
                f"left {len(wrong)} of {len(billed.entries)} rows without net effect one"
            )
