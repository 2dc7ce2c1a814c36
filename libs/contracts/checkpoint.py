"""What a partition's meter remembers. A cache of the ledger: missing or older means rebuild."""

import msgspec


class Position(msgspec.Struct, frozen=True):
    """How far an incarnation is booked.

    `offset` is logical, `chain` the running hash there in hex (None: not known, accept the next),
    `last_time_ms` the writer's clock of the newest booked parcel, `segment_no` the segment it lies
    in. `ended_at_ms` is when its END (or declared loss) was booked, None while it may go on.
    """

    offset: int
    chain: str | None
    last_time_ms: int
    segment_no: int
    ended_at_ms: int | None = None


class Pending(msgspec.Struct, frozen=True):
    """The batch that may be on its way into the ledger: intent, written before the insert.

    `insert_by_ms` is on ClickHouse's clock. `positions` are the incarnations' positions once the
    batch is committed; `from_offsets` where each began, so that a missing message can be asked for.
    """

    batch_id: str
    attempt: int
    insert_by_ms: int
    first_seq: int
    last_seq: int
    from_offsets: dict[str, int]
    positions: dict[str, Position]
    closed: tuple[str, ...]
    rows: int
    rows_sha: str
    price_book: str
    build: str
    booked_at_ms: int


class Checkpoint(msgspec.Struct, frozen=True):
    """One KV entry per partition, JSON.

    `generation` is the stream's creation time (RFC 3339, as the server states it).
    """

    partition: int
    generation: str
    committed_seq: int
    oldest_open_seq: int | None
    incarnations: dict[str, Position]
    pending: Pending | None = None


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Checkpoint)


def encode(checkpoint: Checkpoint) -> bytes:
    """As JSON."""
    return _encoder.encode(checkpoint)


def decode(content: bytes) -> Checkpoint:
    """Raises msgspec.DecodeError / ValidationError."""
    return _decoder.decode(content)
