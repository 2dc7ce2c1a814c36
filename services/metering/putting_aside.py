"""What cannot be booked as it is becomes a dead letter, before anything is committed past it."""

from collections.abc import Iterable

from contracts.exchange import encode
from metering.limits import Progress
from metering.ports import Billed, Chargeable, DeadLetter, Stream


async def put_aside(
    stream: Stream, progress: Progress, letters: Iterable[DeadLetter], billed: Billed
) -> None:
    """Keep records that cannot be read, and exchanges that cannot be rated. Raises Unavailable."""
    unrated = (_unrated_letter(chargeable, reason) for chargeable, reason in billed.unrated)
    for letter in (*letters, *unrated):
        await stream.dead_letter(letter)
        progress.dead_letters += 1


def _unrated_letter(chargeable: Chargeable, reason: str) -> DeadLetter:
    return DeadLetter(
        identity=f"unrated:{chargeable.event.event_id.hex()}",
        reason=f"unrated: {reason}",
        incarnation=chargeable.incarnation,
        offset=chargeable.offset,
        seq=0,
        content=encode(chargeable.event),
    )
