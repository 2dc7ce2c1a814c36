"""Metering without one of its protections: each function takes one away, in this process."""

from typing import Any

import msgspec

from drill.interpreters import replace


def error_is_done() -> None:
    """A batch whose insert failed passes for booked."""
    from metering.filling import Filling

    async def fill(*_: Any, **__: Any) -> int:
        return 0

    replace(Filling, "fill", fill)


def repeated_uncounted() -> None:
    """A batch whose insert failed is inserted once more, whatever is there."""
    from metering.filling import Filling

    async def fill(self: Any, pending: Any, billed: Any, **_: Any) -> int:
        block = self._ledger.seal(billed.entries)
        token = f"{pending.batch_id}:{pending.attempt}"
        await self._ledger.insert(block, token, pending.insert_by_ms)
        return 0

    replace(Filling, "fill", fill)


def pending_forgotten() -> None:
    """Whoever opens a partition begins anew, as if nothing had been pending."""
    from metering.adapters.nats_checkpoint import NatsCheckpoints

    async def without_pending(self: Any) -> Any:
        checkpoint, revision = await read(self)
        if checkpoint is not None:
            checkpoint = msgspec.structs.replace(checkpoint, pending=None)
        return checkpoint, revision

    read = replace(NatsCheckpoints, "read", without_pending)
    marks_ignored()


def no_compare_and_set() -> None:
    """Whoever writes a checkpoint last is right."""
    from contracts.checkpoint import encode
    from metering.adapters.nats_checkpoint import NatsCheckpoints
    from metering.adapters.nats_link import as_unavailable

    async def write(self: Any, checkpoint: Any, _: int) -> int:
        with as_unavailable():
            return int(await self._bucket.put(self._key, encode(checkpoint)))

    replace(NatsCheckpoints, "write", write)


def gaps_stepped_over() -> None:
    """What lies ahead of a gap is booked, and the gap with it."""
    from metering import reading

    def leap(*arguments: Any, is_lost: bool) -> Any:
        del is_lost
        return stand(*arguments, is_lost=True)

    stand = replace(reading, "stand", leap)


def repeats_taken() -> None:
    """A parcel that came before is booked again."""
    from metering import reading
    from metering.parcels import Behind, Next

    def again(position: Any, headers: Any, content: bytes, *, is_lost: bool) -> Any:
        standing = stand(position, headers, content, is_lost=is_lost)
        if position is None or headers.count == 0 or headers.offset >= position.offset:
            return standing
        once_more = stand(None, headers, content, is_lost=True)
        if isinstance(standing, Next) and isinstance(once_more, Next):
            return msgspec.structs.replace(standing, records=once_more.records)
        if isinstance(standing, Behind) and isinstance(once_more, Next):
            return msgspec.structs.replace(once_more, position=position, jumped_bytes=0)
        return standing

    stand = replace(reading, "stand", again)


def marks_ignored() -> None:
    """The checkpoint is believed, whatever the ledger holds."""
    from metering.agreement import Agreement

    async def none(*_: Any) -> dict[bytes, Any]:
        return {}

    replace(Agreement, "later_marks", none)


def missing_is_zero() -> None:
    """The ledger is not asked where booking stands."""
    from metering.adapters.clickhouse_ledger import ClickHouseLedger

    async def none(*_: Any) -> dict[bytes, Any]:
        return {}

    async def nothing(*_: Any) -> None:
        return None

    replace(ClickHouseLedger, "marks", none)
    replace(ClickHouseLedger, "mark", nothing)


def any_stream() -> None:
    """Another stream, or an older state of it, is read on where the last one ended."""
    from metering.agreement import Agreement

    replace(Agreement, "with_stream", lambda *_: None)


def any_ledger() -> None:
    """Nobody looks whether the ledger still holds what is committed."""
    from metering.adapters.clickhouse_ledger import ClickHouseLedger

    async def plenty(*_: Any) -> tuple[int, int]:
        return 1 << 62, 1

    replace(ClickHouseLedger, "rows_between", plenty)


def only_its_own_partitions() -> None:
    """METERING_PARTITIONS says which ones there are."""
    from metering import consumer

    async def none(_: Any) -> set[int]:
        return set()

    replace(consumer, "found_partitions", none)


def never_closed() -> None:
    """An admission without an end stays open."""
    from metering.openings import Openings

    replace(Openings, "closable", lambda *_: [])


def unpriced_is_free() -> None:
    """A model without a price costs nothing."""
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

    rows = replace(Pipeline, "rows", priced)
