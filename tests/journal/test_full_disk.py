"""Limits and full disks: refused aloud, never torn, accepted again when there is room."""

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from journal.conftest import Writer, event, open_journal, quick, segment_files, shipping, until
from journal.reference_meter import ReferenceMeter
from support.stores import NatsServer

from gateway.ports import JournalUnavailable
from gateway.recording import Journal, RecordTooLarge, UnsafeFilesystem
from gateway.recording.segments import check_filesystem, filesystem_magic
from runtime.settings import Duration


@contextlib.contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """No file of this process grows past the limit: a write there falls short, like ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes; skips where mounting is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs may be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def _append_until_refused(journal: Journal, promised: list[bytes]) -> None:
    lane = journal.lane()
    for number in range(100_000):
        payload = event(number)
        try:
            lane.append(payload)
        except JournalUnavailable:
            return
        promised.append(payload)
    pytest.fail("nothing was refused")


def _fill(file: int) -> None:
    while os.write(file, bytes(4096)):
        pass


async def test_a_short_write_leaves_no_part_of_a_record(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """The file is cut back to its last whole record and never written again; the event and later
    ones go on in the next segment of the same incarnation, and all that was promised is booked."""
    settings = quick(journal_lanes=1, journal_segment_bytes=1 << 20)
    journal = open_journal(directory, settings)
    writer = Writer(journal)
    with file_size_limit(30_000):
        writer.write(300)
    writer.write(100)
    files = segment_files(directory)
    assert journal.counts.short_writes == len(files) - 1 >= 4
    # Not cut back, a file would reach the limit to the byte.
    assert all(path.stat().st_size < 30_000 for path in files[:-1])
    await journal.stop(0)
    await _assert_all_adopted(directory, nats_server, meter, writer)


async def test_a_torn_record_that_could_not_be_cut_back_is_not_shipped(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next segment's base says where the last one ends, for us and for an adopter."""

    def refuse(fd: int, length: int) -> None:
        raise OSError(5, "no cut today")

    settings = quick(journal_lanes=1, journal_segment_bytes=1 << 20)
    journal = open_journal(directory, settings)
    writer = Writer(journal)
    with monkeypatch.context() as patched, file_size_limit(30_000):
        patched.setattr(os, "ftruncate", refuse)
        writer.write(300)
    files = segment_files(directory)
    assert {path.stat().st_size for path in files[:-1]} == {30_000}
    await journal.stop(0)
    await _assert_all_adopted(directory, nats_server, meter, writer)


async def test_a_disk_that_takes_nothing_refuses_and_recovers(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """No write fits anywhere: the append is refused, nothing of it stays, and in a second it is
    tried again without anybody asking."""
    async with shipping(directory, nats_server.url, quick(journal_lanes=1)) as journal:
        writer = Writer(journal)
        writer.write(10)
        with file_size_limit(200), pytest.raises(JournalUnavailable) as refused:
            journal.lane().append(event(99))
        assert refused.value.code == "metering_unavailable"
        assert not journal.is_accepting
        with pytest.raises(JournalUnavailable):
            journal.lane().append(event(99))
        assert journal.counts.appends_refused == 2
        await until(lambda: journal.is_accepting)
        writer.write(10)
        await meter.run_until(lambda: len(meter.payloads()) == 20)
        writer.assert_booked_in_order(meter)


async def _assert_all_adopted(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter, writer: Writer
) -> None:
    async with shipping(directory, nats_server.url, quick(journal_lanes=1)) as journal:
        await meter.run_until(lambda: meter.ends == 1)
        writer.assert_booked_in_order(meter)
        assert journal.counts.segments_quarantined == 0
        assert journal.counts.bytes_torn == journal.counts.bytes_damaged == 0


async def test_reserved_space_serves_requests_under_way_on_a_full_disk(tiny_disk: Path) -> None:
    """The disk fills up beside us: the segment's own space stays ours, a new segment is refused."""
    journal = open_journal(
        tiny_disk / "journal", quick(journal_lanes=1, journal_segment_bytes=200_000)
    )
    filler = os.open(tiny_disk / "filler", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space left"):
        _fill(filler)
    promised: list[bytes] = []
    _append_until_refused(journal, promised)
    assert 190_000 < sum(map(len, promised)) < 200_000
    assert journal.counts.short_writes == 0
    os.ftruncate(filler, 0)
    os.close(filler)
    for lane in journal._lanes:
        lane.roll_if_due(1e12, 600.0, under_pressure=False)
    journal.lane().append(event(1))
    await journal.stop(0)


async def test_a_lost_descriptor_makes_a_new_incarnation(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """When the lock may be gone others may have adopted: nothing more is written to the old one."""
    async with shipping(directory, nats_server.url, quick(journal_lanes=1)) as journal:
        writer = Writer(journal)
        writer.write(20)
        await until(lambda: journal.counts.bytes_shipped == journal.facts().bytes_journalled)
        (source,) = journal._sources.values()
        # Read-only, so that the write fails, as it does on a file system gone read-only.
        with (source.segments[-1].path).open("rb") as read_only:
            os.dup2(read_only.fileno(), source.segments[-1].fd)
        writer.write(20)
        assert journal.counts.incarnations_renewed == 1
        await meter.run_until(lambda: len(meter.payloads()) == 40 and meter.ends == 1)
        (promised,) = writer.promised.values()
        assert sorted(meter.payloads()) == sorted(promised)
        partitions = {book.partition for book in meter.books.values()}
        assert len(meter.books) == 2
        assert len(partitions) == 1


async def test_the_limit_refuses_and_booking_makes_room(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Nine tenths refuse admissions, the last tenth is for ends, past it nothing is taken; the
    limit counts the directory, whoever wrote it."""
    dead = open_journal(directory, quick(journal_bytes_max=400_000))
    other = Writer(dead)
    other.write(200)
    await dead.stop(0)
    settings = quick(journal_lanes=1, journal_bytes_max=400_000, adopt_interval=Duration(0.05))
    nats_server.pause()
    async with shipping(directory, nats_server.url, settings) as journal:
        writer = Writer(journal)
        while journal.is_accepting:
            writer.write(1)
        assert 360_000 <= journal.facts().bytes_stored < 365_000
        promised = next(iter(writer.promised.values()))
        _append_until_refused(journal, promised)
        assert journal.facts().bytes_stored <= 400_000
        assert journal.counts.appends_refused == 1
        nats_server.resume()
        total = other.total + len(promised)
        await meter.run_until(lambda: len(meter.payloads()) == total)
        await until(lambda: journal.is_accepting)
        journal.lane().append(event(1))


async def test_what_is_booked_is_not_kept_when_requests_would_be_refused_for_it(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """JOURNAL_KEEP is honoured while there is room: until half of the limit is taken."""
    settings = quick(journal_lanes=1, journal_bytes_max=400_000, journal_keep=Duration(600))
    async with shipping(directory, nats_server.url, settings) as journal:
        writer = Writer(journal)
        while journal.is_accepting:
            writer.write(1)
        await meter.run_until(lambda: journal.facts().bytes_stored <= 200_000)
        # What it had begun to delete is gone when it reads the books anew.
        await _write_and_book(writer, meter)
        while journal.facts().bytes_stored < 190_000:
            writer.write(1)
        kept = segment_files(directory)
        assert len(kept) > 2
        for _ in range(2):
            await _write_and_book(writer, meter)
        assert set(kept) <= set(segment_files(directory))


async def _write_and_book(writer: Writer, meter: ReferenceMeter) -> None:
    writer.write(1)
    await meter.run_until(lambda: len(meter.payloads()) == writer.total)
    journal = writer.journal
    await until(lambda: journal.counts.bytes_booked == journal.facts().bytes_journalled)


async def test_a_volatile_journal_stops_accepting_after_seconds_of_lag(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Its directory dies with the machine: what may be lost is bounded by time, not by space."""
    settings = quick(journal_volatile=True, journal_volatile_age=Duration(0.2))
    async with shipping(directory, nats_server.url, settings) as journal:
        writer = Writer(journal)
        writer.write(10)
        await until(lambda: journal.counts.bytes_shipped == journal.facts().bytes_journalled)
        nats_server.pause()
        writer.write(10)
        assert journal.is_accepting
        await until(lambda: not journal.is_accepting)
        nats_server.resume()
        await until(lambda: journal.is_accepting)


async def test_what_is_not_shipped_is_synced(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Once shipping lags, everything appended is on disk soon; while it keeps up, nothing waits."""
    settings = quick(
        journal_lanes=1,
        journal_fsync_after=Duration(0.1),
        journal_segment_bytes=1 << 20,
        parcel_ack_timeout=Duration(5),
    )
    async with shipping(directory, nats_server.url, settings) as journal:
        writer = Writer(journal)
        (source,) = journal._sources.values()
        writer.write(100)
        await until(lambda: journal.counts.bytes_shipped == journal.facts().bytes_journalled)
        assert source.unshipped_since is None
        nats_server.pause()
        writer.write(300)
        segment = source.segments[-1]
        assert segment.synced_end < segment.end
        await until(lambda: segment.synced_end == source.end)
        nats_server.resume()


async def test_old_segments_are_rolled_so_that_booked_ones_can_go(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """A lane that went quiet does not keep what is booked for ever."""
    settings = quick(journal_lanes=1, journal_segment_age=Duration(0.1))
    async with shipping(directory, nats_server.url, settings) as journal:
        (first,) = segment_files(directory)
        writer = Writer(journal)
        writer.write(10)
        await meter.run_until(lambda: first not in segment_files(directory))
        assert len(segment_files(directory)) == 1


async def test_events_of_no_or_too_many_bytes_are_a_mistake_of_the_caller(directory: Path) -> None:
    """They could never be shipped, so they are not journalled."""
    journal = open_journal(directory, quick(journal_record_bytes_max=1000))
    lane = journal.lane()
    lane.append(bytes(1000))
    for payload in (b"", bytes(1001)):
        with pytest.raises(RecordTooLarge):
            lane.append(payload)
    assert journal.facts().events_journalled == 1
    await journal.stop(0)
    with pytest.raises(JournalUnavailable):
        lane.append(b"too late")


def test_file_systems_without_sound_locks_are_refused(tmp_path: Path) -> None:
    """By the kernel's own word for the file system; the message says what to set."""
    check_filesystem(tmp_path)
    magic = filesystem_magic(tmp_path)
    assert magic
    with pytest.raises(UnsafeFilesystem, match="JOURNAL_ANY_FILESYSTEM"):
        check_filesystem(tmp_path, {magic: "NFS"})
