"""Faults at the seams between stream, insert and commit: nothing is lost, nothing twice."""

import pytest

from drill import faults, scenarios
from drill.proof_catalogue import PROOFS
from drill.proofs import harm

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("where", ["before", "sent", "after"])
async def test_an_insert_cut_off_is_counted_before_it_is_repeated(stage, where):
    """The connection is reset around an insert: its rows are looked for, the missing ones added."""
    recoveries = stage.progress("recoveries")
    async with stage.load.running(30):
        await faults.cut_insert(stage.installation, where)
    await stage.settled()
    await scenarios.until(
        lambda: stage.progress("recoveries") > recoveries, "no batch was recovered"
    )


@pytest.mark.parametrize("where", ["before", "sent", "after"])
async def test_a_consumer_killed_at_its_insert_is_followed_by_another(stage, where):
    """Whoever takes over finishes the pending batch."""
    async with stage.load.running(30):
        await faults.kill_consumer_at(stage.installation, where)
    await stage.settled()


@pytest.mark.parametrize("where", ["sent", "after"])
async def test_a_ledger_killed_at_an_insert_holds_it_once(stage, where):
    """Killed within an insert or right behind it, the rows are there once in the end."""
    async with stage.load.running(30):
        await faults.kill_ledger_at(stage.installation, where, stage.chance)
    await stage.settled()


async def test_resets_before_the_broker_open_no_gap(stage):
    """Connections reset while parcels are shipped and read: all are read, once."""
    async with stage.load.running(40):
        await faults.reset(stage.installation.nats_proxy, 4, stage.chance)
    await stage.settled()


async def test_parcels_lost_from_the_stream_are_sent_again(stage):
    """A gap is noticed, asked for and healed from the journal."""
    async with stage.load.running(40):
        await faults.lose_parcels(stage.installation, stage.chance)
    await stage.settled()


async def test_parcels_lost_from_the_dead_are_sent_again_by_who_adopts(stage):
    """The journal outlives its writer, and so does the healing."""
    await scenarios.lose_parcels_of_the_dead(stage.installation, stage.load)
    await stage.settled()


async def test_a_zombies_insert_is_refused_by_the_ledgers_clock(stage):
    """An owner wakes after its partition was taken over; others went on meanwhile."""
    async with stage.load.running(30):
        await faults.stuck_partition(stage.installation, faults.LONG_PAUSE_S)
        await faults.late_insert(stage.installation, pauses_consumer=True)
    verdict = await stage.settled()
    assert verdict.corrections == 0


# In this order: a service stays without its protection until it is started without another.
TEETH = {
    "late zombie: the ledger refuses an insert past its deadline": "doubled",
    "lost parcels: a gap is not stepped over": "lost",
    "a worker dies in mid-stream: an admission is kept before dispatch": "lost",
}


@pytest.mark.parametrize("name", TEETH)
async def test_a_fault_does_harm_without_the_protection_it_exercises(stage, name):
    """The drill has teeth: with one protection switched off it names what is lost or doubled."""
    [proof] = [proof for proof in PROOFS if proof.name == name]
    found = await harm(stage.installation, stage.load, stage.chance, proof, 0.5)
    assert getattr(found, TEETH[name]), str(found)
