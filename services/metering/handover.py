"""Hands partitions over between batches: taken is what nobody says that it holds.

    say what is held -> hear the others -> let go | claim, say so, begin

A member that took a partition out of another's hands would find its batch half done, and wait out
the deadline of an insert that was about to succeed. So a member holds a partition from before it
begins until its last batch is committed, and says so; whoever it goes to waits for that word. An
optimisation: a word that is late, lost or wrong costs time, and the batch protocol keeps the books.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import msgspec

from metering.members import share_of
from metering.ports import Clock


class Word(msgspec.Struct, frozen=True):
    """What a member says: the partitions that it holds, and all that it knows of."""

    held: frozenset[int]
    known: frozenset[int]


class Members(Protocol):
    """The members' words to each other, each forgotten some time after its last one."""

    async def say(self, word: Word) -> None:
        """We live, and this is our word. Raises Unavailable."""
        ...

    async def others(self) -> Mapping[str, Word]:
        """The word of every other living member. Raises Unavailable."""
        ...


class Turn(msgspec.Struct, frozen=True):
    """What to do after a look at the others: end `leave` between batches, begin `begin`.

    `awaited` is still held by others. `members` are all that live, ourselves too.
    """

    members: list[str]
    leave: frozenset[int]
    begin: frozenset[int]
    awaited: frozenset[int]


class Handover:
    """What one member holds. Call `turn` now and then, and `has_left` when a partition has ended."""

    def __init__(self, member: str, members: Members, clock: Clock, *, patience_ms: int) -> None:
        """`patience_ms`: a member that lives but does not let go is waited for no longer."""
        self.member: Final = member
        self._members = members
        self._clock = clock
        self._patience_ms = patience_ms
        self._running: set[int] = set()
        self._leaving: set[int] = set()
        self._awaited_since_ms: dict[int, int] = {}

    @property
    def held(self) -> frozenset[int]:
        """What is metered here, the partitions with a last batch under way too."""
        return frozenset(self._running | self._leaving)

    async def turn(self, partitions: Iterable[int]) -> Turn:
        """Speak, listen and decide. Raises Unavailable; then nothing was decided."""
        known = frozenset(partitions)
        await self._members.say(Word(self.held, known))
        said = await self._members.others()
        members = sorted({*said, self.member})
        # Shares are of the whole: members that divide different wholes leave some to nobody.
        mine = share_of(self.member, members, known.union(*(word.known for word in said.values())))
        leave = self._running - mine
        begin, awaited = self._free(mine - self._running - self._leaving, said)
        if begin:
            # Before it begins: who looks from here on waits.
            await self._members.say(Word(self.held | begin, known))
        self._running = (self._running - leave) | begin
        self._leaving |= leave
        return Turn(members, frozenset(leave), frozenset(begin), frozenset(awaited))

    def has_left(self, partition: int) -> None:
        """Its last batch is committed, or given up: the next `turn` says so."""
        self._leaving.discard(partition)

    def _free(self, wanted: set[int], said: Mapping[str, Word]) -> tuple[set[int], set[int]]:
        """Which of the wanted nobody holds, and which to wait for."""
        now_ms = self._clock.monotonic_ms()
        held = {partition for word in said.values() for partition in word.held}
        since = {p: self._awaited_since_ms.get(p, now_ms) for p in wanted & held}
        self._awaited_since_ms = since
        awaited = {p for p, since_ms in since.items() if now_ms - since_ms < self._patience_ms}
        return wanted - awaited, awaited
