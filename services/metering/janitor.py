"""Purges the stream: only below what is booked and needed no more, and older than the retention."""

from datetime import UTC, datetime

from nats.js.kv import KeyValue

from contracts import subjects
from contracts.checkpoint import Checkpoint
from metering.adapters.nats_checkpoint import NatsCheckpoints
from metering.adapters.nats_link import NatsLink, as_unavailable
from metering.adapters.nats_stream import DirectReader, found_partitions


async def purge(
    link: NatsLink, reader: DirectReader, checkpoints: KeyValue, *, now_ms: int, retention_ms: int
) -> int:
    """Delete what nobody needs; how many messages went. Raises Unavailable, Refused."""
    with as_unavailable():
        info = await link.jetstream.stream_info(subjects.EXCHANGES_STREAM)
    # What is published from here on is needed, whatever is found out below.
    keep_from = info.state.last_seq + 1
    for partition in await found_partitions(link):
        checkpoint, _ = await NatsCheckpoints(link, checkpoints, partition).read()
        if checkpoint is None:
            return 0
        needed_from = await _needed_from(reader, checkpoint)
        if needed_from is not None:
            keep_from = min(keep_from, needed_from)
    at = datetime.fromtimestamp((now_ms - retention_ms) / 1000, UTC)
    young_from = await reader.first_at(subjects.EXCHANGES_SUBJECTS, at.isoformat())
    if young_from is not None:
        keep_from = min(keep_from, young_from)
    doomed = keep_from - info.state.first_seq
    if doomed <= 0:
        return 0
    with as_unavailable():
        # Purging by sequence keeps `seq` itself.
        await link.jetstream.purge_stream(subjects.EXCHANGES_STREAM, seq=keep_from)
    return doomed


async def _needed_from(reader: DirectReader, checkpoint: Checkpoint) -> int | None:
    """The lowest sequence a partition needs; None when it needs nothing that is in the stream.

    A partition nobody writes to any more stays where its last parcel was: it must not keep the
    parcels of all the others.
    """
    needed = []
    unread = await reader.first_from(
        subjects.exchanges_subject(checkpoint.partition), checkpoint.committed_seq + 1
    )
    if unread is not None:
        needed.append(unread)
    if checkpoint.oldest_open_seq is not None:
        needed.append(checkpoint.oldest_open_seq)
    if checkpoint.pending is not None and checkpoint.pending.first_seq:
        needed.append(checkpoint.pending.first_seq)
    return min(needed, default=None)
