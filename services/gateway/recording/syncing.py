"""Group fsync: as soon as shipping lags, what was appended is made to survive a power cut."""

import asyncio
import logging
import os
import time

from gateway.recording.incarnation import Incarnation
from gateway.recording.segments import Segment
from gateway.recording.settings import JournalSettings

log = logging.getLogger(__name__)


async def keep_synced(
    source: Incarnation, settings: JournalSettings, is_lagging: asyncio.Event
) -> None:
    """Runs until cancelled; sleeps on `is_lagging` while everything is shipped.

    Young bytes are left to the page cache: a death of the process does not touch it, and the
    stream has them within milliseconds. A segment that was rolled is synced once in any case.
    """
    after_s = settings.journal_fsync_after
    while True:
        await is_lagging.wait()
        since = source.unshipped_since
        age_s = 0.0 if since is None else time.monotonic() - since
        if since is None:
            is_lagging.clear()
        if age_s < after_s:
            await _sync(list(source.segments)[:-1])
            await asyncio.sleep(after_s - age_s)
        else:
            await _sync(list(source.segments))
            await asyncio.sleep(settings.journal_fsync_interval)


async def _sync(segments: list[Segment]) -> None:
    for segment in segments:
        end = segment.end
        if segment.synced_end >= end or segment.fd < 0:
            continue
        try:
            with segment.pinned():
                await asyncio.to_thread(os.fdatasync, segment.fd)
            segment.synced_end = end
        except OSError:
            log.exception("fsync of %s failed", segment.path.name)
