"""The seams of metering: stream, checkpoints, ledger and clock as Protocols, and their errors."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from contracts.checkpoint import Checkpoint
from contracts.exchange import ExchangeCompleted, RequestAdmitted
from contracts.ledger import Entry
from contracts.records import ParcelHeaders


class Message(msgspec.Struct, frozen=True):
    """One message of the partition's subject. `headers` is None when it is no parcel."""

    seq: int
    headers: ParcelHeaders | None
    content: bytes
    published_at_ms: int


class StreamState(msgspec.Struct, frozen=True):
    """The stream as its server states it; `generation` is its creation time."""

    generation: str
    first_seq: int
    last_seq: int


class DeadLetter(msgspec.Struct, frozen=True):
    """What could not be booked as it is. `identity` is the same at every try."""

    identity: str
    reason: str
    incarnation: bytes | None
    offset: int
    seq: int
    content: bytes


class Body(msgspec.Struct, frozen=True):
    """One row of `bodies`."""

    event_id: bytes
    occurred_at_ms: int
    key_id: str
    request: bytes
    response: bytes
    metadata: str
    stores_request: bool
    stores_response: bool


class Block(Protocol):
    """Rows made ready for one insert."""

    @property
    def rows(self) -> int:
        """How many."""
        ...

    @property
    def sha(self) -> str:
        """A digest of the rows: the same facts, the same digest, whatever the deadline."""
        ...


class BatchRow(msgspec.Struct, frozen=True):
    """One distinct entry of a batch as the ledger holds it, with the number of its copies."""

    entry_id: bytes
    event_id: bytes
    copies: int


class Known(msgspec.Struct, frozen=True):
    """What the ledger holds of an event, all batches but the one asked about.

    `abandoned` is its row when the event's net effect so far is that it was abandoned.
    """

    abandoned: Entry | None


class Mark(msgspec.Struct, frozen=True):
    """The farthest place of an incarnation that any row names, its newest batch's time, its rows."""

    offset: int
    segment_no: int
    insert_by_ms: int
    batch_ms: int = 0
    rows: int = 0


class Chargeable(msgspec.Struct, frozen=True):
    """A finished exchange and where its record ends.

    `reverses`: the ledger holds it as abandoned; that row is taken back beside the charge.
    """

    event: ExchangeCompleted
    incarnation: bytes
    segment_no: int
    offset: int
    reverses: Entry | None = None


class Closing(msgspec.Struct, frozen=True):
    """An admission that ends as abandoned, and where its record ends."""

    admitted: RequestAdmitted
    incarnation: bytes
    segment_no: int
    offset: int


class Manifest(msgspec.Struct, frozen=True):
    """What every row of a batch shares."""

    partition: int
    batch_id: bytes
    booked_at_ms: int
    price_book: str
    build: str


class Billed(msgspec.Struct, frozen=True):
    """Rows of a batch, bodies to keep, and what could not be rated (booked as unknown)."""

    entries: list[Entry]
    bodies: list[Body]
    unrated: list[tuple[Chargeable, str]]
    unpriced: int


class Unavailable(Exception):
    """The store did not answer, or its answer is unknown: the effect may or may not be there."""


class Superseded(Exception):
    """The checkpoint is not what this write rests on: someone else owns the partition."""


class Refused(Exception):
    """Metering must not go on; the sentence says what an operator has to do."""


class Stream(Protocol):
    """One partition of the parcel stream."""

    async def state(self) -> StreamState:
        """Raises Unavailable."""
        ...

    async def read(self, first_seq: int, bytes_max: int) -> list[Message]:
        """The partition's messages from `first_seq` on, in order, none left out.

        Empty: there is none (yet). Returns at least one message when there is one, and stops near
        `bytes_max`. Raises Unavailable; never returns what follows a break.
        """
        ...

    async def ask_again(self, incarnation: bytes, offset: int) -> None:
        """Ask the incarnation's shipper to send again from `offset`. Best effort, never raises."""
        ...

    async def republish(self, message: Message) -> None:
        """Send a parcel that lies behind the reader once more. Raises Unavailable."""
        ...

    async def dead_letter(self, letter: DeadLetter) -> None:
        """Keep it, once per identity. Raises Unavailable."""
        ...


class Checkpoints(Protocol):
    """One partition's checkpoint, under compare-and-set."""

    async def read(self) -> tuple[Checkpoint | None, int]:
        """The checkpoint and its revision; (None, 0) when there never was one.

        A deleted checkpoint is (None, revision of the deletion). Raises Unavailable.
        """
        ...

    async def write(self, checkpoint: Checkpoint, revision: int) -> int:
        """Replace what stands at `revision`; the new revision.

        Raises Superseded when something else stands there, Unavailable when the effect is unknown.
        """
        ...

    async def lost(self) -> frozenset[bytes]:
        """The incarnations whose remainder an operator declared lost. Raises Unavailable."""
        ...

    async def created_at_ms(self) -> int:
        """When the store itself was created, on the stream server's clock. Raises Unavailable."""
        ...


class Ledger(Protocol):
    """The table of entries, as far as one partition writes and proves it."""

    async def now_ms(self) -> int:
        """The ledger's own clock. Raises Unavailable."""
        ...

    def seal(self, entries: Sequence[Entry]) -> Block:
        """Rows as one block; pure."""
        ...

    async def insert(self, block: Block, token: str, insert_by_ms: int) -> None:
        """One wire request, one block; returns only when the server said OK to that one request.

        Every row carries `insert_by_ms`, past which the server refuses it by its own clock. Raises Unavailable for everything else, a refusal for lateness included.
        """
        ...

    async def insert_bodies(self, bodies: Sequence[Body]) -> None:
        """Idempotent. Raises Unavailable."""
        ...

    async def batch(self, batch_id: str) -> list[BatchRow]:
        """The distinct entries of a batch. Raises Unavailable."""
        ...

    async def rows_between(self, first_ms: int, last_ms: int) -> tuple[int, int]:
        """How many rows the partition has of batches with ids of these times and between them, and
        how many of them have the last one. Raises Unavailable.
        """
        ...

    async def known(self, event_ids: Sequence[bytes], excluding: str) -> dict[bytes, Known]:
        """What is booked of these events by other batches. Raises Unavailable."""
        ...

    async def marks(self, since_ms: int, excluding: str | None) -> dict[bytes, Mark]:
        """Farthest places by incarnation, over the partition's rows of batches with a later id.

        `since_ms` 0 means all rows. `excluding` leaves one batch out. Raises Unavailable.
        """
        ...

    async def mark(self, incarnation: bytes) -> Mark | None:
        """The farthest place of one incarnation in the partition. Raises Unavailable."""
        ...


class Biller(Protocol):
    """Turns facts into rows; the same facts and the same manifest give the same rows."""

    def rows(
        self, charges: Sequence[Chargeable], closings: Sequence[Closing], manifest: Manifest
    ) -> Billed:
        """Never raises for what an event holds."""
        ...


class Billers(Protocol):
    """The biller of a price book version."""

    async def current(self) -> str:
        """The version new batches use. Raises Unavailable, Refused when there is none."""
        ...

    async def load(self, price_book: str) -> Biller:
        """Raises Unavailable, Refused when the version is not to be had."""
        ...


class Clock(Protocol):
    """Time of this process."""

    def now_ms(self) -> int:
        """Unix milliseconds UTC."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
