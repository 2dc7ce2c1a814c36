"""A small world for the batch protocol: a stream, a checkpoint store, a ledger, shippers, owners.

Every await of the protocol on one of its ports is an *arrow*. A schedule decides what happens at
each: done, failed before or after its effect, the owner killed or paused there, the insert living
on in a thread of its own. Nothing here knows asyncio; a run is a pure function of its seed.
"""

import random
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import msgspec

from contracts.checkpoint import Checkpoint, decode, encode
from contracts.exchange import (
    EMPTY_BODY,
    Caller,
    CallFacts,
    Event,
    ExchangeCompleted,
    RequestAdmitted,
)
from contracts.exchange import encode as encode_event
from contracts.ids import unix_ms
from contracts.ledger import Entry
from contracts.records import ParcelHeaders, advance, frame
from metering.batch_ids import next_batch_id
from metering.limits import Limits
from metering.pipeline import Pipeline
from metering.ports import (
    BatchRow,
    Billed,
    Body,
    Chargeable,
    Closing,
    DeadLetter,
    Known,
    Manifest,
    Mark,
    Message,
    Refused,
    StreamState,
    Superseded,
    Unavailable,
)
from metering.protocol import PartitionMeter
from rating.price_book import PriceBook

START_MS = 1_790_000_000_000
MONTH_MS = 31 * 86_400_000
LIMITS = Limits(
    rows_max=4,
    delay_ms=0,
    rest_max_ms=0,
    booking_deadline_ms=1_000,
    execution_max_ms=500,
    close_grace_ms=1_000,
    gap_ask_ms=50,
    ledger_check_ms=200,
    lost_check_ms=100,
    look_ms=100,
)
EMPTY_BOOK = PriceBook.from_json(b'{"format":1,"source":"t","units":{},"providers":{}}')


class Arrow:
    """One step over a port: a name and its effect."""

    def __init__(self, name: str, effect: Callable[[], Any]) -> None:
        self.name = name
        self.effect = effect

    def __await__(self) -> Generator["Arrow", Any, Any]:
        return (yield self)


class Sealed(msgspec.Struct, frozen=True):
    """Rows of one insert."""

    entries: tuple[Entry, ...]
    sha: str

    @property
    def rows(self) -> int:
        return len(self.entries)


class ModelBiller:
    """The real pipeline with a price that can be read off the event: its request's length."""

    def __init__(self, surcharge: int = 0) -> None:
        self._pipeline = Pipeline(EMPTY_BOOK)
        self._surcharge = surcharge

    def rows(
        self, charges: Sequence[Chargeable], closings: Sequence[Closing], manifest: Manifest
    ) -> Billed:
        billed = self._pipeline.rows(charges, closings, manifest)
        priced = [
            entry
            if entry.outcome == "abandoned"
            else msgspec.structs.replace(entry, cost_picousd=entry.request_bytes + self._surcharge)
            for entry in billed.entries
        ]
        return Billed(priced, billed.bodies, billed.unrated, billed.unpriced)


class Journal:
    """One incarnation: its records, cut and shipped as the schedule likes, healed when asked."""

    def __init__(self, incarnation: bytes, events: Iterable[tuple[int, Event]]) -> None:
        self.incarnation = incarnation
        self.records: list[tuple[int, int, bytes, bytes]] = []
        self.chains = [incarnation]
        self.ends = [0]
        for at_ms, event in events:
            record = frame(encode_event(event))
            self.chains.append(advance(self.chains[-1], record[:8]))
            self.ends.append(self.ends[-1] + len(record))
            self.records.append((at_ms, self.ends[-1], record, self.chains[-1]))
        self.next = 0
        self.kept_from = 0
        self.end_is_sent = False

    def parcel(self, first: int, count: int) -> tuple[ParcelHeaders, bytes]:
        records = self.records[first : first + count]
        is_end = not records
        headers = ParcelHeaders(
            self.incarnation,
            0,
            self.ends[first],
            len(records),
            self.chains[first],
            max((record[0] for record in self.records[: first + count]), default=0),
            is_end,
        )
        return headers, b"".join(record[2] for record in records)

    def rewind(self, offset: int) -> None:
        offset = max(offset, self.kept_from)
        self.next = next((i for i, end in enumerate(self.ends) if end >= offset), 0)
        if self.ends[self.next] > offset:
            self.next -= 1
        self.end_is_sent = False


class World:
    """Everything outside the owners. Its attributes are read and bent by schedules."""

    def __init__(self, journals: list[Journal], rng: random.Random) -> None:
        self.rng = rng
        self.now_ms = START_MS
        self.journals = {journal.incarnation: journal for journal in journals}
        self.messages: list[Message] = []
        self.next_seq = 1
        self.generation = "g1"
        self.checkpoint: bytes | None = None
        self.revision = 0
        self.checkpoints_created_ms = START_MS - 1
        self.checkpoint_history: list[bytes | None] = []
        self.delivered_seq = 0
        self.committed_floor = 0
        self.committed_fell = False
        self.rows: list[Entry] = []
        self.tokens: dict[str, int] = {}
        """Of every insert, in order, with the number of rows before it."""
        self.late: list[tuple[int, Callable[[], None]]] = []
        self.letters: dict[str, DeadLetter] = {}
        self.lost: set[bytes] = set()
        self.has_deadline = True
        self.has_cas = True
        self.late_refused = 0
        self.drift_at_ms: int | None = None
        self.batches = 0
        self.ids_astray_ms: tuple[int, ...] = (0,)
        self.newest_id_counts = True
        self.is_wiped = False
        self.is_put_back = False
        self.is_resynced = False
        self.newest_revision = 0

    # ---- stream

    def publish(self, headers: ParcelHeaders, content: bytes) -> None:
        self.messages.append(Message(self.next_seq, headers, content, self.now_ms))
        self.next_seq += 1

    def ship(self, *, lose: bool = False, twice: bool = False, count: int | None = None) -> bool:
        """The next parcel of some journal that has one; False when all is shipped."""
        waiting = [j for j in self.journals.values() if not j.end_is_sent]
        if not waiting:
            return False
        journal = self.rng.choice(waiting)
        first = journal.next
        taken = min(count or self.rng.randint(1, 3), len(journal.records) - first)
        headers, content = journal.parcel(first, taken)
        journal.next = first + taken
        journal.end_is_sent = headers.is_end
        if not lose:
            self.publish(headers, content)
            if twice:
                self.publish(headers, content)
        return True

    def purge(self) -> None:
        """Whatever may go by the checkpoint goes at once, from the stream and from the journals."""
        if self.checkpoint is None:
            return
        checkpoint = decode(self.checkpoint)
        needed = [checkpoint.committed_seq + 1]
        if checkpoint.oldest_open_seq is not None:
            needed.append(checkpoint.oldest_open_seq)
        if checkpoint.pending is not None and checkpoint.pending.first_seq:
            needed.append(checkpoint.pending.first_seq)
        self.messages = [each for each in self.messages if each.seq >= min(needed)]
        for name, position in checkpoint.incarnations.items():
            journal = self.journals[bytes.fromhex(name)]
            journal.kept_from = max(journal.kept_from, position.offset)

    def resend_unbooked(self) -> None:
        """What a shipper does on its own: all is shipped, booked has not moved."""
        checkpoint = None if self.checkpoint is None else decode(self.checkpoint)
        for journal in self.journals.values():
            position = (
                None
                if checkpoint is None
                else checkpoint.incarnations.get(journal.incarnation.hex())
            )
            if position is None or position.ended_at_ms is None:
                journal.rewind(0 if position is None else position.offset)

    # ---- ledger

    def insert(self, block: Sealed, token: str, insert_by_ms: int, fault: str = "") -> None:
        if self.has_deadline and insert_by_ms <= self.now_ms:
            self.late_refused += 1
            raise Unavailable("late")
        if token in self.tokens:
            return
        self.tokens[token] = len(self.rows)
        if fault == "token_only":
            raise Unavailable("killed between token and rename")
        rows = [msgspec.structs.replace(row, insert_by_ms=insert_by_ms) for row in block.entries]
        months = sorted({row.occurred_at_ms // MONTH_MS for row in rows})
        if fault == "half":
            rows = [row for row in rows if row.occurred_at_ms // MONTH_MS == months[0]]
        self.rows += rows
        if fault == "half":
            raise Unavailable("killed between two parts")

    def put_back_ledger(self, steps: int) -> None:
        """Once a run: as it was before the newest inserts, which it knows nothing of any more."""
        if self.is_put_back or not self.tokens:
            return
        self.is_put_back = True
        forgotten = list(self.tokens)[-steps:]
        del self.rows[self.tokens[forgotten[0]] :]
        for token in forgotten:
            del self.tokens[token]

    # ---- checkpoints

    def write(self, checkpoint: Checkpoint, revision: int) -> int:
        if self.has_cas and revision != self.revision:
            raise Superseded("other revision")
        if checkpoint.committed_seq < self.committed_floor:
            self.committed_fell = True
        self.committed_floor = checkpoint.committed_seq
        self.checkpoint_history.append(self.checkpoint)
        self.checkpoint = encode(checkpoint)
        self.revision = self.newest_revision = self.newest_revision + 1
        return self.revision

    def wipe_checkpoint(self) -> None:
        """Once a run, and revisions never come again: a paused owner whose revision number is
        reached a second time by a re-created store is beyond what compare-and-set can tell."""
        if self.is_wiped:
            return
        self.is_wiped = True
        self.checkpoint, self.revision = None, 0
        self.checkpoints_created_ms = self.now_ms
        self.committed_floor = 0

    def resync(self) -> None:
        """What an operator does whom metering told to, once a run: the checkpoint is deleted."""
        if self.is_resynced:
            return
        self.is_resynced = True
        self.checkpoint_history.append(self.checkpoint)
        self.checkpoint = None
        self.revision = self.newest_revision = self.newest_revision + 1
        self.committed_floor = 0

    def roll_back_checkpoint(self, steps: int) -> None:
        if self.checkpoint_history:
            self.checkpoint = self.checkpoint_history[-min(steps, len(self.checkpoint_history))]
            self.revision = self.newest_revision = self.newest_revision + 1
            self.committed_floor = 0

    # ---- truth

    def net(self) -> dict[bytes, tuple[int, int, int]]:
        """Requests, pico-dollars and rows by event."""
        net: dict[bytes, tuple[int, int, int]] = {}
        for row in self.rows:
            requests, cost, rows = net.get(row.event_id, (0, 0, 0))
            net[row.event_id] = (
                requests + row.requests,
                cost + (row.cost_picousd or 0),
                rows + 1,
            )
        return net


class Port:
    """A port of an owner, over a world."""

    def __init__(self, world: World) -> None:
        self.world = world


class ModelStream(Port):
    """metering.ports.Stream."""

    async def state(self) -> StreamState:
        world = self.world
        return await Arrow(
            "stream.state",
            lambda: StreamState(
                world.generation,
                world.messages[0].seq if world.messages else world.next_seq,
                world.next_seq - 1,
            ),
        )

    async def read(self, first_seq: int, bytes_max: int) -> list[Message]:
        def effect() -> list[Message]:
            found = [m for m in self.world.messages if m.seq >= first_seq][:3]
            if found:
                self.world.delivered_seq = max(self.world.delivered_seq, found[-1].seq)
            return found

        return await Arrow("stream.read", effect)

    async def ask_again(self, incarnation: bytes, offset: int) -> None:
        await Arrow("stream.ask", lambda: self.world.journals[incarnation].rewind(offset))

    async def republish(self, message: Message) -> None:
        assert message.headers is not None
        headers = message.headers
        await Arrow("stream.republish", lambda: self.world.publish(headers, message.content))

    async def dead_letter(self, letter: DeadLetter) -> None:
        await Arrow("stream.letter", lambda: self.world.letters.setdefault(letter.identity, letter))


class ModelCheckpoints(Port):
    """metering.ports.Checkpoints."""

    async def read(self) -> tuple[Checkpoint | None, int]:
        return await Arrow("checkpoint.read", self._read_checkpoint)

    def _read_checkpoint(self) -> tuple[Checkpoint | None, int]:
        content = self.world.checkpoint
        return (None if content is None else decode(content)), self.world.revision

    async def write(self, checkpoint: Checkpoint, revision: int) -> int:
        name = "checkpoint.pending" if checkpoint.pending is not None else "checkpoint.commit"
        return await Arrow(name, lambda: self.world.write(checkpoint, revision))

    async def lost(self) -> frozenset[bytes]:
        return await Arrow("checkpoint.lost", lambda: frozenset(self.world.lost))

    async def created_at_ms(self) -> int:
        return await Arrow("checkpoint.created", lambda: self.world.checkpoints_created_ms)


class ModelLedger(Port):
    """metering.ports.Ledger."""

    async def now_ms(self) -> int:
        return await Arrow("ledger.now", lambda: self.world.now_ms)

    def seal(self, entries: Sequence[Entry]) -> Sealed:
        sha = msgspec.json.encode([(e.entry_id.hex(), e.requests, e.cost_picousd) for e in entries])
        return Sealed(tuple(entries), sha.decode())

    async def insert(self, block: Sealed, token: str, insert_by_ms: int) -> None:
        await Insert(lambda fault: self.world.insert(block, token, insert_by_ms, fault))

    async def insert_bodies(self, bodies: Sequence[Body]) -> None:
        await Arrow("ledger.bodies", lambda: None)

    async def batch(self, batch_id: str) -> list[BatchRow]:
        def effect() -> list[BatchRow]:
            copies: dict[tuple[bytes, bytes], int] = {}
            for row in self.world.rows:
                if row.batch_id.hex() == batch_id.replace("-", ""):
                    key = (row.entry_id, row.event_id)
                    copies[key] = copies.get(key, 0) + 1
            return [BatchRow(entry, event, n) for (entry, event), n in copies.items()]

        return await Arrow("ledger.batch", effect)

    async def rows_between(self, first_ms: int, last_ms: int) -> tuple[int, int]:
        def effect() -> tuple[int, int]:
            times = [unix_ms(row.batch_id) for row in self.world.rows]
            return sum(first_ms <= each <= last_ms for each in times), times.count(last_ms)

        return await Arrow("ledger.rows_between", effect)

    async def known(self, event_ids: Sequence[bytes], excluding: str) -> dict[bytes, Known]:
        def effect() -> dict[bytes, Known]:
            wanted, out = set(event_ids), excluding.replace("-", "")
            found: dict[bytes, list[Entry]] = {}
            for row in self.world.rows:
                if row.event_id in wanted and row.batch_id.hex() != out:
                    found.setdefault(row.event_id, []).append(row)
            return {
                event_id: Known(
                    rows[0]
                    if sum(row.requests for row in rows) > 0
                    and all(row.outcome == "abandoned" for row in rows)
                    else None
                )
                for event_id, rows in found.items()
            }

        return await Arrow("ledger.known", effect)

    async def marks(self, since_ms: int, excluding: str | None) -> dict[bytes, Mark]:
        def effect() -> dict[bytes, Mark]:
            marks: dict[bytes, Mark] = {}
            out = "" if excluding is None else excluding.replace("-", "")
            for row in self.world.rows:
                batch_ms = unix_ms(row.batch_id)
                if batch_ms <= since_ms or row.batch_id.hex() == out:
                    continue
                mark = marks.get(row.incarnation, Mark(0, 0, 0))
                newest_ms = max(batch_ms, mark.batch_ms)
                if row.journal_offset > mark.offset:
                    mark = Mark(row.journal_offset, 0, row.insert_by_ms, rows=mark.rows)
                marks[row.incarnation] = msgspec.structs.replace(
                    mark, batch_ms=newest_ms, rows=mark.rows + 1
                )
            return marks

        return await Arrow("ledger.marks", effect)

    async def mark(self, incarnation: bytes) -> Mark | None:
        def effect() -> Mark | None:
            offsets = [r.journal_offset for r in self.world.rows if r.incarnation == incarnation]
            return Mark(max(offsets), 0, 0) if offsets else None

        return await Arrow("ledger.mark", effect)


class ModelClock(Port):
    """metering.ports.Clock."""

    def now_ms(self) -> int:
        return self.world.now_ms

    def monotonic_ms(self) -> int:
        return self.world.now_ms

    async def sleep(self, seconds: float) -> None:
        await Sleep(self.world.now_ms + max(1, int(seconds * 1000)))


class ModelBillers(Port):
    """metering.ports.Billers."""

    async def current(self) -> str:
        return "book-1"

    async def load(self, price_book: str) -> ModelBiller:
        drift_at_ms = self.world.drift_at_ms
        return ModelBiller(int(drift_at_ms is not None and self.world.now_ms >= drift_at_ms))


class Insert(Arrow):
    """The one arrow with faults of its own."""

    def __init__(self, effect: Callable[[str], None]) -> None:
        super().__init__("ledger.insert", lambda: effect(""))
        self.with_fault = effect


class Sleep(Arrow):
    """Nothing happens before `until_ms`."""

    def __init__(self, until_ms: int) -> None:
        super().__init__("clock.sleep", lambda: None)
        self.until_ms = until_ms


class Owner:
    """A process that meters the partition; killed, it comes back as another one."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.paused_until_ms = 0
        self.arrow: Arrow | None = None
        self.refused: str | None = None
        self.drifts = 0
        self.restart()

    def restart(self) -> None:
        world = self.world
        if self.arrow is not None:
            self.drifts += self.meter.progress.pending_drifts
        self.meter = PartitionMeter(
            0,
            stream=ModelStream(world),
            checkpoints=ModelCheckpoints(world),
            ledger=ModelLedger(world),
            clock=ModelClock(world),
            billers=ModelBillers(world),
            limits=LIMITS,
            build="model",
            new_batch_id=self._new_batch_id,
        )
        self.arrow = None
        self._coroutine = self._run()
        self._advance(lambda: self._coroutine.send(None))

    def _new_batch_id(self, ledger_ms: int, newest_ms: int) -> bytes:
        world = self.world
        world.batches += 1
        # Whoever makes it has the time from somewhere else.
        ledger_ms += world.ids_astray_ms[world.batches % len(world.ids_astray_ms)]
        batch_id = next_batch_id(ledger_ms, newest_ms if world.newest_id_counts else 0)
        return batch_id[:6] + world.batches.to_bytes(10, "big")

    async def _run(self) -> None:
        while True:
            try:
                is_busy = await self.meter.step()
            except (Unavailable, Superseded):
                is_busy = False
            except Refused as refusal:
                self.refused = str(refusal)
                is_busy = False
            if not is_busy:
                await Sleep(self.world.now_ms + 100)

    def _advance(self, resume: Callable[[], Any]) -> None:
        try:
            self.arrow = resume()
        except StopIteration:
            self.arrow = None

    def is_ready(self) -> bool:
        return self.wakes_at_ms() <= self.world.now_ms

    def wakes_at_ms(self) -> int:
        arrow = self.arrow
        if isinstance(arrow, Sleep) and arrow.until_ms > self.paused_until_ms:
            return arrow.until_ms
        return self.paused_until_ms

    def do(self, fault: str = "") -> None:
        """Let the current arrow happen, or not."""
        arrow = self.arrow
        assert arrow is not None
        if fault in ("crash_before", "crash_after"):
            if fault == "crash_after":
                self.quietly(arrow.effect)
            self._coroutine.close()
            self.restart()
            return
        if fault == "pause":
            self.paused_until_ms = self.world.now_ms + 5_000
            return
        if fault == "short_pause":
            self.paused_until_ms = self.world.now_ms + 600
            return
        if fault == "fail_before":
            self._fail()
            return
        if fault == "fail_after":
            self.quietly(arrow.effect)
            self._fail()
            return
        if isinstance(arrow, Insert) and fault in ("token_only", "half", "zombie"):
            if fault == "zombie":
                # The task was cancelled, the thread under it was not: its insert comes later.
                delay = self.world.rng.choice((20, 300, 900, 1_400, 3_000))
                self.world.late.append((self.world.now_ms + delay, arrow.effect))
            else:
                self.quietly(lambda: arrow.with_fault(fault))
            self._fail()
            return
        try:
            value = arrow.effect()
        except (Unavailable, Superseded) as error:
            self._advance(lambda error=error: self._coroutine.throw(error))
            return
        self._advance(lambda: self._coroutine.send(value))

    def _fail(self) -> None:
        self._advance(lambda: self._coroutine.throw(Unavailable("injected")))

    def quietly(self, effect: Callable[[], Any]) -> None:
        try:
            effect()
        except (Unavailable, Superseded):
            pass

    def close(self) -> None:
        self._coroutine.close()


# ---- what happened at the gateways


def admitted(event_id: bytes, at_ms: int, timeout_ms: int = 2_000) -> RequestAdmitted:
    return RequestAdmitted(event_id, at_ms, timeout_ms, CALLER, call(0), None, "", ())


def completed(
    event_id: bytes, at_ms: int, price: int, *, was_admitted: bool = True
) -> ExchangeCompleted:
    return ExchangeCompleted(
        event_id,
        at_ms,
        CALLER,
        call(price),
        "answered" if was_admitted else "refused",
        200,
        None,
        EMPTY_BODY,
        EMPTY_BODY,
        "",
        None,
        1,
        1,
        (),
        None,
        "",
        "",
        "",
        "",
        None,
        False,
        False,
        was_admitted,
    )


CALLER = Caller("key", None, None, ())


def call(price: int) -> CallFacts:
    return CallFacts("POST", "/v1/c", "/v1/c", "chat", "chat", None, False, price)


def story(rng: random.Random) -> tuple[list[Journal], dict[bytes, int | None]]:
    """Two journals and the truth: the price of every event, None for an abandoned one.

    Among them a refusal, an admission without an end, and an end that comes long after its
    timeout, when it has been closed.
    """
    journals, truth = [], {}
    for number in (1, 2):
        base = START_MS - 20_000
        ids = [bytes([number]) * 8 + bytes([n]) * 8 for n in range(1, 7)]
        month = [base - (MONTH_MS if n % 2 else 0) for n in range(6)]
        lines: list[tuple[int, Event]] = [
            (base, admitted(ids[0], month[0], timeout_ms=MONTH_MS + 60_000)),
            (base + 5, admitted(ids[1], month[1], timeout_ms=MONTH_MS + 60_000)),
            (base + 10, completed(ids[0], month[0], 11)),
            (base + 12, completed(ids[2], base, 0, was_admitted=False)),
            (base + 15, admitted(ids[3], base)),
            (base + 20, completed(ids[1], month[1], 13)),
            (base + 25, admitted(ids[4], base)),
            (base + 9_000, admitted(ids[5], base + 9_000)),
            (base + 9_010, completed(ids[4], base, 17)),
            (base + 9_020, completed(ids[5], base + 9_000, 19)),
        ]
        prices = [11, 13, 0, None, 17, 19]
        truth.update(zip(ids, prices, strict=True))
        journals.append(Journal(bytes([number]) * 16, lines))
    return journals, truth


def renewed_lanes() -> tuple[list[Journal], dict[bytes, int | None]]:
    """Two lanes that went on as other incarnations: admissions in one, their ends in another.

    Which of the two is the first by name decides which comes first within a batch.
    """
    journals, truth = [], {}
    base = START_MS - 20_000
    for old, new in ((3, 4), (6, 5)):
        ids = [bytes([old]) * 8 + bytes([n]) * 8 for n in range(1, 4)]
        admissions = [(base, admitted(event_id, base)) for event_id in ids]
        ends = [(base + 5, completed(ids[0], base, 23)), (base + 9, completed(ids[1], base, 29))]
        truth.update(zip(ids, [23, 29, None], strict=True))
        journals += [Journal(bytes([old]) * 16, admissions), Journal(bytes([new]) * 16, ends)]
    return journals, truth


FAULTS = (
    "crash_before",
    "crash_after",
    "fail_before",
    "fail_after",
    "pause",
    "short_pause",
)
SETTLED = (
    "ledger.known",
    "stream.letter",
    "ledger.bodies",
    "checkpoint.pending",
    "ledger.batch",
    "ledger.insert",
)
"""The arrows of a batch whose events were looked up, or are being."""

INSERT_FAULTS = ("token_only", "half", "zombie")


class Schedule(msgspec.Struct, frozen=True):
    """What goes wrong, and when: faults by the number of the arrow, and a seed for the rest."""

    seed: int
    faults: dict[int, str] = {}
    fault_chance: float = 0.0
    transport_chance: float = 0.0
    store_chance: float = 0.0
    ledger_chance: float = 0.0
    purge_chance: float = 0.0
    loss_chance: float = 0.0
    has_renewed_lanes: bool = False
    owners: int = 2
    bend: Callable[[World], None] | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What a run came to; `violations` is empty when the books are right."""

    violations: list[str]
    arrows: list[str]
    world: World
    refused: list[str]
    drifts: int
    rebuilds: int


def run(schedule: Schedule, *, arrows_max: int = 4_000) -> Outcome:
    """Drive a world to rest under a schedule and compare the books with the truth."""
    rng = random.Random(schedule.seed)
    journals, truth = story(rng)
    if schedule.has_renewed_lanes:
        more, more_truth = renewed_lanes()
        journals, truth = journals + more, truth | more_truth
    world = World(journals, rng)
    if schedule.bend is not None:
        schedule.bend(world)
    owners = [Owner(world, number) for number in range(schedule.owners)]
    if schedule.owners > 1 and not schedule.fault_chance:
        owners[1].paused_until_ms = START_MS + 400
    arrows: list[str] = []
    quiet_since_ms = None
    try:
        while len(arrows) < arrows_max:
            land_what_is_late(world)
            is_calm = len(arrows) > 250
            ship_some(world, rng, transport_chance=schedule.transport_chance, is_calm=is_calm)
            ready = [owner for owner in owners if owner.is_ready()]
            if not ready:
                world.now_ms = max(
                    world.now_ms + 1,
                    min(
                        [owner.wakes_at_ms() for owner in owners]
                        + [at_ms for at_ms, _ in world.late]
                    ),
                )
                if books_are_done(world, truth):
                    quiet_since_ms = quiet_since_ms or world.now_ms
                    # Whoever is paused has to look at its ledger once more.
                    patience_ms = 8_000 if world.is_put_back else 3_000
                    if world.now_ms - quiet_since_ms > patience_ms and not world.late:
                        break
                else:
                    quiet_since_ms = None
                    if is_calm and rng.random() < 0.05:
                        world.resend_unbooked()
                continue
            owner = rng.choice(ready) if len(ready) > 1 else ready[0]
            assert owner.arrow is not None
            fault = schedule.faults.get(len(arrows), "")
            if not fault and not is_calm and rng.random() < schedule.fault_chance:
                fault = rng.choice(
                    FAULTS + (INSERT_FAULTS * 3 if isinstance(owner.arrow, Insert) else ())
                )
            # Asked at every arrow otherwise, and of no use where nothing is shaken any more.
            if not is_calm and _is_still(world, owners) and rng.random() < schedule.store_chance:
                _shake_store(world, rng, schedule)
            # A row that takes another back must not find it gone: between a batch's look-up and its
            # insert, a ledger that was put back is one of which a row's opposite is left alone.
            is_between = bool(world.late) or any(
                o.arrow and o.arrow.name in SETTLED for o in owners
            )
            may_be_put_back = schedule.ledger_chance and not is_calm and not is_between
            if may_be_put_back and rng.random() < schedule.ledger_chance:
                world.put_back_ledger(rng.randint(1, 5))
            if world.is_put_back and any(owner.refused for owner in owners):
                world.resync()
            if schedule.purge_chance and not is_calm and rng.random() < schedule.purge_chance:
                world.purge()
            if not is_calm and rng.random() < schedule.loss_chance:
                # An operator is wrong: the journal lives, and its ends come after all.
                world.lost.add(rng.choice(list(world.journals)))
            if owner.arrow.name == "clock.sleep" and fault.startswith("fail"):
                fault = ""
            arrows.append(owner.arrow.name)
            world.now_ms += 1
            owner.do(fault)
    finally:
        for owner in owners:
            owner.close()
    return Outcome(
        violations_of(world, truth),
        arrows,
        world,
        [owner.refused for owner in owners if owner.refused],
        sum(owner.drifts + owner.meter.progress.pending_drifts for owner in owners),
        sum(owner.meter.progress.rebuilds for owner in owners),
    )


def _is_still(world: World, owners: list[Owner]) -> bool:
    # An older checkpoint is told by rows it does not know. One that is put there while an insert of
    # its lost future is still on the way cannot be told: stop metering first. Recovery looks at the
    # batch, then inserts what is missing: so from there on as well.
    return not world.late and not any(
        isinstance(o.arrow, Insert) or (o.arrow and o.arrow.name == "ledger.batch") for o in owners
    )


def land_what_is_late(world: World) -> None:
    """Inserts that lived on in a thread of their own."""
    if not world.late:
        return
    due = [effect for at_ms, effect in world.late if at_ms <= world.now_ms]
    world.late = [(at_ms, effect) for at_ms, effect in world.late if at_ms > world.now_ms]
    for effect in due:
        try:
            effect()
        except Unavailable:
            continue


def ship_some(
    world: World, rng: random.Random, *, transport_chance: float = 0.0, is_calm: bool = True
) -> None:
    """A parcel of some journal, which the transport may lose, repeat, or bring out of order."""
    if not is_calm and rng.random() > 0.5:
        return
    is_bent = not is_calm and rng.random() < transport_chance
    world.ship(lose=is_bent and rng.random() < 0.5, twice=is_bent)
    if is_bent and rng.random() < 0.3:
        rng.choice(list(world.journals.values())).rewind(0)
    if is_bent and rng.random() < 0.2 and len(world.messages) > 1:
        # The broker loses an acknowledged message in the middle. Delivered ones it keeps: an open
        # admission lies only there once the journal has let go of it.
        at = rng.randrange(len(world.messages))
        if world.messages[at].seq > world.delivered_seq:
            del world.messages[at]


def _shake_store(world: World, rng: random.Random, schedule: Schedule) -> None:
    # An older checkpoint may need what was purged by a newer one: only a missing one is made anew.
    if schedule.purge_chance or rng.random() < 0.5:
        world.wipe_checkpoint()
    else:
        world.roll_back_checkpoint(rng.randint(1, 6))


def books_are_done(world: World, truth: dict[bytes, int | None]) -> bool:
    """Whether all is shipped, booked and closed."""
    if any(not journal.end_is_sent for journal in world.journals.values()):
        return False
    checkpoint = None if world.checkpoint is None else decode(world.checkpoint)
    if checkpoint is None or checkpoint.pending is not None:
        return False
    if checkpoint.committed_seq < (world.messages[-1].seq if world.messages else 0):
        return False
    if checkpoint.oldest_open_seq is not None:
        return False
    return all(
        name in checkpoint.incarnations
        and checkpoint.incarnations[name].offset == journal.ends[-1]
        and checkpoint.incarnations[name].ended_at_ms is not None
        for name, journal in ((j.incarnation.hex(), j) for j in world.journals.values())
    )


def violations_of(world: World, truth: dict[bytes, int | None]) -> list[str]:
    """How the books differ from the truth."""
    violations = []
    net = world.net()
    for event_id, price in truth.items():
        requests, cost, _ = net.pop(event_id, (0, 0, 0))
        if requests != 1:
            violations.append(f"event {event_id.hex()[-4:]}: net requests {requests}")
        if cost != (price or 0):
            violations.append(f"event {event_id.hex()[-4:]}: net cost {cost}, not {price}")
    violations += [f"event {event_id.hex()} was never sent" for event_id in net]
    if world.committed_fell:
        violations.append("committed fell")
    if not books_are_done(world, truth):
        violations.append("did not come to rest")
    return violations
