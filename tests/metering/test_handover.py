"""Partitions change hands between batches, whatever happens on the way; the books stay right."""

import random
from collections.abc import Iterable, Mapping

import msgspec
import pytest
from metering_handover_model import FIRST, SECOND, HandoverOutcome, HandoverSchedule, run_handover
from metering_model import (
    FAULTS,
    INSERT_FAULTS,
    LIMITS,
    Insert,
    Owner,
    Sleep,
    World,
    story,
)

from contracts.checkpoint import decode
from metering.handover import Handover, Turn, Word
from metering.holding import Holding
from metering.members import owner_of


def explain(schedule: HandoverSchedule, outcome: HandoverOutcome) -> str:
    return f"{schedule}: {outcome.violations}"


@pytest.mark.long_form(short=150, long=1500)
def test_a_partition_changes_hands_without_a_batch_taken_out_of_them(rounds: int) -> None:
    """A member joins, leaves and comes back under load: nobody is superseded, nothing recovered."""
    assert owner_of("partition.0", [FIRST, SECOND]) == SECOND
    moves = 0
    for seed in range(rounds):
        schedule = HandoverSchedule(seed)
        outcome = run_handover(schedule)
        assert not outcome.violations, explain(schedule, outcome)
        assert outcome.recoveries == outcome.superseded == 0, explain(schedule, outcome)
        moves += outcome.moves
    assert moves > 3 * rounds


@pytest.mark.long_form(short=1, long=10)
def test_every_fault_at_every_arrow_of_a_handover_leaves_net_effect_one(seed: int) -> None:
    """Each fault at each of the first arrows, the hand-over's own among them, one at a time."""
    arrows = run_handover(HandoverSchedule(seed)).arrows
    checked = dict.fromkeys(("members.say", "members.others", "members.resign"), 0)
    for at in range(min(len(arrows), 300)):
        if at > 80 and not arrows[at].startswith("members"):
            continue
        checked[arrows[at]] = checked.get(arrows[at], 0) + 1
        for fault in FAULTS + (INSERT_FAULTS if arrows[at] == "ledger.insert" else ()):
            schedule = HandoverSchedule(seed, faults={at: fault})
            outcome = run_handover(schedule)
            assert not outcome.violations, explain(schedule, outcome)
    assert all(checked.values()), checked


@pytest.mark.long_form(short=150, long=1500)
def test_random_faults_during_handovers_leave_net_effect_one(rounds: int) -> None:
    """Members crash, stand still, and are not heard, in any order."""
    for seed in range(rounds):
        schedule = HandoverSchedule(seed, fault_chance=0.05)
        outcome = run_handover(schedule)
        assert not outcome.violations, explain(schedule, outcome)


async def whatever_becomes_of_it(self: Holding) -> None:
    """A batch found half done is waited out."""


def wait_of_a_new_owner() -> int:
    """Milliseconds until one that found a batch half done, which was then committed, goes on."""
    rng = random.Random(1)
    journals, _ = story(rng)
    world = World(journals, rng)
    world.ship()
    first = Owner(world, 0)
    while not isinstance(first.arrow, Insert):
        first.do()
    second = Owner(world, 1)
    while not isinstance(second.arrow, Sleep):
        second.do()
    began_at_ms = world.now_ms
    first.do()
    first.do()
    first.close()
    assert world.checkpoint is not None
    committed_seq = decode(world.checkpoint).committed_seq
    assert committed_seq > 0
    world.ship()
    while world.committed_floor == committed_seq:
        world.now_ms = max(world.now_ms + 1, second.wakes_at_ms())
        second.do()
    second.close()
    return world.now_ms - began_at_ms


def test_a_batch_found_under_way_is_waited_for_until_it_is_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new owner goes on then; one that does not look waits out the insert's deadline."""
    limit_ms = LIMITS.booking_deadline_ms
    assert wait_of_a_new_owner() < limit_ms / 2
    monkeypatch.setattr(Holding, "stands", whatever_becomes_of_it)
    assert wait_of_a_new_owner() > limit_ms


class TakesAtOnce(Handover):
    """Whoever a partition goes to begins, whatever the others hold."""

    def _free(self, wanted: set[int], said: Mapping[str, Word]) -> tuple[set[int], set[int]]:
        return wanted, set()


class LetsGoAtOnce(Handover):
    """A partition that is left is not held any more, its last batch under way or not."""

    @property
    def held(self) -> frozenset[int]:
        return frozenset(self._running)

    async def turn(self, partitions: Iterable[int]) -> Turn:
        turn = await super().turn(partitions)
        if turn.leave:
            await self._members.say(Word(self.held, frozenset()))
        return turn


class BeginsUnsaid(Handover):
    """A partition is begun before that is said."""

    @property
    def held(self) -> frozenset[int]:
        return frozenset()


def test_a_handover_without_its_guards_is_seen() -> None:
    """Taken at once, let go at once, or held in silence: batches are taken out of others' hands."""
    for handover in (TakesAtOnce, LetsGoAtOnce, BeginsUnsaid):
        taken = 0
        for seed in range(40):
            schedule = msgspec.structs.replace(HandoverSchedule(seed), handover=handover)
            outcome = run_handover(schedule)
            assert not outcome.violations, explain(schedule, outcome)
            taken += outcome.recoveries + outcome.superseded
        assert taken > 0, handover
