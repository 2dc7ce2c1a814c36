"""The batch protocol of one partition: a state machine over ports, the same in production and tests.

    read parcels -> rows -> CAS pending -> insert once -> CAS committed
    anything else: let the deadline pass, CAS attempt + 1, count, insert what is missing, count, CAS

The checkpoint is a cache of the ledger; whoever holds its newest revision may insert, the ledger's
own clock refuses all earlier holders, and what is missing is read from the ledger itself.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final

import msgspec

from contracts.checkpoint import Checkpoint, Pending, Position
from contracts.exchange import encode
from contracts.ids import from_text, to_text, unix_ms
from contracts.records import ParcelHeaders
from metering.batch_ids import next_batch_id
from metering.breaker import Breaker
from metering.entries import copy_reversal_of
from metering.limits import Limits, Progress
from metering.openings import Openings
from metering.ports import (
    BatchRow,
    Billed,
    Billers,
    Chargeable,
    Checkpoints,
    Clock,
    Closing,
    DeadLetter,
    Ledger,
    Manifest,
    Mark,
    Message,
    Refused,
    Stream,
    StreamState,
    Superseded,
    Unavailable,
)
from metering.reading import Gap, Reading
from metering.recollecting import Recollection
from metering.settling import Settled, decode_all, ids_to_look_up, reread, settle

NOWHERE: Final = Position(0, None, 0, 0)
NO_BATCH: Final = "00000000-0000-0000-0000-000000000000"


class Wait(msgspec.Struct, frozen=True):
    """Patience with the gap at an offset: how long, and when it ends."""

    offset: int
    patience_ms: int
    until_ms: int


class PartitionMeter:
    """Books one partition. One task at a time may call `step`; any error makes the next one reopen."""

    def __init__(
        self,
        partition: int,
        *,
        stream: Stream,
        checkpoints: Checkpoints,
        ledger: Ledger,
        clock: Clock,
        billers: Billers,
        limits: Limits,
        build: str,
        slots: AbstractAsyncContextManager[object] | None = None,
        new_batch_id: Callable[[int, int], bytes] = next_batch_id,
    ) -> None:
        """`slots` bounds how many partitions of a process work on a batch at the same time."""
        self.partition = partition
        self.progress = Progress()
        self._stream = stream
        self._checkpoints = checkpoints
        self._ledger = ledger
        self._clock = clock
        self._billers = billers
        self._limits = limits
        self._build = build
        self._slots = slots or nullcontext()
        self._new_batch_id = new_batch_id
        self._checkpoint: Checkpoint | None = None
        self._revision = 0
        self._openings = Openings(limits.close_grace_ms)
        self._gaps: dict[str, Gap] = {}
        self._asked_at_ms: dict[str, int] = {}
        self._republished: set[str] = set()
        self._waits: dict[str, Wait] = {}
        self._jumps: dict[str, dict[int, int]] = {}
        self._newest_seq = 0
        self._lost: frozenset[bytes] = frozenset()
        self._breaker = Breaker(limits.bad_run_max, limits.quarantined_max)
        self._lost_read_at_ms = 0
        self._rests_until_ms = 0
        self._idle_since_ms: int | None = None
        self._ledger_ahead_ms = 0
        self._ledger_checked_at_ms = 0

    async def step(self) -> bool:
        """Book at most one batch; False when there was nothing to do.

        Raises Unavailable (try again later), Superseded (someone else owns the partition; trying
        again is safe), Refused (an operator has to act). After any of them, or a cancellation,
        the next step starts from the checkpoint again.
        """
        try:
            if self._checkpoint is None:
                await self._open()
            return await self._step()
        except BaseException:
            self._checkpoint = None
            raise

    async def _step(self) -> bool:
        await self._check_ledger()
        await self._read_lost()
        reading = await self._read()
        # Strictly: a batch under way is not booked yet.
        self.progress.is_caught_up = reading.last_seq == 0
        self._silence(reading)
        is_mended = await self._mend_gaps(reading)
        async with self._slots:
            return await self._work(reading) or is_mended

    async def _work(self, reading: Reading) -> bool:
        assert self._checkpoint is not None
        settled = await self._settle(reading, NO_BATCH)
        has_ended = self._end_lost(reading)
        due = self._openings.closable(reading.positions, self._lost, self._limits.closings_max)
        is_over = self._oldest_needed(reading) != self._checkpoint.oldest_open_seq
        if reading.last_seq == 0 and not due and not has_ended and not is_over:
            return False
        closed = await self._unbooked(due)
        closings = [self._close(event_id) for event_id in closed]
        await self._book(reading, settled, closed, closings)
        return True

    async def _unbooked(self, due: list[bytes]) -> list[bytes]:
        """Which of the due admissions to close; those that the ledger holds are forgotten.

        When a lane goes on as another incarnation, an end there may be booked before its admission
        here: then nothing is open when the end comes, and all is over when the admission does.
        """
        known = await self._ledger.known(due, NO_BATCH) if due else {}
        for event_id in known:
            self._openings.close(event_id)
        return [event_id for event_id in due if event_id not in known]

    # ---- opening -----------------------------------------------------------------------------

    async def _open(self) -> None:
        self.progress.openings += 1
        # In this order: what a checkpoint names must be in a stream and a ledger looked at later.
        checkpoint, revision = await self._checkpoints.read()
        state = await self._stream.state()
        await self._sync_clock(None, 0)
        if checkpoint is None:
            checkpoint, revision = await self._rebuild(state, revision)
        else:
            self._compare_with_stream(checkpoint, state)
            checkpoint, revision = await self._compare_with_ledger(checkpoint, revision)
        self._lost = await self._checkpoints.lost()
        self._lost_read_at_ms = self._clock.monotonic_ms()
        self._republished = set()
        if checkpoint.committed_seq < self._newest_seq:
            # It was made anew or put back: what was waited for before says nothing about it.
            self._waits, self._jumps = {}, {}
        self._newest_seq = checkpoint.committed_seq
        await self._reread(checkpoint)
        self._checkpoint, self._revision = checkpoint, revision
        if checkpoint.pending is not None:
            await self._recover(checkpoint, checkpoint.pending)

    async def _rebuild(self, state: StreamState, revision: int) -> tuple[Checkpoint, int]:
        """A missing checkpoint is made from the ledger, never from zero.

        Reading starts at the stream's first parcel, each incarnation's booking at its lowest one,
        and below the ledger's marks every event is looked up before it is booked.
        """
        marks = await self._ledger.marks(0, None)
        if not await self._is_untouched(state, revision, marks):
            self.progress.rebuilds += 1
            # Whoever held the lost checkpoint may have an insert on its way.
            await self._let_pass(self._ledger_ms() + self._limits.booking_deadline_ms)
            marks = await self._ledger.marks(0, None)
        anchors = await self._anchors(state, marks)
        checkpoint = Checkpoint(
            partition=self.partition,
            generation=state.generation,
            committed_seq=max(0, state.first_seq - 1),
            oldest_open_seq=None,
            incarnations={
                incarnation.hex(): Position(
                    anchors[incarnation],
                    None,
                    mark.insert_by_ms,
                    mark.segment_no,
                    verify_to=mark.offset,
                )
                for incarnation, mark in marks.items()
            },
            newest_batch_ms=_newest_ms(marks),
        )
        return checkpoint, await self._checkpoints.write(checkpoint, revision)

    async def _anchors(self, state: StreamState, marks: dict[bytes, Mark]) -> dict[bytes, int]:
        """The offset from which on each incarnation is booked anew.

        What is not booked, or still open, is never purged: it lies at or above the lowest offset
        that the stream holds. That need not come first: what fills a gap lies behind what showed
        it. A stream that nothing was purged from holds all from zero, or has taken the place of
        another: what it lacks is asked for.
        """
        if state.first_seq <= 1 or not marks:
            return dict.fromkeys(marks, 0)
        anchors = {incarnation: mark.offset for incarnation, mark in marks.items()}
        last_seq = (await self._stream.state()).last_seq
        async for message in self._between(state.first_seq, last_seq):
            headers = message.headers
            if headers is not None and headers.offset < anchors.get(headers.incarnation, 0):
                anchors[headers.incarnation] = headers.offset
        return anchors

    async def _is_untouched(
        self, state: StreamState, revision: int, marks: dict[bytes, Mark]
    ) -> bool:
        """Whether nobody can ever have booked from this partition.

        Every parcel in it is younger than the store of checkpoints, and that never held this key:
        then no batch of these parcels was ever begun.
        """
        if revision or marks:
            return False
        first = await self._stream.read(state.first_seq, 1)
        return not first or first[0].published_at_ms >= await self._checkpoints.created_at_ms()

    def _compare_with_stream(self, checkpoint: Checkpoint, state: StreamState) -> None:
        if checkpoint.generation != state.generation:
            raise Refused(
                f"partition {self.partition}: the stream was created at {state.generation}, the "
                f"checkpoint belongs to the one of {checkpoint.generation}. If the stream was "
                f"replaced on purpose, run `tollway resync {self.partition}`: booking "
                "then starts at its first parcel and looks every event up in the ledger"
            )
        if state.last_seq < checkpoint.committed_seq:
            raise Refused(
                f"partition {self.partition}: booked up to sequence {checkpoint.committed_seq}, "
                f"but the stream ends at {state.last_seq}: it was restored to an older state. Put "
                "the newer one back, or run "
                f"`tollway resync {self.partition}` to book again from its first parcel, "
                "looking every event up in the ledger"
            )

    async def _compare_with_ledger(
        self, checkpoint: Checkpoint, revision: int
    ) -> tuple[Checkpoint, int]:
        await self._sync_clock(checkpoint.last_batch_id, checkpoint.last_batch_rows)
        marks = await self._later_marks(checkpoint)
        if not _unknown(marks, checkpoint):
            return _aware_of(marks, checkpoint), revision
        # The checkpoint is older than the ledger: what it does not know of is looked up.
        self.progress.rebuilds += 1
        await self._let_pass(self._ledger_ms() + self._limits.booking_deadline_ms)
        marks = await self._later_marks(checkpoint)
        positions = dict(checkpoint.incarnations)
        for name, mark in _unknown(marks, checkpoint).items():
            known = positions.get(name) or Position(0, name, mark.insert_by_ms, mark.segment_no)
            positions[name] = msgspec.structs.replace(known, verify_to=mark.offset)
        checkpoint = msgspec.structs.replace(_aware_of(marks, checkpoint), incarnations=positions)
        return checkpoint, await self._checkpoints.write(checkpoint, revision)

    async def _later_marks(self, checkpoint: Checkpoint) -> dict[bytes, Mark]:
        """Of every batch that was booked on top of this checkpoint, and is not its own."""
        pending = checkpoint.pending
        return await self._ledger.marks(
            checkpoint.newest_batch_ms, None if pending is None else pending.batch_id
        )

    async def _reread(self, checkpoint: Checkpoint) -> None:
        """The open admissions and gaps, from the stream; what the ledger closed is subtracted."""
        self._openings = Openings(self._limits.close_grace_ms)
        self._gaps = {}
        seq = checkpoint.oldest_open_seq
        last_seq = max(checkpoint.committed_seq, checkpoint.reread_to_seq)
        while seq is not None and seq <= last_seq:
            messages = await self._stream.read(seq, self._limits.bytes_max)
            messages = [each for each in messages if each.seq <= last_seq]
            if not messages:
                break
            reread(messages, checkpoint.incarnations, self._openings, self._gaps)
            seq = messages[-1].seq + 1
        candidates = list(self._openings.event_ids())
        if candidates:
            pending = checkpoint.pending
            excluding = NO_BATCH if pending is None else pending.batch_id
            for event_id in await self._ledger.known(candidates, excluding):
                self._openings.close(event_id)

    async def _between(self, first_seq: int, last_seq: int) -> AsyncIterator[Message]:
        """The stream's messages of a range that lies behind its end."""
        while first_seq <= last_seq:
            messages = await self._stream.read(first_seq, self._limits.bytes_max)
            if not messages:
                return
            for message in messages:
                if message.seq <= last_seq:
                    yield message
            first_seq = messages[-1].seq + 1

    # ---- reading -----------------------------------------------------------------------------

    @property
    def _positions(self) -> dict[str, Position]:
        assert self._checkpoint is not None
        return self._checkpoint.incarnations

    async def _read(self) -> Reading:
        """Parcels behind the committed sequence until a limit is reached or waiting ends.

        A batch waits for more, because an insert of one row costs as much as one of a thousand:
        shortly when the partition was idle, longer right after a batch.
        """
        assert self._checkpoint is not None
        limits = self._limits
        reading = Reading(self._positions, self._gaps)
        next_seq = self._checkpoint.committed_seq + 1
        until_ms, poll_ms = 0, limits.poll_ms
        while reading.records < limits.rows_max and reading.bytes < limits.bytes_max:
            messages = await self._stream.read(next_seq, limits.bytes_max - reading.bytes)
            now_ms = self._clock.monotonic_ms()
            if not messages:
                if reading.last_seq == 0 or now_ms >= until_ms:
                    break
                await self._clock.sleep(min(poll_ms, until_ms - now_ms) / 1000)
                poll_ms = min(poll_ms * 2, limits.poll_max_ms)
                continue
            until_ms = until_ms or max(now_ms + limits.delay_ms, self._rests_until_ms)
            for message in messages:
                if reading.records >= limits.rows_max or not await self._take(reading, message):
                    return reading
                next_seq = message.seq + 1
        return reading

    async def _take(self, reading: Reading, message: Message) -> bool:
        headers = message.headers
        if headers is not None and headers.incarnation in self._breaker.quarantined:
            reading.pass_by(message, headers)
            return True
        is_lost = False
        if headers is not None:
            await self._meet(reading, headers)
            is_lost = headers.incarnation in self._lost or self._is_crossed(reading, headers)
        return reading.take(message, is_lost=is_lost, ended_at_ms=self._clock.now_ms())

    def _is_crossed(self, reading: Reading, headers: ParcelHeaders) -> bool:
        """Whether a parcel lies behind a gap that the ledger holds, and nobody filled it."""
        name = headers.incarnation.hex()
        position = reading.positions.get(name)
        if position is None or name not in self._jumps:
            return False
        return headers.offset <= self._jumps[name].get(position.offset, 0)

    async def _meet(self, reading: Reading, headers: ParcelHeaders) -> None:
        """An incarnation the checkpoint does not name is new, or ended so long ago that it was
        dropped: the ledger knows, and asking once per incarnation costs little.

        A dropped one was booked to its end, with nothing open: any of its parcels may come first.
        """
        name = headers.incarnation.hex()
        if name in reading.positions:
            return
        mark = await self._ledger.mark(headers.incarnation)
        if mark is not None:
            offset = min(headers.offset, mark.offset)
            reading.positions[name] = Position(
                offset, None, 0, mark.segment_no, verify_to=mark.offset
            )

    async def _mend_gaps(self, reading: Reading) -> bool:
        """Ask for what is missing; whether parcels were sent through once more."""
        is_mended = False
        now_ms = self._clock.monotonic_ms()
        for name, gap in reading.gaps.items():
            incarnation = bytes.fromhex(name)
            if incarnation in self._breaker.quarantined:
                continue
            if incarnation in self._lost and name not in self._republished:
                # Nothing will fill this gap. What lies ahead of it is sent through once more, and
                # the first of it is then booked across the gap.
                booked = reading.positions.get(name, NOWHERE).offset
                ahead = await self._ahead(incarnation, booked, gap)
                await self._republish(seq for _, _, seq in ahead)
                self._republished.add(name)
                is_mended = True
            position = reading.positions.get(name)
            asked_at_ms = self._asked_at_ms.get(name)
            if asked_at_ms is None or now_ms - asked_at_ms >= self._limits.gap_ask_ms:
                self._asked_at_ms[name] = now_ms
                self.progress.gaps += 1
                await self._stream.ask_again(
                    incarnation, 0 if position is None else position.offset
                )
            if position is not None and self._has_waited(name, position, now_ms):
                is_mended |= await self._cross(incarnation, position, gap)
        return is_mended

    def _has_waited(self, name: str, position: Position, now_ms: int) -> bool:
        """A checkpoint that was put back asks for what its shipper deleted as booked long ago.

        What the journal still holds comes first, because an admission without an end is in no
        ledger: so there is time to send it. Each time at the same offset it is twice as long.
        """
        if position.verify_to == 0:
            return False
        wait = self._waits.get(name)
        if wait is not None and wait.offset == position.offset:
            if now_ms < wait.until_ms:
                return False
            patience_ms = wait.patience_ms * 2
        else:
            wait, patience_ms = None, self._limits.booking_deadline_ms
            patience_ms += self._limits.execution_max_ms
        self._waits[name] = Wait(position.offset, patience_ms, now_ms + patience_ms)
        return wait is not None

    async def _cross(self, incarnation: bytes, position: Position, gap: Gap) -> bool:
        """Go on with what the stream holds, which may be all there is: its shipper has it booked.

        Gaps are stepped over up to the ledger's mark, which shows that they were booked, and only
        to the lowest parcel beyond, whoever reads what in which order meanwhile.
        """
        jumps, useful, reached = {}, [], position.offset
        for offset, end, seq in await self._ahead(incarnation, position.offset, gap):
            if offset > reached:
                if offset > position.verify_to:
                    break
                jumps[reached] = offset
            reached = max(reached, end)
            useful.append(seq)
        self._jumps[incarnation.hex()] = jumps
        await self._republish(useful)
        return bool(useful)

    async def _ahead(self, incarnation: bytes, booked: int, gap: Gap) -> list[tuple[int, int, int]]:
        """Offset, end and sequence of what the stream holds beyond `booked`, by offset."""
        ahead = []
        last_seq = (await self._stream.state()).last_seq
        async for message in self._between(gap.first_seq, last_seq):
            headers = message.headers
            if headers is not None and headers.incarnation == incarnation:
                ahead.append((headers.offset, headers.offset + len(message.content), message.seq))
        return sorted(each for each in ahead if each[1] > booked)

    async def _republish(self, seqs: Iterable[int]) -> None:
        """Send parcels that lie behind the reader through once more."""
        for seq in seqs:
            for message in (await self._stream.read(seq, 1))[:1]:
                if message.seq == seq:
                    await self._stream.republish(message)

    def _silence(self, reading: Reading) -> None:
        """A day without a word from an incarnation is a loss, if there has been nothing left to
        read for a while: after an outage of a day the words are still on their way."""
        now_ms = self._clock.monotonic_ms()
        if reading.last_seq or self._idle_since_ms is None:
            self._idle_since_ms = None if reading.last_seq else now_ms
            return
        if now_ms - self._idle_since_ms < self._limits.silence_settle_ms:
            return
        silent_before_ms = self._clock.now_ms() - self._limits.silence_ms
        silent = set()
        for incarnation in self._openings.incarnations():
            position = self._positions.get(incarnation.hex())
            if position is not None and position.last_time_ms < silent_before_ms:
                silent.add(incarnation)
        self._lost |= silent

    def _end_lost(self, reading: Reading) -> bool:
        """A lost incarnation counts as ended, which its shipper and the checkpoint's size wait for."""
        has_ended = False
        for name in map(bytes.hex, self._lost):
            position = reading.positions.get(name)
            if position is not None and position.ended_at_ms is None:
                reading.positions[name] = msgspec.structs.replace(
                    position, ended_at_ms=self._clock.now_ms()
                )
                reading.ended.append(name)
                has_ended = True
        return has_ended

    async def _read_lost(self) -> None:
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._lost_read_at_ms >= self._limits.lost_check_ms:
            self._lost = await self._checkpoints.lost()
            self._lost_read_at_ms = now_ms

    # ---- booking -----------------------------------------------------------------------------

    async def _settle(self, reading: Reading, excluding: str) -> Settled:
        """Decode what was taken; look up what may be booked already; open and close admissions."""
        events, letters = decode_all(reading.taken)
        if excluding == NO_BATCH:
            self._breaker.judge(self.partition, reading.taken, letters)
        reading.letters += letters
        ids = ids_to_look_up(events, reading.positions, self._openings)
        known = await self._ledger.known(ids, excluding) if ids else {}
        self.progress.looked_up += len(ids)
        return settle(events, known, ids, self._openings)

    def _close(self, event_id: bytes) -> Closing:
        opening = self._openings.close(event_id)
        assert opening is not None
        return Closing(opening.admitted, opening.incarnation, opening.segment_no, opening.offset)

    async def _book(
        self, reading: Reading, settled: Settled, closed: list[bytes], closings: list[Closing]
    ) -> None:
        assert self._checkpoint is not None
        began_at_ms = self._clock.monotonic_ms()
        price_book = await self._billers.current()
        biller = await self._billers.load(price_book)
        manifest = Manifest(
            self.partition,
            self._new_batch_id(self._ledger_ms(), self._checkpoint.newest_batch_ms),
            self._ledger_ms(),
            price_book,
            self._build,
        )
        billed = biller.rows(settled.charges, closings, manifest)
        await self._put_aside(reading.letters, billed)
        after = self._after(reading)
        if not billed.entries:
            await self._commit(after, reading)
            return
        await self._ledger.insert_bodies(billed.bodies)
        block = self._ledger.seal(billed.entries)
        batch_id = to_text(manifest.batch_id)
        pending = Pending(
            batch_id=batch_id,
            attempt=1,
            insert_by_ms=self._ledger_ms() + self._limits.booking_deadline_ms,
            first_seq=reading.first_seq,
            last_seq=reading.last_seq,
            from_offsets=reading.from_offsets,
            positions={
                name: reading.positions[name] for name in (*reading.from_offsets, *reading.ended)
            },
            closed=tuple(event_id.hex() for event_id in closed),
            rows=block.rows,
            rows_sha=block.sha,
            price_book=price_book,
            build=self._build,
            booked_at_ms=manifest.booked_at_ms,
        )
        await self._write(msgspec.structs.replace(self._checkpoint, pending=pending))
        await self._ledger.insert(block, f"{batch_id}:1", pending.insert_by_ms)
        # OK, at the first attempt, to the only request sent under a token never used before: done.
        after = _booked(after, batch_id, block.rows)
        await self._commit(after, reading)
        self._count(billed, len(closings))
        now_ms = self._clock.monotonic_ms()
        rest_ms = (now_ms - began_at_ms) * self._limits.rest_factor
        self._rests_until_ms = now_ms + min(rest_ms, self._limits.rest_max_ms)

    async def _put_aside(self, letters: Iterable[DeadLetter], billed: Billed) -> None:
        """Dead letters, before anything is committed past them."""
        for letter in letters:
            await self._stream.dead_letter(letter)
            self.progress.dead_letters += 1
        for chargeable, reason in billed.unrated:
            await self._stream.dead_letter(_unrated_letter(chargeable, reason))
            self.progress.dead_letters += 1

    def _after(self, reading: Reading) -> Checkpoint:
        """The checkpoint once this batch is booked."""
        assert self._checkpoint is not None
        committed_seq = max(self._checkpoint.committed_seq, reading.last_seq)
        # Only a recovered batch can have found an admission behind its own last message.
        newest_open = self._openings.newest_seq() if self._checkpoint.pending is not None else 0
        return msgspec.structs.replace(
            self._checkpoint,
            committed_seq=committed_seq,
            reread_to_seq=max(
                newest_open if newest_open > committed_seq else 0,
                self._checkpoint.reread_to_seq
                if self._checkpoint.reread_to_seq > committed_seq
                else 0,
            ),
            oldest_open_seq=self._oldest_needed(reading),
            incarnations=self._kept(reading),
            pending=None,
        )

    def _oldest_needed(self, reading: Reading) -> int | None:
        """The lowest sequence that must stay in the stream, whoever stops writing to it."""
        needed = [gap.first_seq for gap in reading.gaps.values()]
        oldest_open = self._openings.oldest_seq()
        if oldest_open is not None:
            needed.append(oldest_open)
        return min(needed, default=None)

    def _kept(self, reading: Reading) -> dict[str, Position]:
        """Positions without those that ended long ago, so that a checkpoint stays small."""
        drop_before_ms = self._clock.now_ms() - self._limits.keep_ended_ms
        silent_before_ms = drop_before_ms - self._limits.silence_ms
        needed = {incarnation.hex() for incarnation in self._openings.incarnations()}
        needed.update(reading.gaps)
        needed.update(reading.from_offsets)
        return {
            name: position
            for name, position in reading.positions.items()
            if name in needed
            or (
                position.last_time_ms > silent_before_ms
                if position.ended_at_ms is None
                else position.ended_at_ms > drop_before_ms
            )
        }

    async def _commit(self, after: Checkpoint, reading: Reading) -> None:
        assert self._checkpoint is not None
        assert after.committed_seq >= self._checkpoint.committed_seq, "committed must not fall"
        await self._write(after)
        self._gaps = reading.gaps
        progress = self.progress
        progress.committed_seq = after.committed_seq
        progress.batches += 1
        progress.forks += reading.forks
        progress.damages += len(reading.damages)
        progress.jumped_bytes += reading.jumped_bytes
        progress.open_admissions = len(self._openings)
        if reading.last_published_ms:
            progress.metered_up_to_ms = reading.last_published_ms

    async def _write(self, checkpoint: Checkpoint) -> None:
        self._revision = await self._checkpoints.write(checkpoint, self._revision)
        self._checkpoint = checkpoint
        self._newest_seq = checkpoint.committed_seq

    def _count(self, billed: Billed, abandoned: int) -> None:
        self.progress.rows += len(billed.entries)
        self.progress.unpriced += billed.unpriced
        self.progress.abandoned += abandoned

    # ---- recovering --------------------------------------------------------------------------

    async def _recover(self, checkpoint: Checkpoint, pending: Pending) -> None:
        """Finish a batch whose insert was not seen to succeed, whoever began it.

        Its owner may live, and be about to commit it: then nothing is left to recover.
        """
        self.progress.recoveries += 1
        await self._let_pass(pending.insert_by_ms, self._stands)
        if _unknown(await self._later_marks(checkpoint), checkpoint):
            raise Unavailable(f"partition {self.partition}: the ledger is ahead of the checkpoint")
        reading = await self._collect(checkpoint, pending)
        settled = await self._settle(reading, pending.batch_id)
        closings = [
            self._close(event_id)
            for event_id in map(bytes.fromhex, pending.closed)
            if event_id in self._openings
        ]
        biller = await self._billers.load(pending.price_book)
        manifest = Manifest(
            self.partition,
            from_text(pending.batch_id),
            pending.booked_at_ms,
            pending.price_book,
            pending.build,
        )
        billed = biller.rows(settled.charges, closings, manifest)
        is_drifted = self._ledger.seal(billed.entries).sha != pending.rows_sha
        if is_drifted:
            self.progress.pending_drifts += 1
        pending = msgspec.structs.replace(
            pending,
            attempt=pending.attempt + 1,
            insert_by_ms=self._ledger_ms() + self._limits.booking_deadline_ms,
        )
        await self._write(msgspec.structs.replace(checkpoint, pending=pending))
        rows = await self._fill(pending, billed, is_drifted=is_drifted)
        after = _booked(self._after(reading), pending.batch_id, rows)
        await self._commit(after, reading)
        self._count(billed, len(closings))

    async def _collect(self, checkpoint: Checkpoint, pending: Pending) -> Reading:
        """The batch's records as they were first read. Raises Unavailable when some are gone."""
        found = Recollection(checkpoint, pending)
        seq = pending.first_seq
        while seq and (found.missing or seq <= pending.last_seq):
            messages = await self._stream.read(seq, self._limits.bytes_max)
            for message in messages:
                found.take(message)
            if not messages:
                break
            seq = messages[-1].seq + 1
        for name in sorted(found.missing):
            offset = found.booked(name)
            await self._stream.ask_again(bytes.fromhex(name), offset)
            raise Unavailable(
                f"partition {self.partition}: batch {pending.batch_id} needs incarnation {name} "
                f"from offset {offset}, which the stream does not hold; its shipper was asked to "
                "send it again"
            )
        reading = Reading(found.final, self._gaps)
        for name, gap in found.gaps.items():
            reading.note_gap(name, gap.first_seq, gap.ahead_to)
        for name, gap in list(reading.gaps.items()):
            if gap.ahead_to <= reading.positions.get(name, NOWHERE).offset:
                del reading.gaps[name]
        reading.from_offsets = pending.from_offsets
        reading.taken = found.taken
        reading.first_seq, reading.last_seq = pending.first_seq, pending.last_seq
        return reading

    async def _fill(self, pending: Pending, billed: Billed, *, is_drifted: bool) -> int:
        """Make the ledger hold each row of the batch with net effect one; how many rows it holds.

        Raises Unavailable when that could not be shown; the next try goes on from there.
        """
        present = await self._ledger.batch(pending.batch_id)
        # Rows of one event lie in one part, which is there or not: under drift the event counts.
        if is_drifted:
            events = {row.event_id for row in present}
            missing = [entry for entry in billed.entries if entry.event_id not in events]
        else:
            ids = {row.entry_id for row in present}
            missing = [entry for entry in billed.entries if entry.entry_id not in ids]
        by_id = {entry.entry_id: entry for entry in billed.entries}
        copies = {row.entry_id: row.copies for row in present}
        for row in present:
            entry = by_id.get(row.entry_id)
            if entry is None or row.copies == 1:
                continue
            reversal = copy_reversal_of(entry)
            surplus = row.copies - 1 - copies.get(reversal.entry_id, 0)
            self.progress.copies_reversed += surplus
            missing += [reversal] * surplus
        if missing:
            await self._ledger.insert(
                self._ledger.seal(missing),
                f"{pending.batch_id}:{pending.attempt}",
                pending.insert_by_ms,
            )
            present = await self._ledger.batch(pending.batch_id)
        self._prove(pending, billed, present, is_drifted=is_drifted)
        return sum(row.copies for row in present)

    def _prove(
        self, pending: Pending, billed: Billed, present: list[BatchRow], *, is_drifted: bool
    ) -> None:
        copies = {row.entry_id: row.copies for row in present}
        if is_drifted:
            events = {row.event_id for row in present}
            wrong = [entry for entry in billed.entries if entry.event_id not in events]
        else:
            wrong = [
                entry
                for entry in billed.entries
                if (count := copies.get(entry.entry_id, 0)) != 1
                and count - copies.get(copy_reversal_of(entry).entry_id, 0) != 1
            ]
        if wrong:
            raise Unavailable(
                f"partition {self.partition}: batch {pending.batch_id} attempt {pending.attempt} "
                f"left {len(wrong)} of {len(billed.entries)} rows without net effect one"
            )

    # ---- the ledger's clock ------------------------------------------------------------------

    def _ledger_ms(self) -> int:
        """The ledger's clock, carried on from the newest look at it."""
        return self._clock.monotonic_ms() + self._ledger_ahead_ms

    async def _sync_clock(self, batch_id: str | None, rows: int) -> None:
        """Look at the ledger's clock, and whether it still holds the newest committed batch."""
        self._ledger_ahead_ms = await self._ledger.now_ms() - self._clock.monotonic_ms()
        self._ledger_checked_at_ms = self._clock.monotonic_ms()
        if batch_id is not None and (count := await self._ledger.count(batch_id)) < rows:
            raise Refused(
                f"partition {self.partition}: the ledger holds {count} of the {rows} rows of batch "
                f"{batch_id}, which is committed: the ledger was restored to an older state. Put "
                "the newer one back, or run "
                f"`tollway resync {self.partition}` to book from the stream what the "
                "ledger does not hold"
            )

    async def _check_ledger(self) -> None:
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._ledger_checked_at_ms >= self._limits.ledger_check_ms:
            assert self._checkpoint is not None
            # An owner with nothing to write would not notice that it was superseded.
            await self._stands()
            # Nor would a reader whose stream was replaced: it waits for a sequence that may not come.
            self._compare_with_stream(self._checkpoint, await self._stream.state())
            await self._sync_clock(self._checkpoint.last_batch_id, self._checkpoint.last_batch_rows)

    async def _stands(self) -> None:
        """Raises Superseded when the checkpoint is not the one that was read or written last."""
        _, revision = await self._checkpoints.read()
        if revision != self._revision:
            raise Superseded(f"partition {self.partition}: another revision stands")

    async def _let_pass(
        self, insert_by_ms: int, look: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Wait until nothing that had to be inserted by then can land any more.

        `look` is called now and then; what it raises ends the wait.
        """
        passed_at_ms = insert_by_ms + self._limits.execution_max_ms
        while (now_ms := await self._ledger.now_ms()) <= passed_at_ms:
            await self._clock.sleep(min(passed_at_ms - now_ms + 1, self._limits.look_ms) / 1000)
            if look is not None:
                await look()
        self._ledger_ahead_ms = now_ms - self._clock.monotonic_ms()


def _unknown(marks: dict[bytes, Mark], checkpoint: Checkpoint) -> dict[str, Mark]:
    """Those that lie beyond what a checkpoint knows to be booked."""
    unknown = {}
    for incarnation, mark in marks.items():
        position = checkpoint.incarnations.get(incarnation.hex())
        if position is None or mark.offset > max(position.offset, position.verify_to):
            unknown[incarnation.hex()] = mark
    return unknown


def _newest_ms(marks: dict[bytes, Mark]) -> int:
    return max((mark.batch_ms for mark in marks.values()), default=0)


def _aware_of(marks: dict[bytes, Mark], checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint, on top of which ids later than all of these are made."""
    newest_ms = max(checkpoint.newest_batch_ms, _newest_ms(marks))
    return msgspec.structs.replace(checkpoint, newest_batch_ms=newest_ms)


def _booked(checkpoint: Checkpoint, batch_id: str, rows: int) -> Checkpoint:
    """The checkpoint with a batch as its newest."""
    return msgspec.structs.replace(
        checkpoint,
        last_batch_id=batch_id,
        last_batch_rows=rows,
        newest_batch_ms=max(checkpoint.newest_batch_ms, unix_ms(from_text(batch_id))),
    )


def _unrated_letter(chargeable: Chargeable, reason: str) -> DeadLetter:
    return DeadLetter(
        identity=f"unrated:{chargeable.event.event_id.hex()}",
        reason=f"unrated: {reason}",
        incarnation=chargeable.incarnation,
        offset=chargeable.offset,
        seq=0,
        content=encode(chargeable.event),
    )
