"""Full stream, full journal, full or failing disk: refused in time, and nothing of it lost."""

import pytest

from drill import disks, scenarios

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = {
    "JOURNAL_BYTES_MAX": "1500000",
    "JOURNAL_SEGMENT_BYTES": "32768",
    "JOURNAL_KEEP": "0s",
    "JOURNAL_FSYNC_AFTER": "0s",
    "PARCEL_BYTES_MAX": "16384",
    "REPLAY_RETENTION": "1s",
    "JANITOR_INTERVAL": "500ms",
}


async def test_a_full_stream_fills_the_journal_and_drains_later(stage):
    """Without metering the stream refuses parcels; requests are served, and all are booked later."""
    await stage.load.burst(30)
    await scenarios.fill_stream(stage.installation, stage.load, 300_000)
    await stage.settled()


async def test_a_full_journal_refuses_requests_and_books_only_the_others(stage):
    """Past JOURNAL_BYTES_MAX requests get 503 and stay out of the books, until there is room."""
    await scenarios.fill_journal(stage.installation, stage.load)
    verdict = await stage.settled()
    assert verdict.refused > 0


async def test_a_full_disk_refuses_requests_and_books_only_the_others(stage):
    """A journal whose disk is full refuses admissions; what it admitted is completed and booked."""
    try:
        async with disks.small_journal_disk(stage.installation, stage.load, 400_000):
            await scenarios.fill_journal(stage.installation, stage.load)
    except disks.CannotMount as error:
        pytest.skip(f"needs the right to mount a file system: {error}")
    await stage.settled()


async def test_requests_over_a_failing_disk_are_refused_or_recorded(stage):
    """Each call fails in both workers, workers die in between; a gateway on a sound disk adopts."""
    await disks.fail_every_call(stage.installation, stage.load)
    verdict = await stage.settled()
    assert verdict.refused > 0
