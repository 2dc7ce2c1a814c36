"""What grows while metering runs for months must not grow in the checkpoint: segments, the dead."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from journal.conftest import quick, segment_files, shipping
from metering_events import make_completed
from metering_shipping import Shipper, eventually, exchanges
from metering_stack import Stack, book_all

from contracts import subjects
from contracts.checkpoint import Checkpoint, encode
from contracts.exchange import encode as encode_event
from gateway.recording import Journal
from metering.adapters.nats_checkpoint import NatsCheckpoints
from metering.protocol import PartitionMeter

pytestmark = pytest.mark.xdist_group("metering-clickhouse")

CHECKPOINT_BYTES_MAX = 64 * 1024
EVENTS_A_TURN = 400


@pytest.fixture
def checkpoint_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of every checkpoint that is written."""
    sizes: list[int] = []
    write = NatsCheckpoints.write

    async def measured(self: NatsCheckpoints, checkpoint: Checkpoint, revision: int) -> int:
        sizes.append(len(encode(checkpoint)))
        return await write(self, checkpoint, revision)

    monkeypatch.setattr(NatsCheckpoints, "write", measured)
    return sizes


# ---- segments


@contextlib.asynccontextmanager
async def rolling_journal(stack: Stack, directory: Path) -> AsyncIterator[Journal]:
    """One lane whose segment is full after two events."""
    settings = quick(
        metering_partitions=1, journal_lanes=1, journal_segment_bytes=4_096, parcel_bytes_max=4_096
    )
    async with shipping(directory, stack.nats_url, settings) as journal:
        yield journal


@pytest.mark.long_form(short=80, long=10_000)
async def test_segments_by_the_thousand_leave_one_file_and_one_position(
    stack: Stack, tmp_path: Path, rounds: int, checkpoint_bytes: list[int]
) -> None:
    """A lane that rolls and rolls: booked files go, descriptors too, the checkpoint stays small."""
    directory = tmp_path / "journal"
    meter = await stack.meter()
    written = 0
    async with rolling_journal(stack, directory) as journal:
        lane = journal.lane()
        first_no, descriptors = segment_no(directory), open_descriptors()
        while segment_no(directory) - first_no < rounds:
            for _ in range(EVENTS_A_TURN):
                lane.append(encode_event(make_completed(was_admitted=False)))
            written += EVENTS_A_TURN

            async def is_gone(expected: int = written) -> bool:
                await book_all(meter)
                # What the last file holds may be the last to come.
                is_one = len(segment_files(directory)) == 1
                return is_one and (await stack.totals())["rows"] == expected

            await eventually(is_gone, within_s=60)
        assert open_descriptors() <= descriptors + 4
    totals = {"rows": written, "events": written, "requests": written, "wrong": 0}
    assert await stack.totals() == totals
    assert max(checkpoint_bytes) < 2_048
    await assert_two_writes_a_batch(stack, meter)


def segment_no(directory: Path) -> int:
    """Of the newest file."""
    return max(int(path.stem.rpartition(".")[2]) for path in segment_files(directory))


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def assert_two_writes_a_batch(stack: Stack, meter: PartitionMeter) -> None:
    """However much there is: one compare-and-set before the insert, one after it."""
    bucket = await stack.jetstream.key_value(subjects.CHECKPOINTS_BUCKET)
    writes = (await bucket.get(subjects.checkpoint_key(0))).revision
    assert writes is not None
    assert writes <= 2 * meter.progress.batches + 1


# ---- the dead


async def die(stack: Stack, count: int) -> list[Shipper]:
    """So many incarnations that write one exchange each, and end."""
    dead = []
    for _ in range(count):
        shipper = Shipper(stack.client, 0)
        shipper.write(exchanges(1))
        await shipper.ship()
        await shipper.end()
        dead.append(shipper)
    return dead


@pytest.mark.long_form(short=150, long=1_000)
async def test_the_dead_by_the_thousand_are_booked_once_under_a_small_checkpoint(
    stack: Stack, rounds: int, checkpoint_bytes: list[int]
) -> None:
    """All within the week for which an ended journal is kept: the newest of them are."""
    meter = await stack.meter()
    dead = await die(stack, rounds)
    await book_all(meter, within_s=120)
    living = await stack.shipper()
    living.write(exchanges(1))
    await living.ship()
    await book_all(meter)
    assert max(checkpoint_bytes) < CHECKPOINT_BYTES_MAX
    kept = (await stack.checkpoint()).incarnations
    assert living.name in kept
    assert dead[-1].name in kept
    assert dead[0].name not in kept
    await assert_two_writes_a_batch(stack, meter)

    # One that was dropped sends all of it again, and its END.
    await dead[0].ship(first=0)
    await dead[0].end()
    await book_all(meter)
    wanted = rounds + 1
    totals = {"rows": wanted, "events": wanted, "requests": wanted, "wrong": 0}
    assert await stack.totals() == totals
    assert (await stack.checkpoint()).incarnations[dead[0].name].ended_at_ms is not None
