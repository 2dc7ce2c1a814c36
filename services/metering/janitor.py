"""Purges the stream: only below what is booked and needed no more, and older than the retention.

A stream that is nearly full gives up booked parcels before their time: a shorter replay is better
than refused requests.
"""

import logging
from datetime import UTC, datetime
from typing import Final

from nats.js.api import StreamInfo
from nats.js.kv import KeyValue

from contracts import subjects
from contracts.checkpoint import Checkpoint
from metering.adapters.nats_checkpoint import NatsCheckpoints
from metering.adapters.nats_link import NatsLink, as_unavailable
from metering.adapters.nats_stream import DirectReader, found_partitions

log = logging.getLogger(__name__)

FULL_SHARE: Final = 0.8
"""Of the stream's limit: from here on booked parcels go early, down to `ROOMY_SHARE`."""
ROOMY_SHARE: Final = 0.7


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
        keep_from = min(keep_from, max(young_from, _relief_from(info)))
    doomed = keep_from - info.state.first_seq
    if doomed <= 0:
        return 0
    with as_unavailable():
        # Purging by sequence keeps `seq` itself.
        await link.jetstream.purge_stream(subjects.EXCHANGES_STREAM, seq=keep_from)
    return doomed


def _relief_from(info: StreamInfo) -> int:
    """Up to which sequence booked parcels go early; the stream's first when there is room.

    Parcels are taken to be of one size: what is purged too little goes the next time.
    """
    state, bytes_max = info.state, info.config.max_bytes or 0
    share = state.bytes / bytes_max if bytes_max > 0 else 0.0
    if share <= FULL_SHARE:
        return state.first_seq
    count = state.last_seq - state.first_seq + 1
    log.warning("stream.nearly_full share=%.2f: booked parcels go before their time", share)
    return state.first_seq + int(count * (share - ROOMY_SHARE) / share)


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
