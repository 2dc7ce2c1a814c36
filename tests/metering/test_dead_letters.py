"""Dead letters: each is kept before anything is booked past it, and nothing is when it cannot be."""

import pytest
from metering_ledgers import EmptyLedger
from metering_shipping import Shipper, exchanges
from metering_stack import SOON, Stack, book_all
from support.stores import NatsServer

from contracts.records import frame
from contracts.subjects import DEAD_LETTERS_STREAM
from metering.ports import Unavailable

pytestmark = pytest.mark.xdist_group("metering-clickhouse")

POISONED = 12


async def ship_poison(stack: Stack) -> Shipper:
    """Records that nobody can read, and an exchange behind them."""
    shipper = await stack.shipper()
    for _ in range(POISONED):
        shipper.write_record(frame(b"\xc1" + bytes(1_000)))
    shipper.write(exchanges(1))
    await shipper.ship()
    return shipper


async def identities(stack: Stack) -> list[str]:
    """Of the dead letters, in their order."""
    state = (await stack.jetstream.stream_info(DEAD_LETTERS_STREAM)).state
    found = []
    for seq in range(max(state.first_seq, 1), state.last_seq + 1):
        letter = await stack.jetstream.get_msg(DEAD_LETTERS_STREAM, seq)
        assert letter.headers is not None
        found.append(letter.headers["Tw-Identity"])
    return found


async def test_no_room_for_dead_letters_stops_a_partition_until_there_is_some(
    stack: Stack, nats_server: NatsServer
) -> None:
    """Nothing is booked past a letter that is not kept; other partitions go on."""
    await nats_server.migrate(dead_letter_bytes_max=4_096)
    shipper = await ship_poison(stack)
    meter = await stack.meter()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await meter.step()
    assert 0 < len(set(await identities(stack))) < POISONED
    checkpoint = await stack.checkpoint()
    assert checkpoint.committed_seq == 0
    assert checkpoint.pending is None
    other = await stack.shipper(1)
    other.write(exchanges(1))
    await other.ship()
    await book_all(await stack.meter(1))
    assert (await stack.totals())["rows"] == 1

    await nats_server.migrate(dead_letter_bytes_max=1 << 28)
    await book_all(meter)
    offsets = shipper.offsets[1 : POISONED + 1]
    wanted = {f"record:{shipper.name}:{offset}" for offset in offsets}
    assert set(await identities(stack)) == wanted
    assert await stack.totals() == {"rows": 2, "events": 2, "requests": 2, "wrong": 0}


async def test_a_batch_that_is_finished_by_another_owner_has_its_letters_already(
    stack: Stack,
) -> None:
    """They are kept before the batch is pending, and not once more when it is recovered."""
    await ship_poison(stack)
    with pytest.raises(Unavailable):
        await (await stack.meter(ledger=EmptyLedger, **SOON)).step()
    assert len(await identities(stack)) == POISONED
    heir = await stack.meter()
    await book_all(heir)
    assert (heir.progress.recoveries, heir.progress.dead_letters) == (1, 0)
    assert len(await identities(stack)) == POISONED
    assert await stack.totals() == {"rows": 1, "events": 1, "requests": 1, "wrong": 0}
