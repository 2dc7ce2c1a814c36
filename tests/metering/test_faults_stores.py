"""Faults of stream and checkpoint: gaps, resets, stores wiped or rolled back alone and in pairs."""

import contextlib

import pytest
from metering_events import make_completed
from metering_proxy import ResettingProxy
from metering_shipping import eventually, exchanges
from metering_stack import SOON, Stack, book_all
from support.stores import NatsServer

from contracts.checkpoint import encode
from contracts.exchange import encode as encode_event
from contracts.ids import new_id
from contracts.records import frame
from metering.ports import Refused, Superseded, Unavailable

pytestmark = pytest.mark.xdist_group("metering-clickhouse")

ALL_RIGHT = {"rows": 60, "events": 60, "requests": 60, "wrong": 0}


async def booked(stack: Stack, count: int = 60) -> None:
    """Ship and book exchanges in several parcels and batches."""
    shipper = await stack.shipper()
    meter = await stack.meter(rows_max=20)
    shipper.write(exchanges(count))
    await shipper.ship(records_per_parcel=10)
    await book_all(meter)


async def resync(stack: Stack) -> None:
    bucket = await stack.jetstream.key_value("CHECKPOINTS")
    await bucket.delete("p.0")


# ---- the stream loses, the journal heals


async def test_a_parcel_deleted_from_the_stream_is_sent_again(stack: Stack) -> None:
    """The gap is seen by offset, its shipper asked, nothing lost or doubled."""
    shipper = await stack.shipper()
    shipper.write(exchanges(60))
    seqs = await shipper.ship(records_per_parcel=10)
    await stack.jetstream.delete_msg("EXCHANGES", seqs[3])
    await stack.jetstream.delete_msg("EXCHANGES", seqs[7])
    meter = await stack.meter()

    async def is_whole() -> bool:
        await book_all(meter)
        return (await stack.totals())["rows"] == 60

    await eventually(is_whole)
    assert shipper.resends >= 1
    assert meter.progress.gaps >= 1
    assert await stack.totals() == ALL_RIGHT


async def test_a_gap_holds_up_only_its_own_journal(stack: Stack) -> None:
    """Another incarnation of the partition is booked while one waits for what is missing."""
    deaf = await stack.shipper()
    deaf.incarnation = new_id()  # asks go to a subject nobody hears
    deaf.chains = [deaf.incarnation]
    deaf.write(exchanges(20))
    seqs = await deaf.ship(records_per_parcel=10)
    await stack.jetstream.delete_msg("EXCHANGES", seqs[1])
    other = await stack.shipper()
    other.write(exchanges(30))
    await other.ship()
    await book_all(await stack.meter())
    checkpoint = await stack.checkpoint()
    assert (await stack.totals())["rows"] == 35
    assert checkpoint.incarnations[deaf.name].offset == deaf.offsets[10]
    assert checkpoint.oldest_open_seq == seqs[2]

    # Declared lost: what lies ahead of the gap is booked all the same, the gap is named in bytes.
    bucket = await stack.jetstream.key_value("CHECKPOINTS")
    await bucket.put(f"lost.{deaf.name}", b"declared")
    meter = await stack.meter()
    await book_all(meter)
    assert (await stack.totals()) == {"rows": 45, "events": 45, "requests": 45, "wrong": 0}
    assert meter.progress.jumped_bytes == deaf.offsets[20] - deaf.offsets[10]
    assert (await stack.checkpoint()).oldest_open_seq is None


async def test_connections_reset_while_reading_lose_nothing(
    stack: Stack, nats_server: NatsServer
) -> None:
    """Every chain of answers is whole or read again."""
    shipper = await stack.shipper()
    shipper.write(exchanges(60))
    await shipper.ship(records_per_parcel=5)
    async with ResettingProxy(nats_server.url) as proxy:
        # A request whose answer was reset is waited for this long.
        meter = await stack.meter(
            nats_url=proxy.url, nats_timeout_s=2, rows_max=20, bytes_max=20_000
        )

        async def has_begun() -> bool:
            with contextlib.suppress(Unavailable, Superseded):
                await meter.step()
            return meter.progress.batches > 0

        # The price book is larger than what passes from then on.
        await eventually(has_begun)
        proxy.reset_after_bytes = 60_000
        await book_all(meter)
        assert proxy.resets > 0
    assert await stack.totals() == ALL_RIGHT


# ---- stores wiped and rolled back


async def test_a_wiped_checkpoint_is_rebuilt_from_the_ledger(stack: Stack) -> None:
    """Missing is not zero: every event of the stream is looked up, none booked again."""
    await booked(stack)
    await stack.jetstream.delete_stream("KV_CHECKPOINTS")
    await migrate_again(stack)
    meter = await stack.meter(**SOON)
    await book_all(meter)
    assert meter.progress.rebuilds == 1
    assert meter.progress.looked_up >= 60
    assert await stack.totals() == ALL_RIGHT
    assert (await stack.checkpoint()).committed_seq == 12


async def migrate_again(stack: Stack) -> None:
    from infra.migrations.nats import migrate_nats
    from infra.migrations.settings import MigrationSettings

    await migrate_nats(
        MigrationSettings(
            nats_url=stack.nats_url, stream_bytes_max=1 << 30, dead_letter_bytes_max=1 << 28
        )
    )


async def test_a_checkpoint_rolled_back_is_noticed(stack: Stack) -> None:
    """Older than the ledger: what it does not know of is looked up."""
    shipper = await stack.shipper()
    meter = await stack.meter(**SOON)
    shipper.write(exchanges(20))
    await shipper.ship()
    await book_all(meter)
    old = encode(await stack.checkpoint())
    shipper.write(exchanges(40))
    await shipper.ship(records_per_parcel=10)
    await book_all(meter)
    bucket = await stack.jetstream.key_value("CHECKPOINTS")
    await bucket.put("p.0", old)
    shipper.write(exchanges(1))
    await shipper.ship()
    with pytest.raises(Superseded):
        await meter.step()
    await book_all(meter)
    assert meter.progress.rebuilds == 1
    assert await stack.totals() == {"rows": 61, "events": 61, "requests": 61, "wrong": 0}


async def test_a_new_stream_under_an_old_checkpoint_is_refused(stack: Stack) -> None:
    """Sequences begin again: refuse and say what to do; after a resync nothing is doubled."""
    shipper = await stack.shipper()
    shipper.write(exchanges(60))
    await shipper.ship(records_per_parcel=10)
    await book_all(await stack.meter())
    await stack.jetstream.delete_stream("EXCHANGES")
    await migrate_again(stack)
    with pytest.raises(Refused, match="tollway resync 0"):
        await (await stack.meter()).step()
    await resync(stack)
    shipper.write(exchanges(5))
    await shipper.ship(first=0, records_per_parcel=7)
    await book_all(await stack.meter(**SOON))
    assert await stack.totals() == {"rows": 65, "events": 65, "requests": 65, "wrong": 0}


async def test_a_stream_shorter_than_the_checkpoint_is_refused(stack: Stack) -> None:
    """The stream was restored to an older state."""
    await booked(stack)
    checkpoint = await stack.checkpoint()
    bucket = await stack.jetstream.key_value("CHECKPOINTS")
    await bucket.put("p.0", encode(_with_committed(checkpoint, 99)))
    with pytest.raises(Refused, match="restored to an older state"):
        await (await stack.meter()).step()


def _with_committed(checkpoint: object, seq: int) -> object:
    import msgspec

    return msgspec.structs.replace(checkpoint, committed_seq=seq)  # type: ignore[type-var]


async def test_a_ledger_behind_the_checkpoint_is_refused(stack: Stack) -> None:
    """Rows are gone that are committed: refuse; a resync books from the stream what is missing."""
    await booked(stack)
    client = stack.database.client()
    client.command(
        "ALTER TABLE entries DELETE WHERE journal_offset > 20000 SETTINGS mutations_sync=1"
    )
    client.close()
    left = (await stack.totals())["rows"]
    assert 0 < left < 60
    with pytest.raises(Refused, match="the ledger was restored to an older state"):
        await (await stack.meter()).step()
    await resync(stack)
    await book_all(await stack.meter(**SOON))
    assert await stack.totals() == ALL_RIGHT


async def test_ledger_and_checkpoint_wiped_together_are_booked_anew(stack: Stack) -> None:
    """Both gone: the stream holds everything, and everything is booked once."""
    await booked(stack)
    client = stack.database.client()
    client.command("TRUNCATE TABLE entries")
    client.close()
    await stack.jetstream.delete_stream("KV_CHECKPOINTS")
    await migrate_again(stack)
    await book_all(await stack.meter(**SOON))
    assert await stack.totals() == ALL_RIGHT


async def test_stream_and_checkpoint_wiped_together_double_nothing(stack: Stack) -> None:
    """The journals send again what they hold; the ledger knows all of it."""
    shipper = await stack.shipper()
    shipper.write(exchanges(60))
    await shipper.ship(records_per_parcel=10)
    await book_all(await stack.meter())
    await stack.jetstream.delete_stream("KV_CHECKPOINTS")
    await stack.jetstream.delete_stream("EXCHANGES")
    await migrate_again(stack)
    await shipper.ship(first=40, records_per_parcel=9)
    await book_all(await stack.meter(**SOON))
    assert await stack.totals() == ALL_RIGHT


# ---- what cannot be read


async def test_a_poison_record_becomes_a_dead_letter(stack: Stack) -> None:
    """The others are booked; the letter holds the bytes and the reason."""
    shipper = await stack.shipper()
    shipper.write(exchanges(2))
    shipper.write_record(frame(b"\xc1 no message"))
    shipper.write(exchanges(2))
    await shipper.ship()
    meter = await stack.meter()
    await book_all(meter)
    assert (await stack.totals())["rows"] == 4
    letter = await stack.jetstream.get_msg("DEAD_LETTERS", seq=1)
    assert letter.data == b"\xc1 no message"
    assert letter.headers is not None
    assert letter.headers["Tw-Reason"].startswith("undecodable")
    assert letter.headers["Tw-Identity"] == f"record:{shipper.name}:{shipper.offsets[5]}"
    assert meter.progress.dead_letters == 1


async def test_a_forked_parcel_is_put_aside_and_the_true_one_booked(stack: Stack) -> None:
    """Other bytes at the booked offset: a dead letter, and the journal goes on."""
    shipper = await stack.shipper()
    shipper.write(exchanges(3))
    await shipper.ship()
    fork = await stack.shipper()
    fork.incarnation = shipper.incarnation
    fork.chains = [shipper.incarnation]
    fork.write(exchanges(3))
    fork.write(exchanges(2))
    await fork.ship(first=6)
    meter = await stack.meter()
    await book_all(meter)
    assert (await stack.totals())["rows"] == 3
    assert meter.progress.forks == 1
    shipper.write(exchanges(2))
    await shipper.ship()
    await book_all(meter)
    assert await stack.totals() == {"rows": 5, "events": 5, "requests": 5, "wrong": 0}


async def test_a_poisoned_journal_is_quarantined_and_others_go_on(stack: Stack) -> None:
    """A run of unreadable records stops that journal; three such journals stop the partition."""
    well = await stack.shipper()
    well.write(exchanges(3))
    await well.ship()
    meter = await stack.meter(bad_run_max=10, quarantined_max=3)
    for _ in range(2):
        sick = await stack.shipper()
        for _ in range(12):
            sick.write_record(frame(b"\xc1"))
        await sick.ship()
        well.write(exchanges(1))
        await well.ship()
        await book_all(meter)
    assert (await stack.totals())["rows"] == 5
    sick = await stack.shipper()
    for _ in range(12):
        sick.write_record(frame(b"\xc1"))
    await sick.ship()
    with pytest.raises(Refused, match="3 incarnations"):
        await meter.step()


async def test_a_damaged_parcel_is_booked_up_to_the_damage_and_healed(stack: Stack) -> None:
    """A flipped bit: what came before it is booked, the rest is asked for again."""
    shipper = await stack.shipper()
    shipper.write(exchanges(10))
    headers, content = shipper.parcel(0, 20)
    at = shipper.offsets[7] + 20
    await shipper.publish(headers, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    meter = await stack.meter()

    async def is_whole() -> bool:
        await book_all(meter)
        return (await stack.totals())["rows"] == 10

    await eventually(is_whole)
    assert meter.progress.damages == 1
    assert (await stack.checkpoint()).oldest_open_seq is None


async def test_a_message_that_is_no_parcel_is_put_aside(stack: Stack) -> None:
    """Anybody can publish on the subject; it stops nobody."""
    await stack.jetstream.publish("exchanges.0", encode_event(make_completed()))
    await booked(stack)
    assert (await stack.totals())["rows"] == 60
    letter = await stack.jetstream.get_msg("DEAD_LETTERS", seq=1)
    assert letter.headers is not None
    assert letter.headers["Tw-Reason"] == "not a parcel"
