"""What a partition's meter remembers. A cache of the ledger: missing or older means rebuild."""

import msgspec


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far an incarnation is booked.

    `offset` is logical, `chain` the running hash there in hex (None: not known, the parcel that
    goes on from `offset` says it), `last_time_ms` the writer's clock of the newest booked parcel,
    `segment_no` the segment it lies in. `ended_at_ms` is when its END (or declared loss) was
    booked, None while it may go on. Up to `verify_to` the ledger may hold rows this checkpoint
    knows nothing of: events below it are looked up before they are booked. A position made anew
    from the ledger has the ledger's mark as `verify_to`, and as `offset` the lowest place that may
    hold what is not booked.
    """

    offset: int
    chain: str | None
    last_time_ms: int
    segment_no: int
    ended_at_ms: int | None = None
    verify_to: int = 0


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
    `reread_to_seq` is where open admissions may lie behind the committed sequence, because their
    parcel was lost and sent again; 0 when none does.
    `newest_batch_ms` is the time in the newest batch id that this checkpoint knows of: whatever is
    booked on top of it has an id of a later time, by whichever clock. 0: not known.
    `proved_batch_ms` is the time in the id of a batch that the ledger was seen to hold, with all
    before it, and `rows_since_proved` counts the rows of that batch and of the later ones: a ledger
    that holds fewer is an older state of itself. 0: nothing was looked at yet.
    """

    partition: int
    generation: str
    committed_seq: int
    oldest_open_seq: int | None
    incarnations: dict[str, Position]
    pending: Pending | None = None
    reread_to_seq: int = 0
    newest_batch_ms: int = 0
    proved_batch_ms: int = 0
    rows_since_proved: int = 0


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Checkpoint)


def encode(checkpoint: Checkpoint) -> bytes:
    """As JSON."""
    return _encoder.encode(checkpoint)


def decode(content: bytes) -> Checkpoint:
    """Raises msgspec.DecodeError / ValidationError."""
    return _decoder.decode(content)
