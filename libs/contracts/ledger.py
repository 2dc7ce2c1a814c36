"""The ledger's row: one per exchange, and one per further upstream attempt that is billed."""

from enum import StrEnum

import msgspec

from contracts.meters import Evidence


class EntryKind(StrEnum):
    """Corrections append: a reversal is the exact negative of what it reverses."""

    CHARGE = "charge"
    REVERSAL = "reversal"
    REPLACEMENT = "replacement"


class RatingStatus(StrEnum):
    """Unpriced is never free: its cost is null, it is counted and alerted."""

    RATED = "rated"
    UNPRICED = "unpriced"  # quantities are known, a price is not
    UNKNOWN = "unknown"  # quantities are not known (abandoned, or nothing could be counted)
    NOT_BILLABLE = "not_billable"  # refused by us, failed upstream, answered from the cache


class Entry(msgspec.Struct, frozen=True):
    """One row of `entries`; field order is column order (infra/migrations/clickhouse/0001).

    Ids are sixteen bytes. Times are Unix milliseconds UTC. Durations are microseconds. Quantities
    are tokens unless the meter says otherwise; None is unknown, 0 is zero. Amounts are integer
    pico-dollars, which is the unscaled value of Decimal(38, 12).
    """

    # identity
    entry_id: bytes
    event_id: bytes
    run_id: bytes
    kind: EntryKind
    requests: int
    attempt_no: int
    # provenance
    partition: int
    batch_id: bytes
    insert_by_ms: int
    incarnation: bytes
    segment_no: int
    journal_offset: int
    # time
    occurred_at_ms: int
    booked_at_ms: int
    # who
    key_id: str
    user_id: str
    custom_id: str
    tags: tuple[str, ...]
    # what
    provider: str
    setting_id: str
    setting_revision: int
    endpoint: str
    operation: str
    method: str
    path: str
    model_asked: str
    model_sent: str
    model_served: str
    is_streaming: bool
    status: int
    outcome: str
    error: str
    policy_action: str
    policy_id: str
    route_id: str
    correlation_id: str
    attempts: int
    response_id: str
    service_tier: str
    # how long
    duration_us: int | None
    first_byte_us: int | None
    request_bytes: int
    response_bytes: int
    # how many
    input_tokens: int | None
    output_tokens: int | None
    input_uncached_tokens: int | None
    cache_read_tokens: int | None
    cache_write_5m_tokens: int | None
    cache_write_1h_tokens: int | None
    audio_input_tokens: int | None
    image_input_tokens: int | None
    output_text_tokens: int | None
    reasoning_tokens: int | None
    audio_output_tokens: int | None
    rare_quantities: dict[str, int]
    # how much
    cost_picousd: int | None
    input_uncached_picousd: int | None
    cache_read_picousd: int | None
    cache_write_5m_picousd: int | None
    cache_write_1h_picousd: int | None
    audio_input_picousd: int | None
    image_input_picousd: int | None
    output_text_picousd: int | None
    reasoning_picousd: int | None
    audio_output_picousd: int | None
    rare_picousd: dict[str, int]
    # why
    evidence: Evidence
    rating_status: RatingStatus
    price_book: str
    price_source: str
    build: str
