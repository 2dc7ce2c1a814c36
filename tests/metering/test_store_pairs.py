"""Two stores at a time wiped or put back to an older state: refused, or booked again, never wrong."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import nats
import pytest
from metering_shipping import Shipper, eventually, exchanges
from metering_stack import SOON, Stack, book_all
from support.stores import NatsServer

from contracts import subjects
from contracts.checkpoint import encode
from drill import without_metering
from metering.adapters.clickhouse_ledger import ClickHouseLedger
from metering.adapters.nats_checkpoint import NatsCheckpoints
from metering.agreement import Agreement
from metering.ports import Refused, Superseded, Unavailable
from metering.protocol import PartitionMeter

pytestmark = pytest.mark.xdist_group("metering-clickhouse")

FIRST, THEN, LATER = 20, 40, 5
"""Exchanges booked before a copy is taken, after it, and shipped when it was put back."""

Without = Callable[[type, str, Callable[[], None]], None]


class Copies:
    """Copies of the stream and of the ledger, taken and put back."""

    def __init__(self, stack: Stack, nats_server: NatsServer) -> None:
        self._stack = stack
        self._nats = nats_server
        self._files = nats_server.data_dir / "nats-copy"

    async def take_stream(self) -> None:
        """As it is now."""
        self._nats.kill()
        shutil.copytree(self._store(), self._files)
        await self._start()

    def take_ledger(self) -> None:
        """The same parts in another table."""
        client = self._stack.database.client()
        client.command("CREATE TABLE entries_copy AS entries")
        parts = client.query(
            "SELECT DISTINCT partition_id FROM system.parts "
            "WHERE active AND table = 'entries' AND database = currentDatabase()"
        )
        for (partition_id,) in parts.result_rows:
            client.command(
                f"ALTER TABLE entries_copy ATTACH PARTITION ID '{partition_id}' FROM entries"
            )
        client.close()

    def put_back_ledger(self) -> None:
        """Its table is the copy."""
        client = self._stack.database.client()
        client.command("EXCHANGE TABLES entries AND entries_copy")
        client.close()

    async def put_back_stream(self) -> None:
        """Its files are the copy; checkpoints stay."""
        self._nats.kill()
        [kept] = self._files.rglob(subjects.EXCHANGES_STREAM)
        [now] = self._store().rglob(subjects.EXCHANGES_STREAM)
        shutil.rmtree(now)
        shutil.copytree(kept, now)
        await self._start()

    async def _start(self) -> None:
        """Until the stack's own connection is back."""
        self._nats.start()

        async def answers() -> bool:
            try:
                await self._stack.client.jetstream(timeout=0.1).account_info()
            except (nats.errors.Error, OSError):
                return False
            return True

        await eventually(answers)

    def _store(self) -> Path:
        [store] = self._nats.data_dir.rglob("store")
        return store


@pytest.fixture
def copies(stack: Stack, nats_server: NatsServer) -> Copies:
    return Copies(stack, nats_server)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Without:
    """Switch a protection off until the test ends; `owner.name` is what that replaces."""

    def switch_off(owner: type, name: str, protection: Callable[[], None]) -> None:
        monkeypatch.setattr(owner, name, getattr(owner, name))
        protection()

    return switch_off


async def ship(shipper: Shipper, count: int) -> None:
    shipper.write(exchanges(count))
    await shipper.ship(records_per_parcel=10)


async def resync(stack: Stack) -> None:
    bucket = await stack.jetstream.key_value(subjects.CHECKPOINTS_BUCKET)
    await bucket.delete(subjects.checkpoint_key(0))


async def booked_once(stack: Stack, meter: PartitionMeter, count: int) -> None:
    """Until everything is; a gap is asked for and sent again meanwhile."""

    async def is_whole() -> bool:
        await book_all(meter)
        return (await stack.totals())["rows"] >= count

    await eventually(is_whole)
    assert await stack.totals() == {"rows": count, "events": count, "requests": count, "wrong": 0}


async def wipe_stream_and_ledger(stack: Stack, nats_server: NatsServer) -> Shipper:
    """What is left: the checkpoint, and the journals."""
    shipper = await stack.shipper()
    await ship(shipper, FIRST)
    await book_all(await stack.meter())
    client = stack.database.client()
    client.command("TRUNCATE TABLE entries")
    client.close()
    await stack.jetstream.delete_stream(subjects.EXCHANGES_STREAM)
    await nats_server.migrate()
    await ship(shipper, LATER)
    return shipper


async def test_stream_and_ledger_wiped_together_are_refused_then_booked_from_the_journals(
    stack: Stack, nats_server: NatsServer
) -> None:
    """The checkpoint is the only one that remembers; after a resync the journals say it all."""
    await wipe_stream_and_ledger(stack, nats_server)
    with pytest.raises(Refused, match="tollway resync 0"):
        await (await stack.meter()).step()
    await resync(stack)
    await booked_once(stack, await stack.meter(**SOON), FIRST + LATER)


async def put_back_stream_and_ledger(
    stack: Stack, copies: Copies, meter: PartitionMeter | None = None
) -> Shipper:
    shipper = await stack.shipper()
    meter = meter or await stack.meter()
    await ship(shipper, FIRST)
    await book_all(meter)
    await copies.take_stream()
    copies.take_ledger()
    await ship(shipper, THEN)
    await book_all(meter)
    await copies.put_back_stream()
    copies.put_back_ledger()
    return shipper


async def test_stream_and_ledger_put_back_together_are_refused_then_booked_from_the_journals(
    stack: Stack, copies: Copies
) -> None:
    """The checkpoint is ahead of both; also when the stream has grown past it meanwhile."""
    shipper = await put_back_stream_and_ledger(stack, copies)
    with pytest.raises(Refused, match="it was restored to an older state"):
        await (await stack.meter()).step()
    # As many parcels as were lost: by its length alone the stream is no older one now.
    await ship(shipper, THEN + LATER)
    with pytest.raises(Refused, match="the ledger was restored to an older state"):
        await (await stack.meter()).step()
    await resync(stack)
    await booked_once(stack, await stack.meter(**SOON), FIRST + THEN + THEN + LATER)


@pytest.mark.parametrize("grown", [0, THEN + LATER])
async def test_an_owner_with_nothing_to_book_sees_stream_and_ledger_put_back(
    stack: Stack, copies: Copies, grown: int
) -> None:
    """It looks now and then; also when the stream has grown past it since its last look."""
    meter = await stack.meter(ledger_check_ms=0)
    shipper = await put_back_stream_and_ledger(stack, copies, meter)
    if grown:
        await ship(shipper, grown)

    async def refuses() -> bool:
        with contextlib.suppress(Unavailable):
            await meter.step()
        return False

    with pytest.raises(Refused, match="was restored to an older state"):
        await eventually(refuses)


async def put_back_ledger_and_book(stack: Stack, copies: Copies) -> None:
    """By an owner that lives, and does not look in between."""
    shipper = await stack.shipper()
    meter = await stack.meter(ledger_check_ms=3_600_000)
    await ship(shipper, FIRST)
    await book_all(meter)
    copies.take_ledger()
    await ship(shipper, THEN)
    await book_all(meter)
    copies.put_back_ledger()
    await ship(shipper, LATER)
    await book_all(meter)
    assert (await stack.totals())["rows"] == FIRST + LATER


async def test_a_ledger_put_back_and_booked_in_again_is_refused(
    stack: Stack, copies: Copies
) -> None:
    """Its newest batch is there, earlier ones are not; without them no other ledger will do either."""
    await put_back_ledger_and_book(stack, copies)
    with pytest.raises(Refused, match=f"lacks {THEN} of {FIRST + THEN + LATER} rows"):
        await (await stack.meter()).step()
    # The newer one again, which lacks what was booked in the older one.
    copies.put_back_ledger()
    with pytest.raises(Refused, match=f"lacks {LATER} of {FIRST + THEN + LATER} rows"):
        await (await stack.meter()).step()
    await resync(stack)
    meter = await stack.meter(**SOON)
    await meter.open()
    assert (await stack.checkpoint()).rows_since_proved == FIRST + THEN
    await booked_once(stack, meter, FIRST + THEN + LATER)


async def count_nothing(stack: Stack) -> None:
    """A checkpoint of before rows were counted."""
    uncounted = msgspec.structs.replace(
        await stack.checkpoint(), proved_batch_ms=0, rows_since_proved=0
    )
    bucket = await stack.jetstream.key_value(subjects.CHECKPOINTS_BUCKET)
    await bucket.put(subjects.checkpoint_key(0), encode(uncounted))


async def test_a_checkpoint_of_before_rows_were_counted_counts_from_its_newest_batch(
    stack: Stack, copies: Copies
) -> None:
    """The next batch makes it as good as any."""
    shipper = await stack.shipper()
    await ship(shipper, FIRST)
    await book_all(await stack.meter())
    await count_nothing(stack)
    copies.take_ledger()
    await ship(shipper, THEN)
    await book_all(await stack.meter())
    copies.put_back_ledger()
    with pytest.raises(Refused, match=f"lacks {THEN} of {FIRST + THEN} rows"):
        await (await stack.meter()).step()


async def test_a_checkpoint_of_before_rows_were_counted_knows_its_newest_batch(
    stack: Stack, copies: Copies
) -> None:
    """A ledger without it is an older one, whatever else it holds."""
    shipper = await stack.shipper()
    await ship(shipper, FIRST)
    await book_all(await stack.meter())
    copies.take_ledger()
    await ship(shipper, THEN)
    await book_all(await stack.meter())
    await count_nothing(stack)
    copies.put_back_ledger()
    with pytest.raises(Refused, match="lacks the newest of the last batches"):
        await (await stack.meter()).step()


async def put_back_ledger_and_checkpoint(stack: Stack, copies: Copies) -> PartitionMeter:
    """Behind the back of an owner that lives, and has read on."""
    shipper = await stack.shipper()
    # It does not look whether it is superseded: it hears of that when it writes.
    meter = await stack.meter(ledger_check_ms=3_600_000)
    await ship(shipper, FIRST)
    await book_all(meter)
    copies.take_ledger()
    old = encode(await stack.checkpoint())
    await ship(shipper, THEN)
    await book_all(meter)
    copies.put_back_ledger()
    bucket = await stack.jetstream.key_value(subjects.CHECKPOINTS_BUCKET)
    await bucket.put(subjects.checkpoint_key(0), old)
    await ship(shipper, LATER)
    return meter


async def test_ledger_and_checkpoint_put_back_together_are_booked_from_the_stream(
    stack: Stack, copies: Copies
) -> None:
    """They agree with each other, and the stream holds the rest; its owner is superseded."""
    meter = await put_back_ledger_and_checkpoint(stack, copies)
    with pytest.raises(Superseded):
        await meter.step()
    await booked_once(stack, meter, FIRST + THEN + LATER)
    assert meter.progress.rebuilds == 0


# ---- the same without what stands against it


@pytest.mark.parametrize("pair", ["wiped", "put back"])
async def test_without_comparing_the_stores_what_was_shipped_anew_is_lost(
    stack: Stack, nats_server: NatsServer, copies: Copies, without: Without, pair: str
) -> None:
    """Nobody looks at the stream's age or length, nor for the newest batch: it is not read."""
    if pair == "wiped":
        await wipe_stream_and_ledger(stack, nats_server)
    else:
        await ship(await put_back_stream_and_ledger(stack, copies), LATER)
    without(Agreement, "with_stream", without_metering.any_stream)
    without(ClickHouseLedger, "rows_between", without_metering.any_ledger)
    meter = await stack.meter()
    assert not await meter.step()
    assert (await stack.totals())["rows"] == (0 if pair == "wiped" else FIRST)


async def test_without_counting_what_the_ledger_holds_an_older_one_is_booked_in(
    stack: Stack, copies: Copies, without: Without
) -> None:
    """What only the newer one held is in none, and the stream is not read again."""
    await put_back_ledger_and_book(stack, copies)
    without(ClickHouseLedger, "rows_between", without_metering.any_ledger)
    meter = await stack.meter()
    assert not await meter.step()
    assert (await stack.totals())["rows"] == FIRST + LATER


async def test_without_compare_and_set_an_owner_reads_on_where_it_was(
    stack: Stack, copies: Copies, without: Without
) -> None:
    """What was booked after the copy is in neither store, and nobody reads it again. The next look
    refuses: another protection."""
    without(NatsCheckpoints, "write", without_metering.no_compare_and_set)
    meter = await put_back_ledger_and_checkpoint(stack, copies)
    await book_all(meter)
    assert (await stack.totals())["rows"] == FIRST + LATER
    with pytest.raises(Refused, match=f"lacks {THEN} of {FIRST + THEN + LATER} rows"):
        await (await stack.meter()).step()
