"""Purges the stream: only below what is booked and needed no more, and older than the retention."""

from datetime import UTC, datetime

from nats.js.kv import KeyValue

from contracts import subjects
from metering.adapters.nats_checkpoint import NatsCheckpoints
from metering.adapters.nats_link import NatsLink, as_unavailable
from metering.adapters.nats_stream import DirectReader, found_partitions


async def purge(
    link: NatsLink, reader: DirectReader, checkpoints: KeyValue, *, now_ms: int, retention_ms: int
) -> int:
    """Delete what nobody needs; how many messages went. Raises Unavailable, Refused."""
    keep_from = await _needed_from(link, checkpoints)
    if keep_from is None:
        return 0
    at = datetime.fromtimestamp((now_ms - retention_ms) / 1000, UTC)
    young_from = await reader.first_at(subjects.EXCHANGES_SUBJECTS, at.isoformat())
    if young_from is not None:
        keep_from = min(keep_from, young_from)
    with as_unavailable():
        info = await link.jetstream.stream_info(subjects.EXCHANGES_STREAM)
        doomed = keep_from - info.state.first_seq
        if doomed <= 0:
            return 0
        # Purging by sequence keeps `seq` itself.
        await link.jetstream.purge_stream(subjects.EXCHANGES_STREAM, seq=keep_from)
    return doomed


async def _needed_from(link: NatsLink, bucket: KeyValue) -> int | None:
    """The lowest sequence some partition needs; None when one has no checkpoint yet."""
    needed: list[int] = []
    for partition in await found_partitions(link):
        checkpoint, _ = await NatsCheckpoints(link, bucket, partition).read()
        if checkpoint is None:
            return None
        candidates = [checkpoint.committed_seq + 1]
        if checkpoint.oldest_open_seq is not None:
            candidates.append(checkpoint.oldest_open_seq)
        if checkpoint.pending is not None and checkpoint.pending.first_seq:
            candidates.append(checkpoint.pending.first_seq)
        needed.append(min(candidates))
    return min(needed, default=None)
