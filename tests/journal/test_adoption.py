"""The segments of the dead reach the books; those of the living are left alone."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from journal.appending import payload
from journal.conftest import (
    NEVER,
    PATIENT,
    Writer,
    open_journal,
    quick,
    segment_files,
    shipping,
    until,
)
from journal.reference_meter import ReferenceMeter
from support.stores import NatsServer

from contracts.records import SegmentHeader
from gateway.recording import adoption
from gateway.recording.adoption import adopt
from gateway.recording.counts import Counts
from gateway.recording.segments import create, file_name


class Appender:
    """The appending process, by its pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def read(self) -> str:
        """The next line it said; empty when it is dead."""
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 60)).decode().strip()

    async def order(self, order: str) -> None:
        """Give an order, do not wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n".encode())
        await self.process.stdin.drain()

    async def kill(self) -> int:
        """`kill -9`. Returns the last number it said that had not been read yet, or -1."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        last = -1
        while line := await self.read():
            last = int(line)
        await self.process.wait()
        return last


@asynccontextmanager
async def appending(directory: Path, *url: str) -> AsyncIterator[Appender]:
    """A ready appending process; killed in the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "journal.appending",
        str(directory),
        *url,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    appender = Appender(process)
    assert await appender.read() == "ready"
    try:
        yield appender
    finally:
        await appender.kill()


@pytest.mark.long_form(short=1, long=30)
@pytest.mark.parametrize("is_shipping", [False, True])
async def test_every_event_whose_append_returned_survives_a_kill(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter, is_shipping: bool, seed: int
) -> None:
    """kill -9 in the middle of appending; a sibling ships what is there, in order, and the END."""
    enough = random.Random(seed).randint(1, 3000)
    async with appending(directory, *([nats_server.url] if is_shipping else [])) as appender:
        # More than it gets to, and no more than is shipped in time where it does.
        await appender.order(str(enough + 5000))
        promised = 0
        while promised < enough:
            promised = int(await appender.read())
        promised = max(promised, await appender.kill())
    async with shipping(directory, nats_server.url, quick(journal_lanes=1)) as journal:
        await meter.run_until(lambda: meter.ends == 1)
        assert journal.counts.adopted == 1
        await until(lambda: len(segment_files(directory)) == 1)
    booked = meter.payloads()
    # It may have died between an append and saying so.
    assert promised <= len(booked) <= promised + 1
    assert booked == [payload(number) for number in range(len(booked))]


async def test_a_living_owner_is_not_adopted(directory: Path) -> None:
    """Not even when the owner opened its own file a second time and closed that descriptor."""
    async with appending(directory) as appender:
        await appender.order("200")
        while await appender.read() != "200":
            pass
        assert adopt(directory, set(), Counts(), 9) == []
        await appender.order("reopen")
        assert await appender.read() == "reopened"
        assert adopt(directory, set(), Counts(), 9) == []
        await appender.kill()
        (source,) = adopt(directory, set(), Counts(), 9)
        assert [segment.path for segment in source.segments] == segment_files(directory)
        source.close()


@pytest.mark.parametrize("order", ["fork", "fork-holding"])
async def test_a_forked_child_does_not_hold_the_locks_of_the_dead(
    directory: Path, order: str
) -> None:
    """The fork hook drops the descriptors in the child. (Without it nobody could adopt.)"""
    async with appending(directory) as appender:
        await appender.order("10")
        while await appender.read() != "10":
            pass
        await appender.order(order)
        child = int((await appender.read()).removeprefix("child "))
        try:
            await appender.kill()
            os.kill(child, 0)
            adopted = adopt(directory, set(), Counts(), 9)
            assert len(adopted) == (1 if order == "fork" else 0)
        finally:
            os.kill(child, signal.SIGKILL)
        for source in adopted:
            source.close()


async def test_a_lane_that_rolls_during_a_scan_is_alive(directory: Path) -> None:
    """All locks of an incarnation or none: a file that appeared meanwhile says that it lives."""
    journal = open_journal(directory, quick(journal_lanes=1))
    writer = Writer(journal)
    writer.write(500)
    assert len(segment_files(directory)) > 2
    (source,) = journal._sources.values()
    seen = {segment.path.name for segment in list(source.segments)[:-1]}
    # As if it held the newest alone, and the scan had come before that one was made.
    for segment in list(source.segments)[:-1]:
        segment.close()
    assert adoption._lock_all(directory, source.id, seen) is None
    assert adopt(directory, set(), Counts(), 9) == []
    await journal.stop(0)
    assert len(adopt(directory, set(), Counts(), 9)) == 1


@pytest.mark.long_form(short=1, long=50)
async def test_two_adopters_at_once_book_everything_once(
    directory: Path, tmp_path: Path, nats_server: NatsServer, meter: ReferenceMeter, seed: int
) -> None:
    """The same segments shipped twice, side by side, as if locks did not hold."""
    chance = random.Random(seed)
    journal = open_journal(directory, quick())
    writer = Writer(journal, chance.choice([400, 40, 4000]))
    writer.write(chance.randint(200, 1500))
    await journal.stop(0)
    twin = tmp_path / "twin"
    shutil.copytree(directory, twin)
    settings = quick(journal_lanes=1)
    async with (
        shipping(directory, nats_server.url, settings) as one,
        shipping(twin, nats_server.url, settings) as other,
    ):
        await meter.run_until(lambda: meter.ends == 2)
        writer.assert_booked_in_order(meter)
        # Either may have ended both before the other had looked.
        await until(lambda: one.counts.adopted == other.counts.adopted == 2)
        assert meter.forks == 0
        await until(lambda: len(segment_files(directory)) == len(segment_files(twin)) == 1)


async def test_an_adopter_goes_on_where_booking_stands(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """What the dead owner shipped and the meter booked is not shipped again."""
    once = quick(journal_lanes=1, resend_after=NEVER, parcel_ack_timeout=PATIENT)
    async with shipping(directory, nats_server.url, once) as journal:
        writer = Writer(journal)
        writer.write(300)
        await until(lambda: journal.counts.bytes_shipped == journal.facts().bytes_journalled)
        await meter.run_until(lambda: len(meter.payloads()) == 300)
        nats_server.pause()
        writer.write(300)
    nats_server.resume()
    await meter.turn()
    booked = next(iter(meter.books.values())).offset
    read_before = len(meter.parcels)
    async with shipping(directory, nats_server.url, quick(journal_lanes=1)):
        await meter.run_until(lambda: meter.ends == 1)
    writer.assert_booked_in_order(meter)
    assert min(head.offset for head, _ in meter.parcels[read_before:]) >= booked


def test_leftovers_without_records_are_removed(directory: Path) -> None:
    """A draft nobody holds, a file that ends inside its header, a segment without a record."""
    directory.mkdir()
    header = SegmentHeader(b"\x01" * 16, 0, 0, 0, b"\x01" * 16)
    (directory / file_name(b"\x02" * 16, 0)).write_bytes(header.pack()[:30])
    (directory / file_name(b"\x03" * 16, 0)).write_bytes(b"")
    draft = directory / f"{'04' * 16}.00000000.new"
    draft.write_bytes(b"")
    os.utime(draft, (0, 0))
    held = create(directory, header, 4096)
    assert adopt(directory, set(), Counts(), 9) == []
    assert list(directory.iterdir()) == [held.path]
    held.close()


def test_a_draft_that_was_just_made_is_left_to_its_maker(directory: Path) -> None:
    """Who has not locked it yet would otherwise have no new segment, and refuse requests."""
    directory.mkdir()
    draft = directory / f"{'05' * 16}.00000000.new"
    draft.touch()
    assert adopt(directory, set(), Counts(), 9) == []
    assert draft.exists()


async def test_an_incarnation_that_wrote_nothing_is_removed_without_an_end(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Nobody ever heard of it."""
    journal = open_journal(directory, quick(journal_lanes=3))
    await journal.stop(0)
    assert len(segment_files(directory)) == 3
    async with shipping(directory, nats_server.url, quick(journal_lanes=1)):
        await until(lambda: len(segment_files(directory)) == 1)
    await meter.turn()
    assert meter.parcels == []


async def test_only_so_many_incarnations_are_adopted_at_a_time(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Many dead ones are shipped a few at a time, until none is left."""
    promised = []
    for _ in range(6):
        journal = open_journal(directory, quick())
        writer = Writer(journal)
        writer.write(20)
        promised += list(writer.promised.values())
        await journal.stop(0)
    settings = quick(journal_lanes=1, adopt_max=2)
    async with shipping(directory, nats_server.url, settings) as journal:
        await until(lambda: journal.counts.adopted > 0)
        assert journal.counts.adopted <= 2
        await meter.run_until(lambda: meter.ends == 12)
    assert sorted(book.payloads for book in meter.books.values()) == sorted(promised)
