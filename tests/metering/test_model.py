"""The batch protocol under a model checker: two owners, a fault at every arrow, the books right.

`test_a_guard_switched_off_is_found` shows that the checker has the power to see each hole.
"""

from typing import Any

import metering_model
import msgspec
import pytest
from metering_model import FAULTS, INSERT_FAULTS, Outcome, Schedule, World, run

import metering.reading
from contracts.checkpoint import Checkpoint, Pending, Position
from contracts.records import ParcelHeaders
from metering.agreement import Agreement
from metering.batch_reader import BatchReader
from metering.filling import Filling
from metering.ledger_clock import LedgerClock
from metering.parcels import Ahead, Standing, stand
from metering.ports import Billed, Mark, Refused, StreamState
from metering.protocol import PartitionMeter
from metering.rebuild import Rebuild
from metering.takeover import Takeover


def explain(schedule: Schedule, outcome: Outcome) -> str:
    return f"{schedule}: {outcome.violations} {outcome.refused}"


@pytest.mark.long_form(short=1, long=10)
def test_every_fault_at_every_arrow_leaves_net_effect_one(seed: int) -> None:
    """Each fault at each of the first arrows of a run, one at a time, with a second owner."""
    arrows = run(Schedule(seed)).arrows
    checked = 0
    for at in range(min(len(arrows), 110)):
        faults = FAULTS + (INSERT_FAULTS if arrows[at] == "ledger.insert" else ())
        for fault in faults:
            schedule = Schedule(seed, faults={at: fault})
            outcome = run(schedule)
            assert not outcome.violations, explain(schedule, outcome)
            assert not outcome.refused, explain(schedule, outcome)
            checked += 1
    assert checked > 500


@pytest.mark.long_form(short=800, long=8000)
def test_random_schedules_of_many_faults_leave_net_effect_one(rounds: int) -> None:
    """Two owners, faults at a tenth of the arrows, parcels lost, repeated, reordered, re-cut."""
    recoveries = 0
    for seed in range(rounds):
        schedule = Schedule(seed, fault_chance=0.08, transport_chance=0.2)
        outcome = run(schedule)
        assert not outcome.violations, explain(schedule, outcome)
        assert not outcome.refused, explain(schedule, outcome)
        recoveries += len(outcome.world.tokens)
    assert recoveries > rounds


@pytest.mark.long_form(short=800, long=8000)
def test_a_checkpoint_store_wiped_or_rolled_back_leaves_net_effect_one(rounds: int) -> None:
    """The checkpoint disappears or becomes an older one while both owners work and fail."""
    for seed in range(rounds):
        schedule = Schedule(seed, fault_chance=0.05, transport_chance=0.1, store_chance=0.02)
        outcome = run(schedule)
        assert not outcome.violations, explain(schedule, outcome)
        assert not outcome.refused, explain(schedule, outcome)


@pytest.mark.long_form(short=800, long=8000)
def test_a_ledger_put_back_under_owners_that_book_on_leaves_net_effect_one(rounds: int) -> None:
    """It lacks a few batches of a moment ago. Some owner refuses, and a resync books the rest."""
    refused = 0
    for seed in range(rounds):
        schedule = Schedule(seed, fault_chance=0.05, transport_chance=0.1, ledger_chance=0.02)
        outcome = run(schedule)
        assert not outcome.violations, explain(schedule, outcome)
        refused += outcome.world.is_resynced
    assert refused > rounds // 4


HOUR_MS = 3_600_000


def clocks_astray(world: World) -> None:
    """One batch's id is of now, the next one's of hours ago, or of hours to come."""
    world.ids_astray_ms = (0, 5 * HOUR_MS, -2 * HOUR_MS, HOUR_MS, -9 * HOUR_MS)


@pytest.mark.long_form(short=800, long=8000)
def test_ids_made_by_clocks_that_go_astray_hide_no_batch(rounds: int) -> None:
    """Checkpoints are wiped and put back while the clock that ids are made by jumps by hours."""
    rebuilds = 0
    for seed in range(rounds):
        schedule = Schedule(
            seed, fault_chance=0.05, transport_chance=0.1, store_chance=0.03, bend=clocks_astray
        )
        outcome = run(schedule)
        assert not outcome.violations, explain(schedule, outcome)
        assert not outcome.refused, explain(schedule, outcome)
        rebuilds += outcome.rebuilds
    assert rebuilds > rounds // 4


@pytest.mark.long_form(short=400, long=4000)
def test_a_checkpoint_wiped_after_a_purge_leaves_net_effect_one(rounds: int) -> None:
    """What is booked is gone from stream and journals, what is left of it lies in any order."""
    rebuilds = 0
    for seed in range(rounds):
        schedule = Schedule(
            seed, fault_chance=0.05, transport_chance=0.3, store_chance=0.02, purge_chance=0.1
        )
        outcome = run(schedule)
        assert not outcome.violations, explain(schedule, outcome)
        assert not outcome.refused, explain(schedule, outcome)
        rebuilds += outcome.world.is_wiped
    assert rebuilds > rounds // 2


@pytest.mark.long_form(short=60, long=600)
def test_a_rebuild_from_a_purged_stream_in_order_sends_nothing_through_again(rounds: int) -> None:
    """Booking goes on at the lowest offset that is left, without waiting for what was purged."""
    rebuilds = 0
    for seed in range(rounds):
        schedule = Schedule(seed, store_chance=0.02, purge_chance=0.2, owners=1)
        outcome = run(schedule)
        assert not outcome.violations, explain(schedule, outcome)
        assert "stream.republish" not in outcome.arrows, explain(schedule, outcome)
        rebuilds += outcome.world.is_wiped
    assert rebuilds > rounds // 2


LOST_ADMISSION = Schedule(5005, fault_chance=0.03, transport_chance=0.5, store_chance=0.005)
HALF_LANDED = Schedule(0, fault_chance=0.15, transport_chance=0.6, store_chance=0.01)


def test_a_rebuild_opens_an_admission_that_arrived_behind_a_later_parcel() -> None:
    """The parcel that comes first in the stream may lie ahead of one that was sent again."""
    outcome = run(LOST_ADMISSION)
    assert not outcome.violations, explain(LOST_ADMISSION, outcome)


@pytest.mark.parametrize("seed", [22151, 22778, 24884, 24893, 26790, 30188, 30859])
def test_a_rebuild_finds_the_other_half_of_a_batch(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a batch landed, its parcels lie out of order, and its checkpoint is lost."""
    monkeypatch.setattr(metering_model, "FAULTS", ("short_pause",))
    monkeypatch.setattr(metering_model, "INSERT_FAULTS", ("half",))
    schedule = msgspec.structs.replace(HALF_LANDED, seed=seed)
    outcome = run(schedule)
    assert not outcome.violations, explain(schedule, outcome)


@pytest.mark.long_form(short=800, long=8000)
def test_journals_declared_lost_too_early_leave_net_effect_one(rounds: int) -> None:
    """Open requests are closed as abandoned, their late ends reverse that, whatever fails."""
    reversals = 0
    for seed in range(rounds):
        schedule = Schedule(seed, fault_chance=0.05, loss_chance=0.02)
        outcome = run(schedule)
        assert not outcome.violations, explain(schedule, outcome)
        assert not outcome.refused, explain(schedule, outcome)
        reversals += sum(row.kind == "reversal" for row in outcome.world.rows)
    assert reversals > rounds


@pytest.mark.long_form(short=200, long=2000)
def test_requests_whose_lane_was_renewed_leave_net_effect_one(rounds: int) -> None:
    """An end in another incarnation than its admission may be booked before it."""
    for seed in range(rounds):
        schedule = Schedule(seed, fault_chance=0.05, transport_chance=0.1, has_renewed_lanes=True)
        outcome = run(schedule)
        assert not outcome.violations, explain(schedule, outcome)
        assert not outcome.refused, explain(schedule, outcome)


@pytest.mark.long_form(short=120, long=1200)
def test_a_batch_recovered_by_another_build_keeps_its_net_requests(rounds: int) -> None:
    """Prices drift between tries: no event is lost or doubled, and the drift is seen."""

    def drift(world: World) -> None:
        world.drift_at_ms = world.now_ms + 500

    drifts = 0
    for seed in range(rounds):
        outcome = run(Schedule(seed, fault_chance=0.1, bend=drift))
        requests = {event: net[0] for event, net in outcome.world.net().items()}
        assert set(requests.values()) == {1}, outcome.violations
        drifts += outcome.drifts
    assert drifts > 0


# ---- power: each guard switched off must be found


ENDED_ELSEWHERE = Schedule(
    903906, fault_chance=0.08, purge_chance=0.05, has_renewed_lanes=True, owners=2
)


def test_what_is_over_does_not_keep_the_stream_of_a_quiet_partition() -> None:
    """Admissions whose ends were booked before them, recovered by one that died right after."""
    outcome = run(ENDED_ELSEWHERE)
    assert not outcome.violations, explain(ENDED_ELSEWHERE, outcome)


async def waits_for_nothing(self: object, insert_by_ms: int, look: object = None) -> None:
    """Recovery does not wait, and the ledger does not refuse (see `no_deadline`)."""


def no_deadline(world: World) -> None:
    world.has_deadline = False


async def token_is_proof(
    self: Filling, pending: Pending, billed: Billed, *, is_drifted: bool
) -> int:
    """Recovery repeats the insert under its first token and believes the OK."""
    block = self._ledger.seal(billed.entries)
    await self._ledger.insert(block, f"{pending.batch_id}:1", pending.insert_by_ms)
    return 0


async def error_means_done(
    self: Filling, pending: Pending, billed: Billed, *, is_drifted: bool
) -> int:
    """Recovery commits without looking."""
    return 0


async def whatever_is_there(
    self: Filling, pending: Pending, billed: Billed, *, is_drifted: bool
) -> int:
    """Recovery takes the batch to be whatever was inserted."""
    return len(await self._ledger.batch(pending.batch_id))


async def from_zero(self: Rebuild, state: StreamState, revision: int) -> tuple[Checkpoint, int]:
    """A missing checkpoint is a fresh start."""
    checkpoint = Checkpoint(self._ports.partition, state.generation, 0, None, {})
    return checkpoint, await self._ports.checkpoints.write(checkpoint, revision)


async def unasked(self: BatchReader, reading: object, headers: object) -> None:
    """An incarnation that the checkpoint does not name is new."""


async def no_marks(self: Agreement, checkpoint: Checkpoint) -> dict[bytes, Mark]:
    """The checkpoint is believed, whatever the ledger holds."""
    return {}


async def no_reread(self: Takeover, checkpoint: Checkpoint) -> None:
    """Open admissions are forgotten at a change of owner."""
    self._holding.forget()


async def all_that_are_due(self: PartitionMeter, due: list[bytes]) -> list[bytes]:
    """An admission is closed as abandoned without a look whether its end is booked."""
    return due


async def newest_alone(self: Agreement, checkpoint: Checkpoint) -> Checkpoint:
    """Of all batches since the last look only the newest is looked for."""
    rows, _ = await self._ledger.rows_between(
        checkpoint.newest_batch_ms, checkpoint.newest_batch_ms
    )
    if rows == 0 and checkpoint.newest_batch_ms:
        raise Refused("the ledger was restored to an older state")
    return checkpoint


def ids_of_any_time(world: World) -> None:
    """Ids are of whatever time the clock says."""
    clocks_astray(world)
    world.newest_id_counts = False


def no_cas(world: World) -> None:
    world.has_cas = False


def leap(
    position: Position | None, headers: ParcelHeaders, content: bytes, *, is_lost: bool
) -> Standing:
    """Booked is whatever came farthest."""
    standing = stand(position, headers, content, is_lost=is_lost)
    if isinstance(standing, Ahead):
        return stand(position, headers, content, is_lost=True)
    return standing


class Hole(msgspec.Struct, frozen=True):
    """Schedules that need a guard, and what stands in the guard's place: (owner, name, function)."""

    schedule: Schedule
    instead: tuple[tuple[type, str, Any], ...] = ()


HOLES = {
    "zombie without a deadline": Hole(
        Schedule(0, fault_chance=0.15, bend=no_deadline),
        ((LedgerClock, "let_pass", waits_for_nothing),),
    ),
    "a token taken for proof": Hole(
        Schedule(0, fault_chance=0.08), ((Filling, "fill", token_is_proof),)
    ),
    "an error taken for done": Hole(
        Schedule(0, fault_chance=0.08), ((Filling, "fill", error_means_done),)
    ),
    "commit of half a batch": Hole(
        Schedule(0, fault_chance=0.08), ((Filling, "fill", whatever_is_there),)
    ),
    "a missing checkpoint is zero": Hole(
        Schedule(0, store_chance=0.02),
        ((Rebuild, "checkpoint", from_zero), (BatchReader, "_meet", unasked)),
    ),
    "an old checkpoint believed": Hole(
        Schedule(0, store_chance=0.02), ((Agreement, "later_marks", no_marks),)
    ),
    "only the newest batch looked for": Hole(
        Schedule(0, ledger_chance=0.02), ((Agreement, "with_ledger", newest_alone),)
    ),
    "ids that go back in time": Hole(Schedule(0, store_chance=0.02, bend=ids_of_any_time)),
    "open admissions forgotten": Hole(
        Schedule(0, fault_chance=0.1), ((Takeover, "_reread", no_reread),)
    ),
    "closed without a look-up": Hole(
        Schedule(0, has_renewed_lanes=True), ((PartitionMeter, "_unbooked", all_that_are_due),)
    ),
    "writes without compare-and-set": Hole(Schedule(0, fault_chance=0.1, bend=no_cas)),
}


@pytest.mark.parametrize("hole", HOLES)
def test_a_guard_switched_off_is_found(hole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one guard gone the same schedules end in a lost, doubled or stuck event."""
    for owner, name, function in HOLES[hole].instead:
        monkeypatch.setattr(owner, name, function)
    for seed in range(200):
        if run(msgspec.structs.replace(HOLES[hole].schedule, seed=seed)).violations:
            return
    pytest.fail(f"{hole}: the checker has no power to see it")


def test_a_gap_stepped_over_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `booked = max(...)` instead of the gap check, lost parcels stay lost."""
    monkeypatch.setattr(metering.reading, "stand", leap)
    assert any(run(Schedule(seed, transport_chance=0.4)).violations for seed in range(50))


def test_lookups_switched_off_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without looking up late ends, an abandoned request is charged beside its row."""
    monkeypatch.setattr("metering.holding.ids_to_look_up", lambda *_: [])
    assert any(run(Schedule(seed)).violations for seed in range(20))
