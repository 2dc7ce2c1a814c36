"""Stores wiped or put back to an older state, alone and together: refused or rebuilt, never wrong."""

import pytest

from drill import scenarios

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = {"JOURNAL_SEGMENT_BYTES": "32768", "JOURNAL_KEEP": "0s"}


async def test_new_stream_is_refused_until_resync_books_from_it(stage):
    """A stream made anew is not the checkpoint's: metering says so, and books after a resync."""
    await stage.load.burst(40)
    await scenarios.wipe(stage.installation, stage.load, "stream")
    await stage.load.burst(40)
    said = await scenarios.refused_with(stage.installation, "the stream was created at")
    assert "tollway resync" in said
    await scenarios.resync(stage.installation)
    await stage.settled()


async def test_older_stream_is_refused_until_resync_books_from_it(stage):
    """A stream that ends before the booked sequence was restored: refused, then looked up."""
    await scenarios.restore(stage.installation, stage.load, "stream")
    said = await scenarios.refused_with(stage.installation, "it was restored to an older state")
    assert "tollway resync" in said
    await stage.load.burst(20)
    await scenarios.resync(stage.installation)
    await stage.settled()


@pytest.mark.parametrize("part", ["checkpoints", "all"])
async def test_older_checkpoints_are_rebuilt_from_the_ledger(stage, part):
    """Checkpoints older than the ledger, with the stream or without it, are a cache miss."""
    await scenarios.restore(stage.installation, stage.load, part)
    await stage.load.burst(20)
    await stage.settled()


async def test_a_wiped_nats_is_rebuilt_from_the_ledger(stage):
    """Without stream and checkpoints booking goes on from the ledger's marks."""
    await scenarios.wipe(stage.installation, stage.load, "all")
    await stage.load.burst(20)
    await stage.settled()


async def test_older_ledger_is_refused_until_resync_books_the_rest(stage):
    """A ledger without a committed batch was restored: refused, then filled from the stream."""
    await scenarios.restore(stage.installation, stage.load, "clickhouse", during=20)
    said = await scenarios.refused_with(stage.installation, "the ledger was restored")
    assert "tollway resync" in said
    await scenarios.resync(stage.installation)
    await stage.settled()
