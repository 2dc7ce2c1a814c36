"""The good path of a batch: rows, CAS pending, one insert, CAS committed, and no query in between."""

from collections.abc import Callable

import msgspec

from contracts.checkpoint import Pending
from contracts.ids import to_text
from metering.holding import Holding
from metering.ledger_clock import LedgerClock
from metering.next_checkpoint import after, booked
from metering.partition_ports import PartitionPorts
from metering.ports import Closing, Manifest
from metering.putting_aside import put_aside
from metering.reading import Reading
from metering.settling import Settled


class Booking:
    """Of one partition's batches."""

    def __init__(
        self,
        ports: PartitionPorts,
        holding: Holding,
        ledger_clock: LedgerClock,
        *,
        build: str,
        new_batch_id: Callable[[int, int], bytes],
    ) -> None:
        self._ports = ports
        self._holding = holding
        self._ledger_clock = ledger_clock
        self._build = build
        self._new_batch_id = new_batch_id

    async def book(
        self, reading: Reading, settled: Settled, closed: list[bytes], closings: list[Closing]
    ) -> None:
        """One batch. Whatever is raised, recovery finds out what became of it."""
        ports, holding = self._ports, self._holding
        began_at_ms = ports.clock.monotonic_ms()
        price_book = await ports.billers.current()
        biller = await ports.billers.load(price_book)
        now_ms = self._ledger_clock.now_ms()
        batch_id = self._new_batch_id(now_ms, holding.checkpoint.newest_batch_ms)
        manifest = Manifest(ports.partition, batch_id, now_ms, price_book, self._build)
        billed = biller.rows(settled.charges, closings, manifest)
        await put_aside(ports.stream, holding.progress, reading.letters, billed)
        then = after(
            holding.checkpoint, reading, holding.openings, ports.limits, ports.clock.now_ms()
        )
        if not billed.entries:
            await holding.commit(then, reading)
            return
        await ports.ledger.insert_bodies(billed.bodies)
        block = ports.ledger.seal(billed.entries)
        pending = Pending(
            batch_id=to_text(batch_id),
            attempt=1,
            insert_by_ms=self._ledger_clock.deadline_ms(),
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
        await holding.write(msgspec.structs.replace(holding.checkpoint, pending=pending))
        await ports.ledger.insert(block, f"{pending.batch_id}:1", pending.insert_by_ms)
        # OK, at the first attempt, to the only request sent under a token never used before: done.
        await holding.commit(booked(then, pending.batch_id, block.rows), reading)
        holding.count(billed, len(closings))
        self._rest(began_at_ms)

    def _rest(self, began_at_ms: int) -> None:
        """The next batch waits for more, in proportion to what this one took."""
        limits, now_ms = self._ports.limits, self._ports.clock.monotonic_ms()
        rest_ms = (now_ms - began_at_ms) * limits.rest_factor
        self._holding.rests_until_ms = now_ms + min(rest_ms, limits.rest_max_ms)
