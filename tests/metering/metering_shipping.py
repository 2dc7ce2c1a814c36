"""A gateway's journal and shipper for tests: events in, parcels on the stream, healed when asked."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

import msgspec
import nats
from metering_events import make_admitted, make_completed
from nats.aio.msg import Msg

from contracts import subjects
from contracts.exchange import Event, encode
from contracts.ids import new_id
from contracts.records import ParcelHeaders, advance, frame


class Shipper:
    """One incarnation. Keeps all it wrote and sends any range of it again."""

    def __init__(self, client: nats.NATS, partition: int) -> None:
        self.incarnation = new_id()
        self.partition = partition
        self._client = client
        self._jetstream = client.jetstream(timeout=20.0)
        self.records: list[bytes] = []
        self.offsets = [0]
        self.chains = [self.incarnation]
        self.times = [0]
        self.shipped = 0
        self.resends = 0

    @property
    def name(self) -> str:
        return self.incarnation.hex()

    async def listen(self) -> None:
        """Answer requests to send again."""
        await self._client.subscribe(subjects.resend_subject(self.incarnation), cb=self._on_resend)

    async def _on_resend(self, message: Msg) -> None:
        offset = msgspec.json.decode(message.data)["offset"]
        self.resends += 1
        await self.ship(first=self.offsets.index(offset))

    def write(self, events: Iterable[Event], at_ms: int | None = None) -> None:
        for event in events:
            self.write_record(frame(encode(event)), at_ms)

    def write_record(self, record: bytes, at_ms: int | None = None) -> None:
        self.records.append(record)
        self.chains.append(advance(self.chains[-1], record[:8]))
        self.offsets.append(self.offsets[-1] + len(record))
        self.times.append(at_ms if at_ms is not None else int(time.time() * 1000))

    def parcel(self, first: int, last: int, *, is_end: bool = False) -> tuple[ParcelHeaders, bytes]:
        headers = ParcelHeaders(
            self.incarnation,
            0,
            self.offsets[first],
            last - first,
            self.chains[first],
            self.times[last],
            is_end,
        )
        return headers, b"".join(self.records[first:last])

    async def publish(self, headers: ParcelHeaders, content: bytes) -> int:
        ack = await self._jetstream.publish(
            subjects.exchanges_subject(self.partition), content, headers=headers.to_headers()
        )
        return ack.seq

    async def ship(self, first: int | None = None, *, records_per_parcel: int = 100) -> list[int]:
        """Everything from a record on (default: what was not shipped); the sequences."""
        first = self.shipped if first is None else first
        last = len(self.records)
        seqs = []
        for at in range(first, last, records_per_parcel):
            parcel = self.parcel(at, min(at + records_per_parcel, last))
            seqs.append(await self.publish(*parcel))
        self.shipped = max(self.shipped, last)
        return seqs

    async def end(self) -> int:
        """Say that nothing will follow."""
        return await self.publish(*self.parcel(len(self.records), len(self.records), is_end=True))


def exchanges(count: int, *, at_ms: int | None = None, **facts: object) -> list[Event]:
    """Admissions and their ends, one after the other."""
    events: list[Event] = []
    at_ms = int(time.time() * 1000) if at_ms is None else at_ms
    for _ in range(count):
        event_id = new_id()
        events.append(make_admitted(event_id=event_id, admitted_at_ms=at_ms))
        events.append(make_completed(event_id=event_id, admitted_at_ms=at_ms, **facts))
    return events


async def eventually(check: Callable[[], Awaitable[bool]], *, within_s: float = 60.0) -> None:
    """Until an async check answers true. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not await check():  # noqa: ASYNC110 - what is waited for is another process
            await asyncio.sleep(0.02)
