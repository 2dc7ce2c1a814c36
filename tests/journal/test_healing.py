"""What the broker lost, the journal sends again; nothing is booked over a hole."""

import asyncio
import json
from pathlib import Path

import pytest
from journal.conftest import NEVER, PATIENT, Writer, open_journal, quick, shipping, until
from journal.reference_meter import ReferenceMeter
from journal.resetting_proxy import ResettingProxy
from nats.aio.client import Client
from support.stores import NatsServer

from contracts.subjects import EXCHANGES_STREAM, resend_subject
from gateway.adapters.nats_bus import NatsBus
from gateway.ports import BusUnavailable
from runtime.settings import Duration


async def _ship_some(journal_writer: Writer, count: int) -> None:
    counts = journal_writer.journal.counts
    journal_writer.write(count)
    await until(lambda: counts.bytes_shipped == journal_writer.journal.facts().bytes_journalled)


async def test_connections_cut_by_resets_lose_nothing(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """TCP resets at any moment of a publish: parcels repeat, events do not, none is missing."""
    async with (
        ResettingProxy(nats_server.url) as proxy,
        shipping(directory, proxy.url, quick()) as journal,
    ):
        writer = Writer(journal)
        for number in range(8):
            shipped = journal.counts.bytes_shipped
            writer.write(150)
            await until(lambda shipped=shipped: journal.counts.bytes_shipped > shipped)
            writer.write(150)
            await asyncio.sleep(0.002 * number)
            proxy.reset()
        await meter.run_until(lambda: len(meter.payloads()) == writer.total)
        writer.assert_booked_in_order(meter)
        assert proxy.resets >= 8
        assert journal.counts.publish_unavailable > 0


async def test_a_connection_that_the_server_ends_for_good_is_made_anew(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Expired credentials, say: what is appended afterwards is shipped, and asking is heard."""
    async with (
        ResettingProxy(nats_server.url) as proxy,
        shipping(directory, proxy.url, quick(journal_lanes=1, resend_after=NEVER)) as journal,
    ):
        writer = Writer(journal)
        await _ship_some(writer, 10)
        for _ in range(2):
            proxy.say(b"-ERR 'User Authentication Expired'\r\n")
            await asyncio.sleep(0.05)
            await _ship_some(writer, 10)
        await meter.run_until(lambda: len(meter.payloads()) == writer.total)
        writer.assert_booked_in_order(meter)


@pytest.mark.parametrize("checks_gap", [True, False])
async def test_a_parcel_lost_by_the_stream_is_sent_again_when_asked(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter, checks_gap: bool
) -> None:
    """The meter sees the gap and asks. (A meter that jumps over gaps never gets the events.)"""
    meter.checks_gap = checks_gap
    settings = quick(journal_lanes=1, resend_after=NEVER, parcel_ack_timeout=PATIENT)
    async with shipping(directory, nats_server.url, settings) as journal:
        writer = Writer(journal)
        for _ in range(3):
            await _ship_some(writer, 40)
        stream = await meter.stream()
        assert await stream.delete_msg(EXCHANGES_STREAM, 2)
        if not checks_gap:
            await meter.turn()
            assert journal.counts.resends_asked == 0
            assert len(meter.payloads()) < writer.total
            return
        await meter.run_until(lambda: len(meter.payloads()) == writer.total)
        writer.assert_booked_in_order(meter)
        assert meter.gaps > 0
        assert journal.counts.resends_asked > 0


async def test_a_gap_heals_without_being_asked(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Booking stands still: the shipper probes at the booked offset, then sends the rest."""
    meter.asks = False
    settings = quick(journal_lanes=1, parcel_ack_timeout=PATIENT)
    async with shipping(directory, nats_server.url, settings) as journal:
        writer = Writer(journal)
        for _ in range(4):
            await _ship_some(writer, 100)
        stream = await meter.stream()
        assert await stream.delete_msg(EXCHANGES_STREAM, 2)
        assert await stream.delete_msg(EXCHANGES_STREAM, 3)
        await meter.run_until(lambda: len(meter.payloads()) == writer.total)
        writer.assert_booked_in_order(meter)
        assert meter.gaps > 0
        assert journal.counts.resends_own > 0


async def test_a_purged_stream_is_filled_again_from_the_journal(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Everything unbooked is still on disk, however much the stream lost."""
    async with shipping(directory, nats_server.url, quick()) as journal:
        writer = Writer(journal)
        await _ship_some(writer, 500)
        stream = await meter.stream()
        last_seq = (await stream.stream_info(EXCHANGES_STREAM)).state.last_seq
        await stream.purge_stream(EXCHANGES_STREAM)
        # It may have begun to send again already.
        assert (await stream.stream_info(EXCHANGES_STREAM)).state.first_seq > last_seq
        await meter.run_until(lambda: len(meter.payloads()) == writer.total)
        writer.assert_booked_in_order(meter)


async def test_a_meter_that_is_away_does_not_fill_the_stream(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """While nothing is booked, probes repeat one parcel each; what is new goes out once."""
    settings = quick(journal_lanes=1, resend_after=Duration(0.05), parcel_ack_timeout=PATIENT)
    async with shipping(directory, nats_server.url, settings) as journal:
        writer = Writer(journal)
        counts = journal.counts
        stream = await meter.stream()

        async def messages() -> int:
            return int((await stream.stream_info(EXCHANGES_STREAM)).state.messages)

        await _ship_some(writer, 1000)
        async with asyncio.timeout(60):
            while await messages() < counts.parcels_shipped + 4:
                pass
        await _ship_some(writer, 100)
        # Counted before they are sent, and parcels after.
        assert await messages() <= counts.parcels_shipped + counts.resends_own + 1
        await meter.run_until(lambda: len(meter.payloads()) == writer.total)
        assert sum(length for head, length in meter.parcels if head.offset == 0) > 16 * 1024 * 4
        writer.assert_booked_in_order(meter)


async def test_requests_to_send_again_are_bounded(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """Never forward, never below what is booked, and one answer for many equal requests."""
    settings = quick(journal_lanes=1, resend_after=NEVER)
    async with shipping(directory, nats_server.url, settings) as journal:
        writer = Writer(journal)
        await _ship_some(writer, 100)
        await meter.run_until(lambda: len(meter.payloads()) == 100)
        await until(lambda: journal.counts.bytes_booked == journal.counts.bytes_shipped)
        incarnation, book = next(iter(meter.books.items()))
        client = await meter.connect()
        subject = resend_subject(bytes.fromhex(incarnation))

        async def ask(content: bytes) -> None:
            await client.publish(subject, content)
            await client.flush(60)

        await ask(json.dumps({"offset": 0}).encode())
        await ask(json.dumps({"offset": book.offset + 10_000}).encode())
        await ask(b"no json")
        meter_seq = meter.next_seq
        await _ship_some(writer, 100)
        assert journal.counts.resends_asked == 0
        for _ in range(50):
            await ask(json.dumps({"offset": book.offset}).encode())
        await until(lambda: journal.counts.resends_asked == 1)
        await meter.run_until(lambda: len(meter.payloads()) == 200)
        assert meter.next_seq > meter_seq
        assert journal.counts.resends_asked == 1
        writer.assert_booked_in_order(meter)


async def test_a_lane_that_nothing_comes_to_sees_that_the_books_were_put_back(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """No parcel shows a gap, nobody asks: it looks by itself, and sends all that it holds."""
    meter.asks = False
    async with shipping(directory, nats_server.url, quick(journal_lanes=1)) as journal:
        writer = Writer(journal)
        await _ship_some(writer, 100)
        await meter.run_until(lambda: len(meter.payloads()) == 100)
        await until(lambda: journal.counts.bytes_booked == journal.counts.bytes_shipped)
        await meter.forget()
        await meter.run_until(lambda: len(meter.payloads()) == 100)
        writer.assert_booked_in_order(meter)


async def test_books_put_back_to_before_everything_get_what_the_journal_still_holds(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """They ask for what was booked once; the checkpoint that does not name us says they are right."""
    settings = quick(journal_lanes=1, resend_after=NEVER, journal_keep=NEVER)
    async with shipping(directory, nats_server.url, settings) as journal:
        writer = Writer(journal)
        await _ship_some(writer, 100)
        await meter.run_until(lambda: len(meter.payloads()) == 100)
        await until(lambda: journal.counts.bytes_booked == journal.counts.bytes_shipped)
        await meter.forget()
        async with asyncio.timeout(60):
            while not meter.payloads():
                # Each parcel behind the gap is one more question; the first come before it knows.
                await _ship_some(writer, 10)
                await meter.turn()
        await meter.run_until(lambda: len(meter.payloads()) == writer.total)
        writer.assert_booked_in_order(meter)


class HeardTooLate:
    """The real bus; while `is_held`, what was published is acknowledged to nobody."""

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus
        self.is_held = False
        self.arrived = 0
        self.released = asyncio.Event()
        self.position = bus.position
        self.on_resend = bus.on_resend

    async def publish(self, subject: str, content: bytes, headers: dict[str, str]) -> None:
        await self._bus.publish(subject, content, headers)
        if self.is_held:
            self.arrived += 1
            await self.released.wait()
            raise BusUnavailable("no answer")


async def test_what_is_booked_counts_as_shipped_without_an_acknowledgement(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter
) -> None:
    """A lane that falls quiet then does not say for ever that it holds what was not shipped."""
    settings = quick(journal_lanes=1, resend_after=NEVER)
    async with NatsBus.open(nats_server.url, ack_timeout_s=5) as real:
        bus = HeardTooLate(real)
        journal = open_journal(directory, settings)
        journal.start(bus)
        try:
            writer = Writer(journal)
            await _ship_some(writer, 1)
            bus.is_held = True
            writer.write(1)
            await until(lambda: bus.arrived == 1)
            await meter.run_until(lambda: len(meter.payloads()) == writer.total)
            await until(lambda: journal.counts.bytes_booked == journal.facts().bytes_journalled)
            bus.is_held = False
            bus.released.set()
            await until(lambda: journal.oldest_unshipped_age_s() is None)
            assert bus.arrived == 1
        finally:
            await journal.stop(0.0)


@pytest.mark.parametrize("is_away", [True, False])
async def test_an_attempt_to_connect_that_outlives_the_close_ends(
    nats_server: NatsServer, is_away: bool
) -> None:
    """The library may lose the cancellation of its attempts; they would go on for ever."""
    async with NatsBus.open(nats_server.url) as bus:
        await until(lambda: bus.is_connected)
    client = bus._client
    client._status = Client.RECONNECTING
    if is_away:
        nats_server.kill()
    await asyncio.wait_for(client._attempt_reconnect(), 60)
    assert not client.is_connected
