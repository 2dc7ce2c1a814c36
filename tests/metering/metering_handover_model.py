"""Two members that share one partition, over the model's world: who holds it, and what they say.

Each member is a process of two tasks, the turns of its hand-over and its owner of the partition,
and every arrow of both is one that a schedule can bend.
"""

import random
from collections.abc import Callable, Generator, Mapping
from typing import Any

import msgspec
from metering_model import (
    INSERT_FAULTS,
    START_MS,
    Arrow,
    Insert,
    ModelClock,
    Owner,
    Port,
    Sleep,
    World,
    books_are_done,
    land_what_is_late,
    ship_some,
    story,
    violations_of,
)

from metering.handover import Handover, Word
from metering.ports import Superseded, Unavailable

WORD_LIVES_MS = 700
PATIENCE_MS = 2_000
FIRST, SECOND = "member-a", "member-c"
"""By the weights of rendezvous hashing the partition is the second's while both live."""

FAULTS = ("crash_before", "crash_after", "fail_before", "fail_after", "pause", "short_pause")


class Bucket:
    """What the members said, each word until it expires."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._words: dict[str, tuple[int, Word]] = {}

    def put(self, member: str, word: Word) -> None:
        self._words[member] = (self._world.now_ms + WORD_LIVES_MS, word)

    def read(self, but: str) -> dict[str, Word]:
        now_ms = self._world.now_ms
        return {m: word for m, (until, word) in self._words.items() if until > now_ms and m != but}

    def delete(self, member: str) -> None:
        self._words.pop(member, None)


class ModelMembers(Port):
    """metering.handover.Members."""

    def __init__(self, world: World, bucket: Bucket, member: str) -> None:
        super().__init__(world)
        self._bucket = bucket
        self._member = member

    async def say(self, word: Word) -> None:
        await Arrow("members.say", lambda: self._bucket.put(self._member, word))

    async def others(self) -> Mapping[str, Word]:
        return await Arrow("members.others", lambda: self._bucket.read(self._member))

    async def resign(self) -> None:
        await Arrow("members.resign", lambda: self._bucket.delete(self._member))


class ModelOwner(Owner):
    """An owner that ends after the step under way when it is told to leave."""

    def __init__(self, world: World, number: int) -> None:
        self.is_leaving = False
        self.has_ended = False
        self.superseded = 0
        super().__init__(world, number)

    async def _run(self) -> None:
        while not self.is_leaving:
            try:
                is_busy = await self.meter.step()
            except Superseded:
                self.superseded += 1
                is_busy = False
            except Unavailable:
                is_busy = False
            if not is_busy and not self.is_leaving:
                await Sleep(self.world.now_ms + 100)
        self.has_ended = True


class Member:
    """One process: its turns, and its owner while it holds the partition."""

    def __init__(
        self, world: World, bucket: Bucket, name: str, schedule: "HandoverSchedule"
    ) -> None:
        self.world = world
        self.name = name
        self._bucket = bucket
        self._schedule = schedule
        self.is_alive = False
        self.owner: ModelOwner | None = None
        self.owners: list[ModelOwner] = []
        self.arrow: Arrow | None = None
        self.is_stopping = False
        self.joins_at_ms = 0
        self._turns: Any = None

    def join(self) -> None:
        """Start as a new process."""
        self.is_alive, self.is_stopping, self.owner = True, False, None
        self._members = ModelMembers(self.world, self._bucket, self.name)
        self._handover = self._schedule.handover(
            self.name, self._members, ModelClock(self.world), patience_ms=PATIENCE_MS
        )
        self._turns = self._take_turns()
        self._advance(lambda: self._turns.send(None))

    async def _take_turns(self) -> None:
        while not self.is_stopping:
            pause_ms = 120
            try:
                turn = await self._handover.turn({0})
                if turn.leave:
                    assert self.owner is not None
                    self.owner.is_leaving = True
                if turn.begin:
                    assert self.owner is None, "two of one partition in one process"
                    number = len(self.owners)
                    self.owner = ModelOwner(self.world, number)
                    self.owners.append(self.owner)
                if turn.awaited:
                    pause_ms = 20
            except Unavailable:
                pause_ms = 50
            await self._pause(pause_ms)
        if self.owner is not None:
            self.owner.is_leaving = True
        while self.owner is not None:
            await Sleep(self.world.now_ms + 20)
        try:
            await self._members.resign()
        except Unavailable:
            pass

    async def _pause(self, pause_ms: int) -> None:
        had_owner = self.owner is not None
        until_ms = self.world.now_ms + pause_ms
        while self.world.now_ms < until_ms:
            await Sleep(min(until_ms, self.world.now_ms + 20))
            if self.is_stopping or had_owner != (self.owner is not None):
                return

    def tidy(self) -> None:
        """Notice that the partition's loop has ended."""
        if self.owner is not None and self.owner.has_ended:
            self.owner = None
            self._handover.has_left(0)

    def crash(self, *, back_in_ms: int) -> None:
        """kill -9: nothing more is said; the supervisor starts it again."""
        if self.owner is not None:
            self.owner.close()
        if self._turns is not None:
            self._turns.close()
        self.is_alive, self.owner, self.arrow = False, None, None
        self.joins_at_ms = self.world.now_ms + back_in_ms

    def do(self, fault: str) -> None:
        """Let the arrow of the turns happen, or not."""
        arrow = self.arrow
        assert arrow is not None
        if fault.startswith("crash"):
            if fault == "crash_after":
                arrow.effect()
            self.crash(back_in_ms=300)
        elif fault.startswith("fail") and not isinstance(arrow, Sleep):
            if fault == "fail_after":
                arrow.effect()
            self._advance(lambda: self._turns.throw(Unavailable("injected")))
        else:
            value = arrow.effect()
            self._advance(lambda: self._turns.send(value))

    def _advance(self, resume: Callable[[], Any]) -> None:
        try:
            self.arrow = resume()
        except StopIteration:
            self.arrow, self.is_alive = None, False
            self.joins_at_ms = 1 << 62


class HandoverSchedule(msgspec.Struct, frozen=True):
    """When members come and go, and what goes wrong at which arrow."""

    seed: int
    faults: dict[int, str] = {}
    fault_chance: float = 0.0
    handover: type[Handover] = Handover


class HandoverOutcome(msgspec.Struct, frozen=True):
    """`recoveries` and `superseded` are batches taken out of another's hands."""

    violations: list[str]
    arrows: list[str]
    moves: int
    recoveries: int
    superseded: int


def run_handover(schedule: HandoverSchedule, *, arrows_max: int = 6_000) -> HandoverOutcome:
    """The second member joins in the middle of a batch, leaves again, and comes back."""
    rng = random.Random(schedule.seed)
    journals, truth = story(rng)
    world = World(journals, rng)
    bucket = Bucket(world)
    members = [Member(world, bucket, name, schedule) for name in (FIRST, SECOND)]
    first, second = members
    first.join()
    second.joins_at_ms = START_MS + rng.randint(5, 60)
    stops_at = [rng.randint(150, 260), rng.randint(400, 500)]
    paused_until_ms = dict.fromkeys((FIRST, SECOND), 0)
    arrows: list[str] = []
    quiet_since_ms: int | None = None
    try:
        while len(arrows) < arrows_max:
            land_what_is_late(world)
            is_calm = len(arrows) > 600
            if rng.random() < 0.12:
                ship_some(world, rng)
            for member in members:
                member.tidy()
                if not member.is_alive and member.joins_at_ms <= world.now_ms:
                    member.join()
            if stops_at and len(arrows) >= stops_at[0] and second.is_alive:
                stops_at.pop(0)
                second.is_stopping = True
            if second.joins_at_ms == 1 << 62:
                second.joins_at_ms = world.now_ms + 60
            steps = list(_ready(members, paused_until_ms, world.now_ms))
            if not steps:
                world.now_ms = _next_ms(members, paused_until_ms, world)
                if not is_calm or not books_are_done(world, truth):
                    quiet_since_ms = None
                    if rng.random() < 0.05:
                        world.resend_unbooked()
                else:
                    quiet_since_ms = quiet_since_ms or world.now_ms
                    if world.now_ms - quiet_since_ms > 1_000 and not world.late:
                        break
                continue
            member, owner = rng.choice(steps)
            arrow = member.arrow if owner is None else owner.arrow
            assert arrow is not None
            fault = schedule.faults.get(len(arrows), "")
            if not fault and not is_calm and rng.random() < schedule.fault_chance:
                is_insert = isinstance(arrow, Insert)
                fault = rng.choice(FAULTS + (INSERT_FAULTS * 3 if is_insert else ()))
            arrows.append(arrow.name)
            world.now_ms += 1
            if fault in ("pause", "short_pause"):
                # SIGSTOP: both tasks of the process stand still.
                pause_ms = 5_000 if fault == "pause" else 600
                paused_until_ms[member.name] = world.now_ms + pause_ms
            elif owner is None:
                member.do(fault)
            elif fault.startswith("crash"):
                if fault == "crash_after":
                    owner.quietly(arrow.effect)
                member.crash(back_in_ms=300)
            else:
                owner.do("" if fault.startswith("fail") and isinstance(arrow, Sleep) else fault)
    finally:
        for member in members:
            member.crash(back_in_ms=0)
    owners = [owner for member in members for owner in member.owners]
    return HandoverOutcome(
        violations_of(world, truth),
        arrows,
        len(owners) - 1,
        sum(owner.meter.progress.recoveries for owner in owners),
        sum(owner.superseded for owner in owners),
    )


def _next_ms(members: list[Member], paused_until_ms: dict[str, int], world: World) -> int:
    """When somebody wakes, at most a moment from now: parcels come meanwhile."""
    wakes = [at_ms for at_ms, _ in world.late]
    for member in members:
        if not member.is_alive:
            wakes.append(member.joins_at_ms)
            continue
        asleep = [member.arrow, None if member.owner is None else member.owner.arrow]
        wakes += [
            max(arrow.until_ms, paused_until_ms[member.name])
            for arrow in asleep
            if isinstance(arrow, Sleep)
        ]
    return max(world.now_ms + 1, min([world.now_ms + 20, *wakes]))


def _ready(
    members: list[Member], paused_until_ms: dict[str, int], now_ms: int
) -> Generator[tuple[Member, ModelOwner | None], None, None]:
    """Whose next arrow may happen now."""
    for member in members:
        if not member.is_alive or paused_until_ms[member.name] > now_ms:
            continue
        arrow = member.arrow
        if arrow is not None and (not isinstance(arrow, Sleep) or arrow.until_ms <= now_ms):
            yield member, None
        owner = member.owner
        if owner is not None and owner.arrow is not None and owner.is_ready():
            yield member, owner
