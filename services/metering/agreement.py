"""Whether a checkpoint agrees with the stream and the ledger: it is a cache, and may be an old one."""

import datetime as dt

import msgspec

from contracts.checkpoint import Checkpoint
from metering.ports import Ledger, Mark, Refused, StreamState


class Agreement:
    """Compares. Refused says what an operator has to do."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def with_stream(self, checkpoint: Checkpoint, state: StreamState) -> None:
        """Raises Refused when the stream is another one, or an older state of it."""
        partition = checkpoint.partition
        if checkpoint.generation != state.generation:
            raise Refused(
                f"partition {partition}: the stream was created at {state.generation}, the "
                f"checkpoint belongs to the one of {checkpoint.generation}. If the stream was "
                f"replaced on purpose, run `tollway resync {partition}`: booking "
                "then starts at its first parcel and looks every event up in the ledger"
            )
        if state.last_seq < checkpoint.committed_seq:
            raise Refused(
                f"partition {partition}: booked up to sequence {checkpoint.committed_seq}, "
                f"but the stream ends at {state.last_seq}: it was restored to an older state. Put "
                "the newer one back, or run "
                f"`tollway resync {partition}` to book again from its first parcel, "
                "looking every event up in the ledger"
            )

    async def with_ledger(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with its newest batch as proved.

        Raises Refused when the ledger does not hold every row since the last one that was: it was
        put back to an older state, and may have been booked in again since. Also when it does not
        hold the newest, which is all that a checkpoint of an earlier build can say.
        """
        newest_ms, expected = checkpoint.newest_batch_ms, checkpoint.rows_since_proved
        if not newest_ms:
            return checkpoint
        rows, of_newest = await self._ledger.rows_between(checkpoint.proved_batch_ms, newest_ms)
        if rows < expected or not of_newest:
            newest = dt.datetime.fromtimestamp(newest_ms / 1000, dt.UTC)
            lacks = (
                f"{expected - rows} of {expected} rows of" if rows < expected else "the newest of"
            )
            raise Refused(
                f"partition {checkpoint.partition}: the ledger lacks {lacks} the last batches, "
                f"committed up to {newest:%Y-%m-%d %H:%M:%S} UTC: the ledger was restored to an "
                "older state. Put one back that holds them all, or run "
                f"`tollway resync {checkpoint.partition}` to book from the stream what the "
                "ledger does not hold"
            )
        return msgspec.structs.replace(
            checkpoint, proved_batch_ms=newest_ms, rows_since_proved=of_newest
        )

    async def later_marks(self, checkpoint: Checkpoint) -> dict[bytes, Mark]:
        """Of every batch that was booked on top of this checkpoint, and is not its own."""
        pending = checkpoint.pending
        return await self._ledger.marks(
            checkpoint.newest_batch_ms, None if pending is None else pending.batch_id
        )


def unknown(marks: dict[bytes, Mark], checkpoint: Checkpoint) -> dict[str, Mark]:
    """Those that lie beyond what a checkpoint knows to be booked."""
    beyond = {}
    for incarnation, mark in marks.items():
        position = checkpoint.incarnations.get(incarnation.hex())
        if position is None or mark.offset > max(position.offset, position.verify_to):
            beyond[incarnation.hex()] = mark
    return beyond


def newest_ms(marks: dict[bytes, Mark]) -> int:
    """The time of the newest batch among marks, 0 without any."""
    return max((mark.batch_ms for mark in marks.values()), default=0)


def rows_of(marks: dict[bytes, Mark]) -> int:
    """How many the ledger holds of what the marks are of."""
    return sum(mark.rows for mark in marks.values())


def aware_of(marks: dict[bytes, Mark], checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint, on top of which ids later than all of these are made; their rows count too."""
    return msgspec.structs.replace(
        checkpoint,
        newest_batch_ms=max(checkpoint.newest_batch_ms, newest_ms(marks)),
        rows_since_proved=checkpoint.rows_since_proved + rows_of(marks),
    )
