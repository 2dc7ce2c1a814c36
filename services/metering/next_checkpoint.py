"""The checkpoint once a batch is booked. Pure, given the time."""

import msgspec

from contracts.checkpoint import Checkpoint, Position
from contracts.ids import from_text, unix_ms
from metering.limits import Limits
from metering.openings import Openings
from metering.reading import Reading


def after(
    checkpoint: Checkpoint, reading: Reading, openings: Openings, limits: Limits, now_ms: int
) -> Checkpoint:
    """With everything committed that was read."""
    committed_seq = max(checkpoint.committed_seq, reading.last_seq)
    # Only a recovered batch can have found an admission behind its own last message.
    newest_open = openings.newest_seq() if checkpoint.pending is not None else 0
    return msgspec.structs.replace(
        checkpoint,
        committed_seq=committed_seq,
        reread_to_seq=max(
            newest_open if newest_open > committed_seq else 0,
            checkpoint.reread_to_seq if checkpoint.reread_to_seq > committed_seq else 0,
        ),
        oldest_open_seq=oldest_needed(reading, openings),
        incarnations=_kept(reading, openings, limits, now_ms),
        pending=None,
    )


def booked(checkpoint: Checkpoint, batch_id: str, rows: int) -> Checkpoint:
    """With a batch of so many rows, which is its newest but when an older one was recovered.

    One without rows, of which a recovering build could read nothing, is none: the ledger could not
    be asked for it.
    """
    if not rows:
        return checkpoint
    batch_ms = unix_ms(from_text(batch_id))
    rows_since_proved = checkpoint.rows_since_proved
    return msgspec.structs.replace(
        checkpoint,
        newest_batch_ms=max(checkpoint.newest_batch_ms, batch_ms),
        rows_since_proved=rows_since_proved
        + (rows if batch_ms > checkpoint.proved_batch_ms else 0),
    )


def oldest_needed(reading: Reading, openings: Openings) -> int | None:
    """The lowest sequence that must stay in the stream, whoever stops writing to it."""
    needed = [gap.first_seq for gap in reading.gaps.values()]
    oldest_open = openings.oldest_seq()
    if oldest_open is not None:
        needed.append(oldest_open)
    return min(needed, default=None)


def _kept(reading: Reading, openings: Openings, limits: Limits, now_ms: int) -> dict[str, Position]:
    """Positions without those that ended long ago, so that a checkpoint stays small.

    Of those that ended lately only the newest stay, because they may be thousands. What a dropped
    one sends again is looked up in the ledger, and an END that its shipper did not see noted comes
    again and is noted again.
    """
    drop_before_ms = now_ms - limits.keep_ended_ms
    silent_before_ms = drop_before_ms - limits.silence_ms
    needed = {incarnation.hex() for incarnation in openings.incarnations()}
    needed.update(reading.gaps)
    needed.update(reading.from_offsets)
    ended = sorted(
        (position.ended_at_ms, name)
        for name, position in reading.positions.items()
        if position.ended_at_ms is not None and name not in needed
    )
    kept = {
        name for ended_at_ms, name in ended[-limits.ended_max :] if ended_at_ms > drop_before_ms
    }
    return {
        name: position
        for name, position in reading.positions.items()
        if name in needed
        or name in kept
        or (position.ended_at_ms is None and position.last_time_ms > silent_before_ms)
    }
