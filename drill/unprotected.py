"""Protections switched off, one at a time, in a process of the drill's own: the drill must notice.

    interpreter(path, "drill.unprotected", NAME)

The services hold no switches. What is switched off here is replaced after it was imported and
before the service runs.
"""

import contextlib
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import msgspec

from drill.interpreters import run_as


class Protection(msgspec.Struct, frozen=True):
    """Whose it is, and how it is taken away; None: by a statement to the ledger."""

    service: str
    switch_off: Callable[[], None] | None


def _replace(owner: Any, name: str, new: Any) -> Any:
    """Put another in its place. Raises AttributeError when there is none."""
    old = getattr(owner, name)
    setattr(owner, name, new)
    return old


# ---- the gateway's ---------------------------------------------------------------------------


def _no_admission() -> None:
    from gateway.recording.record import Exchange

    def admit(self: Any, *_: Any) -> None:
        self.is_admitted = True

    _replace(Exchange, "admit", admit)


def _no_adoption() -> None:
    from gateway.recording import journal

    _replace(journal, "adopt", lambda *_: [])


def _no_lock() -> None:
    import fcntl

    from gateway.recording import segments

    _replace(
        segments,
        "fcntl",
        SimpleNamespace(flock=lambda *_: None, LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB),
    )


def _nothing_sent_again() -> None:
    from gateway.ports import BusFull, BusUnavailable
    from gateway.recording.booking import Booking
    from gateway.recording.pump import Pump
    from gateway.recording.shipper import Shipper

    async def send(self: Any, parcel: Any) -> bool:
        try:
            await self._bus.publish(self._subject, parcel.content, parcel.headers.to_headers())
        except BusFull:
            self._counts.publish_full += 1
        except BusUnavailable:
            self._counts.publish_unavailable += 1
        return True

    async def heal(_: Any) -> None:
        return

    _replace(Pump, "_send", send)
    _replace(Booking, "_heal", heal)
    _replace(Shipper, "ask", lambda *_: None)


def _shipped_is_booked() -> None:
    from gateway.recording.booking import Booking

    async def read_position(self: Any) -> bool:
        if not await read(self):
            return False
        if self._pump.next > self.source.booked:
            self.source.booked, self.source.booked_chain = self._pump.next, None
        return True

    read = _replace(Booking, "read_position", read_position)


def _served_unrecorded() -> None:
    from gateway.ports import JournalUnavailable
    from gateway.recording.journal import Journal
    from gateway.recording.lane import Lane

    def write(self: Any, payload: bytes) -> None:
        with contextlib.suppress(JournalUnavailable):
            append(self, payload)

    append = _replace(Lane, "append", write)
    _replace(Journal, "is_accepting", True)


def _no_database_no_keys() -> None:
    from gateway.configuration.snapshot import EMPTY
    from gateway.configuration.watcher import Configuration

    async def forget(self: Any) -> None:
        try:
            await refresh(self)
        except BaseException:
            self.snapshot = EMPTY
            raise

    refresh = _replace(Configuration, "refresh", forget)


def _leaving_is_no_end() -> None:
    from gateway.recording.record import Exchange

    def end(self: Any, outcome: str, *arguments: Any, **facts: Any) -> None:
        if outcome != "client_left":
            complete(self, outcome, *arguments, **facts)

    complete = _replace(Exchange, "complete", end)


# ---- metering's ------------------------------------------------------------------------------


def _error_is_done() -> None:
    from metering.protocol import PartitionMeter

    async def fill(*_: Any, **__: Any) -> int:
        return 0

    _replace(PartitionMeter, "_fill", fill)


def _repeated_uncounted() -> None:
    from metering.protocol import PartitionMeter

    async def fill(self: Any, pending: Any, billed: Any, **_: Any) -> int:
        block = self._ledger.seal(billed.entries)
        token = f"{pending.batch_id}:{pending.attempt}"
        await self._ledger.insert(block, token, pending.insert_by_ms)
        return 0

    _replace(PartitionMeter, "_fill", fill)


def _pending_forgotten() -> None:
    from metering.adapters.nats_checkpoint import NatsCheckpoints

    async def without_pending(self: Any) -> Any:
        checkpoint, revision = await read(self)
        if checkpoint is not None:
            checkpoint = msgspec.structs.replace(checkpoint, pending=None)
        return checkpoint, revision

    read = _replace(NatsCheckpoints, "read", without_pending)
    _marks_ignored()


def _no_compare_and_set() -> None:
    from contracts.checkpoint import encode
    from metering.adapters.nats_checkpoint import NatsCheckpoints
    from metering.adapters.nats_link import as_unavailable

    async def write(self: Any, checkpoint: Any, _: int) -> int:
        with as_unavailable():
            return int(await self._bucket.put(self._key, encode(checkpoint)))

    _replace(NatsCheckpoints, "write", write)


def _gaps_stepped_over() -> None:
    from metering import reading

    def leap(*arguments: Any, is_lost: bool) -> Any:
        del is_lost
        return stand(*arguments, is_lost=True)

    stand = _replace(reading, "stand", leap)


def _repeats_taken() -> None:
    from metering import reading
    from metering.parcels import Behind, Next

    def again(position: Any, headers: Any, content: bytes, *, is_lost: bool) -> Any:
        standing = stand(position, headers, content, is_lost=is_lost)
        if not isinstance(standing, Behind) or headers.count == 0:
            return standing
        once_more = stand(None, headers, content, is_lost=True)
        if not isinstance(once_more, Next):
            return standing
        return msgspec.structs.replace(once_more, position=position, jumped_bytes=0)

    stand = _replace(reading, "stand", again)


def _marks_ignored() -> None:
    from metering.protocol import PartitionMeter

    async def unknown(*_: Any) -> dict[str, Any]:
        return {}

    _replace(PartitionMeter, "_unknown_marks", unknown)


def _missing_is_zero() -> None:
    from metering.adapters.clickhouse_ledger import ClickHouseLedger

    async def none(*_: Any) -> dict[bytes, Any]:
        return {}

    async def nothing(*_: Any) -> None:
        return None

    _replace(ClickHouseLedger, "marks", none)
    _replace(ClickHouseLedger, "mark", nothing)


def _any_stream() -> None:
    from metering.protocol import PartitionMeter

    _replace(PartitionMeter, "_compare_with_stream", lambda *_: None)


def _any_ledger() -> None:
    from metering.adapters.clickhouse_ledger import ClickHouseLedger

    async def plenty(*_: Any) -> int:
        return 1 << 62

    _replace(ClickHouseLedger, "count", plenty)


def _never_closed() -> None:
    from metering.openings import Openings

    _replace(Openings, "closable", lambda *_: [])


def _unpriced_is_free() -> None:
    from metering.pipeline import Pipeline

    def priced(self: Any, *arguments: Any) -> Any:
        billed = rows(self, *arguments)
        entries = [
            msgspec.structs.replace(entry, cost_picousd=0)
            if str(entry.rating_status).endswith("unpriced") and entry.cost_picousd is None
            else entry
            for entry in billed.entries
        ]
        return msgspec.structs.replace(billed, entries=entries)

    rows = _replace(Pipeline, "rows", priced)


PROTECTIONS: Final = {
    "an admission is kept before dispatch": Protection("gateway", _no_admission),
    "the journals of the dead are adopted": Protection("gateway", _no_adoption),
    "a journal is locked by its owner": Protection("gateway", _no_lock),
    "what was not acknowledged or booked is sent again": Protection("gateway", _nothing_sent_again),
    "a journal is kept until it is booked": Protection("gateway", _shipped_is_booked),
    "what cannot be recorded is refused": Protection("gateway", _served_unrecorded),
    "keys are kept in memory": Protection("gateway", _no_database_no_keys),
    "a client that leaves is an end": Protection("gateway", _leaving_is_no_end),
    "an insert that failed is looked for": Protection("metering", _error_is_done),
    "only missing rows are inserted again": Protection("metering", _repeated_uncounted),
    "a pending batch is finished": Protection("metering", _pending_forgotten),
    "checkpoints are compared and set": Protection("metering", _no_compare_and_set),
    "a gap is not stepped over": Protection("metering", _gaps_stepped_over),
    "a parcel is booked once": Protection("metering", _repeats_taken),
    "the ledger's marks outweigh the checkpoint": Protection("metering", _marks_ignored),
    "a missing checkpoint is not zero": Protection("metering", _missing_is_zero),
    "the stream must be the checkpoint's": Protection("metering", _any_stream),
    "the ledger must hold what is committed": Protection("metering", _any_ledger),
    "an admission without an end is closed": Protection("metering", _never_closed),
    "unknown is not zero": Protection("metering", _unpriced_is_free),
    "the ledger refuses an insert past its deadline": Protection("clickhouse", None),
}
"""Every protection that a drill can do without, by what it says."""


def main() -> None:
    """Run what an interpreter is asked to, without one protection."""
    name, *rest = sys.argv[1:]
    switch_off = PROTECTIONS[name].switch_off
    assert switch_off is not None, name
    switch_off()
    run_as(rest)


if __name__ == "__main__":
    main()
