"""Errors that time does not heal, and what parcels say of the writer's clock."""

import logging
import os
from pathlib import Path

import nats
import pytest
from journal.conftest import Writer, open_journal, quick, segment_files, shipping, until
from journal.reference_meter import ReferenceMeter
from support.stores import NatsServer

from contracts.checkpoint import Position
from contracts.exchange import decode
from contracts.records import records
from contracts.subjects import EXCHANGES_STREAM, EXCHANGES_SUBJECTS
from gateway.adapters.nats_bus import NatsBus
from gateway.recording import JournalSettings
from gateway.recording.adoption import adopt
from gateway.recording.counts import Counts
from gateway.recording.parcels import cut_stored


async def test_a_stream_that_is_missing_is_waited_for(
    directory: Path, nats_server: NatsServer
) -> None:
    """No stream, no checkpoints: the journal keeps all until somebody has migrated."""
    async with shipping(directory, nats_server.url, quick()) as journal:
        writer = Writer(journal)
        writer.write(50)
        await until(lambda: journal.counts.publish_unavailable > 1)
        await nats_server.migrate()
        meter = ReferenceMeter(nats_server.url)
        await meter.run_until(lambda: len(meter.payloads()) == 50)
        writer.assert_booked_in_order(meter)
        await meter.close()


async def test_the_acknowledgement_of_another_stream_is_none(
    directory: Path, nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream of another name took the subject: refused aloud, nothing passes for shipped."""
    client = await nats.connect(nats_server.url, connect_timeout=60)
    stream = client.jetstream(timeout=60)
    await stream.add_stream(name="OTHER", subjects=[EXCHANGES_SUBJECTS])
    async with shipping(directory, nats_server.url, quick()) as journal:
        writer = Writer(journal)
        writer.write(50)
        await until(lambda: journal.counts.publish_refused > 1)
        assert journal.counts.bytes_shipped == 0
        assert "OTHER" in caplog.text
        await stream.delete_stream("OTHER")
        await nats_server.migrate()
        meter = ReferenceMeter(nats_server.url)
        await meter.run_until(lambda: len(meter.payloads()) == 50)
        writer.assert_booked_in_order(meter)
        await meter.close()
    await client.close()


async def test_a_parcel_that_is_too_large_is_refused_aloud(
    directory: Path,
    nats_server: NatsServer,
    meter: ReferenceMeter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An operator's limit below ours: counted and logged until it is lifted, then it goes on."""
    caplog.set_level(logging.ERROR)
    stream = await meter.stream()
    config = (await stream.stream_info(EXCHANGES_STREAM)).config
    await stream.update_stream(config.evolve(max_msg_size=2000))
    async with shipping(directory, nats_server.url, quick(journal_lanes=1)) as journal:
        writer = Writer(journal, size=3000)
        writer.write(20)
        await until(lambda: journal.counts.publish_refused > 1)
        assert "refused" in caplog.text
        await stream.update_stream(config)
        await meter.run_until(lambda: len(meter.payloads()) == 20)
        writer.assert_booked_in_order(meter)


class FaultyBus:
    """The real bus, but for one bug that shows at the third parcel."""

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus
        self.on_resend = bus.on_resend
        self.published = 0

    async def publish(self, subject: str, content: bytes, headers: dict[str, str]) -> None:
        """Passes on, but for the third."""
        self.published += 1
        if self.published == 3:
            raise RuntimeError("nobody thought of this")
        await self._bus.publish(subject, content, headers)

    async def position(self, partition: int, incarnation: bytes) -> Position | None:
        """Passes on."""
        return await self._bus.position(partition, incarnation)


async def test_a_shipper_that_fails_is_replaced(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """An error nobody thought of costs a second, not the lane."""
    settings = quick(journal_lanes=1)
    async with NatsBus.open(nats_server.url) as bus:
        journal = open_journal(directory, settings)
        faulty = FaultyBus(bus)
        journal.start(faulty)
        writer = Writer(journal)
        for _ in range(5):
            before = journal.counts.bytes_shipped
            writer.write(50)
            await until(lambda before=before: journal.counts.bytes_shipped > before)
        assert journal.counts.faults == 1
        await meter.run_until(lambda: len(meter.payloads()) == 250)
        writer.assert_booked_in_order(meter)
        await journal.stop(0)


async def test_a_parcel_never_overstates_the_writers_clock(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """What a parcel says of time is not after anything that follows it: closing by the journal's
    time rests on that, live and after adoption."""
    settings = quick(journal_lanes=1)
    async with shipping(directory, nats_server.url, settings) as journal:
        writer = Writer(journal)
        for _ in range(5):
            writer.write(60)
            await meter.turn()
        nats_server.pause()
        writer.write(300)
    nats_server.resume()
    async with shipping(directory, nats_server.url, settings):
        await meter.run_until(lambda: meter.ends == 1)
    (book,) = meter.books.values()
    admitted = []
    offset = 0
    for payload in book.payloads:
        admitted.append((offset, decode(payload).admitted_at_ms))
        offset += len(payload) + 8
    checked = 0
    for head, length in meter.parcels:
        later = [at for begin, at in admitted if begin >= head.offset + length]
        assert head.last_time_ms <= min(later, default=head.last_time_ms)
        assert head.is_end or head.last_time_ms >= admitted[0][1]
        checked += bool(later)
    assert checked > 5


def test_what_dies_while_it_rolls_is_adopted_whole(directory: Path) -> None:
    """Killed between the two names of a new segment, and before its first record."""
    journal = open_journal(directory, quick(journal_lanes=1))
    writer = Writer(journal)
    writer.write(20)
    journal._lanes[0]._roll(0)
    (older, newer) = segment_files(directory)
    draft = newer.with_suffix(".new")
    os.link(newer, draft)
    os.utime(draft, (0, 0))
    assert adopt(directory, set(), Counts(), 9) == []
    assert draft.exists()
    journal.abandon_in_child()
    (source,) = adopt(directory, set(), Counts(), 9)
    assert not draft.exists()
    assert [segment.path for segment in source.segments] == [older, newer]
    first, last = source.segments
    parcel, bad = cut_stored(first, 0, first.end, source.id, 1 << 20, 0)
    assert bad is None
    assert parcel is not None
    found = [record.payload for record in records(parcel.content, 0, source.id)]
    assert found == next(iter(writer.promised.values()))
    assert parcel.chain_after == last.header.base_chain
    assert source.end == last.base == parcel.end
    source.close()


def test_lanes_spread_over_the_partitions_and_keep_theirs(directory: Path) -> None:
    """A lane's partition is fixed, also when it goes on as a new incarnation."""
    journal = open_journal(directory, JournalSettings(metering_partitions=4, journal_lanes=4))
    assert {lane.partition for lane in journal._lanes} == {0, 1, 2, 3}
    lane = journal._lanes[0]
    lane.renew("because")
    assert lane._incarnation.partition == lane.partition
    assert lane._incarnation.end == 0
    journal.abandon_in_child()
