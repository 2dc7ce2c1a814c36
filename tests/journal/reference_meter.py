"""A small meter that books by the rules and by nothing else; what tests compare the journal with."""

import asyncio
import json
from dataclasses import dataclass, field

import nats
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from contracts.checkpoint import Checkpoint, Position, encode
from contracts.records import ParcelHeaders, records
from contracts.subjects import (
    CHECKPOINTS_BUCKET,
    EXCHANGES_STREAM,
    checkpoint_key,
    resend_subject,
)

_LONGEST_S = 60
"""A disk that stalls holds up every request."""


@dataclass
class Booked:
    """What is booked of one incarnation."""

    partition: int
    offset: int = 0
    chain: bytes = b""
    last_time_ms: int = 0
    ended: bool = False
    payloads: list[bytes] = field(default_factory=list)


class ReferenceMeter:
    """Reads the stream by sequence, books whole parcels, writes checkpoints, counts what it saw.

    `checks_hash` and `checks_gap` switch a rule off each, to show that tests have power; `asks`
    says whether it asks for what a gap misses.
    """

    def __init__(self, url: str, *, asks: bool = True) -> None:
        self.url = url
        self.checks_gap = True
        self.checks_hash = True
        self.asks = asks
        self.books: dict[str, Booked] = {}
        self.next_seq = 1
        self.gaps = self.forks = self.repeats = self.ends = 0
        self.parcels: list[tuple[ParcelHeaders, int]] = []
        self._client: Client | None = None

    async def connect(self) -> Client:
        """The meter's own connection."""
        if self._client is None or self._client.is_closed:
            self._client = await nats.connect(
                self.url, allow_reconnect=False, connect_timeout=_LONGEST_S
            )
        return self._client

    async def stream(self) -> JetStreamContext:
        """Requests over the meter's own connection."""
        return (await self.connect()).jetstream(timeout=_LONGEST_S)

    async def close(self) -> None:
        """Close it."""
        if self._client is not None and not self._client.is_closed:
            await self._client.close()
        self._client = None

    async def turn(self) -> int:
        """Books what the stream holds now and writes the checkpoints. Returns parcels read."""
        client = await self.connect()
        stream = await self.stream()
        state = (await stream.stream_info(EXCHANGES_STREAM)).state
        self.next_seq = max(self.next_seq, state.first_seq)
        read = 0
        while self.next_seq <= state.last_seq:
            try:
                message = await stream.get_msg(EXCHANGES_STREAM, seq=self.next_seq)
            except NotFoundError:
                self.next_seq += 1
                continue
            self.next_seq += 1
            read += 1
            self.take(message)
            if self.asks:
                await self._ask(client)
        if read:
            await self.write_checkpoints()
        return read

    def take(self, message: RawStreamMsg) -> None:
        """Books one parcel by the rules."""
        assert message.headers is not None
        head = ParcelHeaders.from_headers(message.headers)
        self.parcels.append((head, len(message.data or b"")))
        key = head.incarnation.hex()
        partition = int(message.subject.rsplit(".", 1)[1])
        book = self.books.setdefault(key, Booked(partition, chain=head.incarnation))
        assert book.partition == partition
        if head.offset > book.offset and self.checks_gap:
            self.gaps += 1
            self._behind = key
            return
        if head.is_end:
            if head.offset == book.offset and head.hash_before == book.chain:
                self.ends += not book.ended
                book.ended = True
            else:
                self.repeats += 1
            return
        fresh = []
        chain = head.hash_before
        at = head.offset
        found = list(records(message.data or b"", head.offset, head.hash_before))
        assert len(found) == head.count
        is_fork = at == book.offset and chain != book.chain
        for record in found:
            if record.end == book.offset and record.chain != book.chain:
                is_fork = True
            if record.end > book.offset:
                fresh.append(record)
        if is_fork and self.checks_hash:
            self.forks += 1
            return
        if not fresh:
            self.repeats += 1
            return
        book.payloads.extend(record.payload for record in fresh)
        book.offset, book.chain = fresh[-1].end, fresh[-1].chain
        book.last_time_ms = head.last_time_ms

    _behind: str | None = None

    async def _ask(self, client: Client) -> None:
        if self._behind is not None:
            key, self._behind = self._behind, None
            content = json.dumps({"offset": self.books[key].offset}).encode()
            await client.publish(resend_subject(bytes.fromhex(key)), content)
            await client.flush(_LONGEST_S)

    async def write_checkpoints(self) -> None:
        """One entry a partition."""
        bucket = await (await self.stream()).key_value(CHECKPOINTS_BUCKET)
        for partition in {book.partition for book in self.books.values()}:
            positions = {
                key: Position(
                    book.offset,
                    book.chain.hex(),
                    book.last_time_ms,
                    0,
                    1 if book.ended else None,
                )
                for key, book in self.books.items()
                # One that nothing is booked of is not named.
                if book.partition == partition and book.offset > 0
            }
            checkpoint = Checkpoint(partition, "", self.next_seq - 1, None, positions)
            await bucket.put(checkpoint_key(partition), encode(checkpoint))

    async def forget(self) -> None:
        """Stream and ledger are put back to before everything; the checkpoint names nobody."""
        stream = await self.stream()
        await stream.purge_stream(EXCHANGES_STREAM)
        bucket = await stream.key_value(CHECKPOINTS_BUCKET)
        for partition in {book.partition for book in self.books.values()}:
            checkpoint = Checkpoint(partition, "", self.next_seq - 1, None, {})
            await bucket.put(checkpoint_key(partition), encode(checkpoint))
        self.books.clear()

    def payloads(self) -> list[bytes]:
        """Everything booked, incarnation by incarnation."""
        return [payload for book in self.books.values() for payload in book.payloads]

    async def run_until(self, condition, timeout_s: float = 60.0) -> None:  # type: ignore[no-untyped-def]
        """Turns until the condition holds."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                await self.turn()
                await asyncio.sleep(0.02)
