"""Torn, zero-filled, flipped, truncated, forked and missing: good records ship, nothing is skipped."""

import itertools
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from journal.conftest import (
    Writer,
    event,
    now_ms,
    open_journal,
    quick,
    segment_files,
    shipping,
    until,
)
from journal.reference_meter import ReferenceMeter
from support.stores import NatsServer

from contracts.records import RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, frame
from gateway.adapters.nats_bus import NatsBus
from gateway.recording import Journal

ONE_LANE = quick(journal_lanes=1)
RECORDS = 400


async def _dead(directory: Path) -> list[bytes]:
    """Segments of a dead lane, and what was written to it."""
    journal = open_journal(directory, ONE_LANE)
    writer = Writer(journal)
    writer.write(RECORDS)
    await journal.stop(0)
    (promised,) = writer.promised.values()
    return promised


def set_aside(directory: Path) -> list[Path]:
    """Files that are kept for the operator."""
    return sorted(directory.glob("*.bad"))


def _flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


def _torn(path: Path, last: bytes) -> None:
    path.write_bytes(path.read_bytes()[: -len(last) // 2])


def _torn_header(path: Path, last: bytes) -> None:
    path.write_bytes(path.read_bytes()[: -(len(last) + 3)])


def _zeros(path: Path, last: bytes) -> None:
    path.write_bytes(path.read_bytes() + bytes(5000))


def _unfilled(path: Path, last: bytes) -> None:
    path.write_bytes(path.read_bytes()[: -len(last) // 2] + bytes(len(last) // 2))


@pytest.mark.parametrize(
    ("harm", "lost"), [(_torn, 1), (_torn_header, 1), (_zeros, 0), (_unfilled, 1)]
)
async def test_a_torn_tail_ends_the_incarnation_at_its_last_good_record(
    directory: Path,
    nats_server: NatsServer,
    meter: ReferenceMeter,
    harm: Callable[[Path, bytes], None],
    lost: int,
) -> None:
    """What a death in the middle of the last write leaves is normal: no file is kept."""
    promised = await _dead(directory)
    harm(segment_files(directory)[-1], promised[-1])
    async with shipping(directory, nats_server.url, ONE_LANE) as journal:
        await meter.run_until(lambda: meter.ends == 1)
        assert meter.payloads() == promised[: RECORDS - lost]
        await until(lambda: len(segment_files(directory)) == 1)
        assert journal.counts.bytes_torn > 0
        assert journal.counts.segments_quarantined == 0
        assert set_aside(directory) == []


def _payload_of_a_middle_record(path: Path, promised: list[bytes]) -> int:
    return path.read_bytes().index(promised[RECORDS - 5]) + 20


def _length_of_a_middle_record(path: Path, promised: list[bytes]) -> int:
    return path.read_bytes().index(promised[RECORDS - 5]) - RECORD_HEADER_BYTES + 1


def _high_length_of_a_middle_record(path: Path, promised: list[bytes]) -> int:
    return path.read_bytes().index(promised[RECORDS - 5]) - RECORD_HEADER_BYTES + 3


def _payload_of_the_last_record(path: Path, promised: list[bytes]) -> int:
    return path.read_bytes().index(promised[-1]) + 20


@pytest.mark.parametrize(
    ("where", "good"),
    [
        (_payload_of_a_middle_record, RECORDS - 5),
        (_length_of_a_middle_record, RECORDS - 5),
        (_high_length_of_a_middle_record, RECORDS - 5),
        (_payload_of_the_last_record, RECORDS - 1),
    ],
)
async def test_a_flipped_bit_is_quarantined_not_skipped(
    directory: Path,
    nats_server: NatsServer,
    meter: ReferenceMeter,
    where: Callable[[Path, list[bytes]], int],
    good: int,
) -> None:
    """Good records before it are booked, the END lies there, the file is kept and counted."""
    promised = await _dead(directory)
    last = segment_files(directory)[-1]
    _flip(last, where(last, promised))
    async with shipping(directory, nats_server.url, ONE_LANE) as journal:
        await meter.run_until(lambda: meter.ends == 1)
        assert meter.payloads() == promised[:good]
        await until(lambda: journal.counts.segments_quarantined == 1)
        assert [path.name for path in set_aside(directory)] == [last.name + ".bad"]
        assert journal.counts.bytes_damaged > 0
        assert journal.counts.bytes_torn == 0


async def test_damage_in_an_early_segment_keeps_the_later_ones_too(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Nothing after a bad record can be booked in order, so all of it is kept for the operator."""
    promised = await _dead(directory)
    files = segment_files(directory)
    assert len(files) > 2
    _flip(files[1], SEGMENT_HEADER_BYTES + 100)
    async with shipping(directory, nats_server.url, ONE_LANE) as journal:
        await meter.run_until(lambda: meter.ends == 1)
        booked = meter.payloads()
        assert 0 < len(booked) < RECORDS
        assert booked == promised[: len(booked)]
        await until(lambda: journal.counts.segments_quarantined == len(files) - 1)
        assert len(set_aside(directory)) == len(files) - 1


async def test_what_the_stream_still_holds_bridges_damage_in_the_file(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Shipped, not booked, then damaged on disk: the meter books the stream's copy, and the
    adopter goes on behind the damage."""
    async with shipping(directory, nats_server.url, ONE_LANE) as journal:
        writer = Writer(journal)
        writer.write(300)
        await until(lambda: journal.counts.bytes_shipped == journal.facts().bytes_journalled)
        nats_server.pause()
        writer.write(300)
    nats_server.resume()
    _flip(segment_files(directory)[1], SEGMENT_HEADER_BYTES + 100)
    async with shipping(directory, nats_server.url, ONE_LANE) as journal:
        await until(lambda: journal.counts.bytes_damaged > 0)
        await meter.run_until(lambda: meter.ends == 1)
        writer.assert_booked_in_order(meter)
        await until(lambda: len(segment_files(directory)) == 1)
        assert journal.counts.segments_quarantined == 0


async def test_a_missing_segment_is_named_and_the_rest_is_kept(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """No END and no deletion behind a gap; a declared loss puts the rest aside."""
    promised = await _dead(directory)
    files = segment_files(directory)
    files[2].unlink()
    async with shipping(directory, nats_server.url, ONE_LANE) as journal:
        await until(lambda: journal.counts.bytes_missing > 0)
        await until(lambda: journal.counts.resends_own > 0)
        await meter.turn()
        booked = meter.payloads()
        assert booked == promised[: len(booked)]
        assert 0 < len(booked) < RECORDS
        assert meter.ends == 0
        assert set(files[3:]) <= set(segment_files(directory))
        next(iter(meter.books.values())).ended = True
        await meter.write_checkpoints()
        await until(lambda: journal.counts.segments_quarantined == len(files) - 3)
        assert len(set_aside(directory)) == len(files) - 3


def _flip_anywhere(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def _zero_anywhere(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content))
    hit = content[at : at + chance.randint(1, 3000)]
    content[at : at + len(hit)] = bytes(len(hit))
    path.write_bytes(content)


def _truncate_anywhere(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])


@pytest.mark.long_form(short=2, long=100)
async def test_what_damage_anywhere_leaves_is_booked_or_kept(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter, seed: int
) -> None:
    """A flipped bit, zeros or an early end at any place of any file: what is booked is in order,
    and every record that is still whole is booked or in a file that stays.
    """
    chance = random.Random(seed)
    promised = await _dead(directory)
    harm = chance.choice([_flip_anywhere, _zero_anywhere, _truncate_anywhere])
    harm(chance.choice(segment_files(directory)), chance)
    content = b"".join(path.read_bytes() for path in segment_files(directory))
    whole = [payload for payload in promised if payload in content]
    async with shipping(directory, nats_server.url, ONE_LANE) as journal:
        await meter.run_until(lambda: meter.ends == 1 or journal.counts.bytes_missing > 0)
        await until(lambda: len(segment_files(directory)) == 1 or journal.counts.bytes_missing > 0)
        await meter.turn()
    booked = meter.payloads()
    assert booked == promised[: len(booked)]
    kept = b"".join(path.read_bytes() for path in directory.iterdir() if path.is_file())
    assert not [payload for payload in whole if payload not in kept and payload not in booked]


async def _forked(directory: Path, twin: Path) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """One dead incarnation with two contents: the shared events, and each one's own after them."""
    settings = quick(journal_lanes=1, journal_segment_bytes=1 << 20)
    journal = open_journal(directory, settings)
    shared = [event(n) for n in range(100)]
    ours = [event(1000 + n) for n in range(50)]
    theirs = [event(2000 + n) for n in range(50)]
    for payload in shared:
        journal.lane().append(payload)
    shutil.copytree(directory, twin)
    for payload in ours:
        journal.lane().append(payload)
    await journal.stop(0)
    (path,) = segment_files(directory)
    (twin_path,) = segment_files(twin)
    twin_path.write_bytes(twin_path.read_bytes() + b"".join(map(frame, theirs)))
    assert path.stat().st_size == twin_path.stat().st_size
    return shared, ours, theirs


async def test_forked_content_does_not_pass_for_booked(
    directory: Path, tmp_path: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """One machine's image resumed twice: the second content is kept, not deleted as booked."""
    twin = tmp_path / "twin"
    shared, ours, theirs = await _forked(directory, twin)
    async with shipping(directory, nats_server.url, ONE_LANE) as journal:
        await meter.run_until(lambda: meter.ends == 1)
        await until(lambda: len(segment_files(directory)) == 1)
        assert journal.counts.forks == 0
    async with shipping(twin, nats_server.url, ONE_LANE) as journal:
        await until(lambda: journal.counts.segments_quarantined == 1)
        assert journal.counts.forks == 1
    (kept,) = set_aside(twin)
    assert theirs[-1] in kept.read_bytes()
    assert meter.payloads() == shared + ours


@pytest.mark.parametrize("checks_hash", [True, False])
async def test_a_meter_sees_forked_content_by_its_hash(
    directory: Path,
    tmp_path: Path,
    nats_server: NatsServer,
    meter: ReferenceMeter,
    checks_hash: bool,
) -> None:
    """Both contents are in the stream before anything is booked. (A meter that does not compare
    takes the second for a repetition.)"""
    meter.checks_hash = checks_hash
    twin = tmp_path / "twin"
    shared, ours, _ = await _forked(directory, twin)
    whole = sum(len(frame(payload)) for payload in shared + ours)
    for place in (directory, twin):
        async with shipping(place, nats_server.url, ONE_LANE) as journal:
            await until(lambda journal=journal: journal.counts.bytes_shipped >= whole)
    await meter.turn()
    assert meter.payloads() == shared + ours
    assert (meter.forks > 0) == checks_hash


async def test_two_living_forks_do_not_delete_what_the_other_booked(
    directory: Path, tmp_path: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """A lane that finds another's hash at the booked offset keeps its files and goes on anew."""
    settings = quick(journal_lanes=1, journal_segment_bytes=4096)
    seed = itertools.cycle([bytes(range(16))])
    twin = tmp_path / "twin"
    renewed = iter([os.urandom(16)])
    async with NatsBus.open(nats_server.url) as bus:
        first = Journal.open(directory, settings, 1, now_ms, lambda n: next(seed)[:n])
        chance = itertools.chain([bytes(4), bytes(range(16))], renewed)
        second = Journal.open(twin, settings, 1, now_ms, lambda _: next(chance))
        first.start(bus)
        # As long as the other's, or the last of them would pass for what follows on what is booked.
        for number in range(40):
            first.lane().append(event(200 + number))
        await meter.run_until(lambda: len(meter.payloads()) == 40)
        for number in range(40):
            second.lane().append(event(100 + number))
        files = segment_files(twin)
        second.start(bus)
        await until(lambda: second.counts.segments_quarantined == len(files))
        assert second.counts.forks == second.counts.incarnations_renewed == 1
        second.lane().append(last := event(999))
        await meter.run_until(lambda: meter.payloads()[-1] == last)
        assert first.counts.forks == 0
        await first.stop(0)
        await second.stop(0)
    kept = b"".join(path.read_bytes() for path in set_aside(twin))
    assert all(f"key-{100 + number}".encode() in kept for number in range(40))


async def test_a_file_shorter_than_what_is_booked_still_ends(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """After a power cut the file may have less than the books: nothing is missing, the END says so
    at the booked offset."""
    async with shipping(directory, nats_server.url, ONE_LANE) as journal:
        writer = Writer(journal)
        writer.write(60)
        await meter.run_until(lambda: len(meter.payloads()) == 60)
    (path,) = segment_files(directory)
    path.write_bytes(path.read_bytes()[:-3000])
    async with shipping(directory, nats_server.url, ONE_LANE):
        await meter.run_until(lambda: meter.ends == 1)
        writer.assert_booked_in_order(meter)
        await until(lambda: path not in segment_files(directory))


async def test_a_damaged_header_or_a_reused_name_is_kept_for_the_operator(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """A file whose header is not its own is not shipped under anybody's name."""
    await _dead(directory)
    first = segment_files(directory)[0]
    reused = directory / f"{'0b' * 16}.00000000.seg"
    shutil.copy(first, reused)
    broken = directory / f"{'0c' * 16}.00000000.seg"
    shutil.copy(first, broken)
    _flip(broken, 40)
    async with shipping(directory, nats_server.url, ONE_LANE) as journal:
        await until(lambda: journal.counts.segments_quarantined == 2)
        await meter.run_until(lambda: meter.ends == 1)
        assert len(meter.payloads()) == RECORDS
    assert {path.name for path in set_aside(directory)} == {
        reused.name + ".bad",
        broken.name + ".bad",
    }


async def test_a_lane_whose_file_is_damaged_under_it_goes_on_as_a_new_incarnation(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Seen when it is read for shipping: the good part ends, later events are not behind it."""
    nats_server.kill()
    async with shipping(directory, nats_server.url, ONE_LANE) as journal:
        before, after = await _damage_while_away(journal, directory)
        nats_server.start()
        await until(lambda: journal.counts.incarnations_renewed == 1)
        for number in range(50):
            journal.lane().append(payload := event(number))
            after.append(payload)
        await meter.run_until(lambda: meter.ends == 1 and len(meter.books) == 2)
        await meter.run_until(lambda: meter.payloads()[-1] == after[-1])
        first, second = sorted(meter.books.values(), key=lambda book: not book.ended)
        assert first.payloads == before
        assert second.payloads == after


async def _damage_while_away(journal: Journal, directory: Path) -> tuple[list[bytes], list[bytes]]:
    writer = Writer(journal)
    writer.write(300)
    (promised,) = writer.promised.values()
    (path,) = [one for one in segment_files(directory) if promised[150] in one.read_bytes()]
    position = path.read_bytes().index(promised[150])
    with path.open("r+b") as file:
        file.seek(position)
        file.write(b"\xff")
    await until(lambda: journal.counts.publish_unavailable > 0)
    return promised[:150], []
