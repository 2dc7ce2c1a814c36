"""From an append to the books, on a good day and through an outage."""

import asyncio
from pathlib import Path

from journal.conftest import (
    NEVER,
    PATIENT,
    Writer,
    event,
    quick,
    segment_files,
    shipping,
    until,
)
from journal.reference_meter import ReferenceMeter
from support.stores import NatsServer

from contracts.subjects import EXCHANGES_STREAM


async def test_events_of_a_lane_are_booked_in_order(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Whatever the parcels, each lane's events arrive whole, once, in the order of their appends."""
    async with shipping(directory, nats_server.url, quick()) as journal:
        writer = Writer(journal)
        for _ in range(10):
            writer.write(100)
            await meter.turn()
        await meter.run_until(lambda: len(meter.payloads()) == writer.total)
        writer.assert_booked_in_order(meter)
        assert meter.gaps == meter.forks == 0
        assert len(meter.books) == 2


async def test_a_stopped_journal_leaves_nothing_behind(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """A stop ships all, writes one END a lane, waits until that is booked and deletes the files."""
    async with shipping(directory, nats_server.url, quick(), stop_s=60) as journal:
        writer = Writer(journal)
        writer.write(500)
        assert segment_files(directory)
        metering = asyncio.ensure_future(meter.run_until(lambda: meter.ends == 2))
    await metering
    writer.assert_booked_in_order(meter)
    assert segment_files(directory) == []


async def test_a_segment_stays_until_it_is_booked(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Acknowledged is not booked: nothing is deleted while the meter is away."""
    async with shipping(directory, nats_server.url, quick(journal_lanes=1)) as journal:
        writer = Writer(journal)
        writer.write(1000)
        count = len(segment_files(directory))
        assert count > 3
        await until(lambda: journal.counts.bytes_shipped == journal.facts().bytes_journalled)
        assert len(segment_files(directory)) == count
        await meter.run_until(lambda: len(segment_files(directory)) == 1)
        writer.assert_booked_in_order(meter)


async def test_an_outage_of_the_broker_loses_nothing(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Appends go on while NATS is killed, away, back and paused; all of it is booked in the end."""
    async with shipping(directory, nats_server.url, quick()) as journal:
        writer = Writer(journal)
        writer.write(200)
        await meter.run_until(lambda: len(meter.payloads()) > 0)
        await meter.close()
        nats_server.kill()
        before = journal.counts.publish_unavailable
        writer.write(300)
        await until(lambda: journal.counts.publish_unavailable > before)
        writer.write(300)
        nats_server.start()
        await meter.run_until(lambda: len(meter.payloads()) == writer.total)
        nats_server.pause()
        before = journal.counts.publish_unavailable
        writer.write(300)
        await until(lambda: journal.counts.publish_unavailable > before)
        nats_server.resume()
        await meter.run_until(lambda: len(meter.payloads()) == writer.total)
        writer.assert_booked_in_order(meter)


async def test_a_gateway_starts_and_appends_without_a_broker(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """The first connection may come after the first events."""
    nats_server.kill()
    async with shipping(directory, nats_server.url, quick()) as journal:
        writer = Writer(journal)
        writer.write(50)
        await until(lambda: journal.counts.publish_unavailable > 0)
        nats_server.start()
        await meter.run_until(lambda: len(meter.payloads()) == 50)
        writer.assert_booked_in_order(meter)


async def test_a_full_stream_makes_the_journal_wait(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """The stream refuses, the journal keeps, a purge of what is booked lets it go on."""
    await nats_server.migrate(stream_bytes_max=200_000)
    async with shipping(directory, nats_server.url, quick()) as journal:
        writer = Writer(journal)
        writer.write(1000)
        await until(lambda: journal.counts.publish_full > 0)
        assert journal.counts.bytes_shipped < journal.facts().bytes_journalled
        stream = await meter.stream()
        while len(meter.payloads()) < writer.total:
            await meter.turn()
            await stream.purge_stream(EXCHANGES_STREAM, seq=meter.next_seq)
        writer.assert_booked_in_order(meter)


async def test_a_record_longer_than_a_parcel_goes_alone(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Long and short events in turn, live and from a backlog."""
    once = quick(journal_lanes=1, resend_after=NEVER, parcel_ack_timeout=PATIENT)
    async with shipping(directory, nats_server.url, once) as journal:
        lane = journal.lane()
        promised = [event(n, 100_000 if n % 5 == 2 else 50) for n in range(40)]
        for payload in promised:
            lane.append(payload)
        await meter.run_until(lambda: len(meter.payloads()) == 40)
        lane.append(longest := event(40, 200_000))
        await meter.run_until(lambda: len(meter.payloads()) == 41)
        assert meter.payloads() == [*promised, longest]
        long = [head.count for head, length in meter.parcels if length > 16 * 1024]
        assert long == [1] * 9
