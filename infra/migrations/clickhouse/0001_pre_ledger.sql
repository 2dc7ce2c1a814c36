-- The ledger. Non-blocking: creates only what is not there.
--
-- One row per exchange and one per further billed attempt; append-only, signed: corrections are
-- rows too, so every additive column is summed, never counted. Partitioned by month of event time
-- only: a retried batch must cut the same blocks at every try, so nothing of the booking time may
-- decide where a row lies.
-- Sort key: reports ask for a key and a time range first; event_id is time-ordered and makes the
-- order total. A batch's rows are found by batch_id, a UUIDv7, whose minmax index prunes every
-- older part.
-- insert_by is a deadline the server itself checks: an insert that wakes too late is refused.
CREATE TABLE IF NOT EXISTS entries
(
    entry_id UUID CODEC(ZSTD(1)),
    event_id UUID CODEC(ZSTD(1)),
    run_id UUID CODEC(ZSTD(1)),
    kind Enum8('charge' = 1, 'reversal' = 2, 'replacement' = 3),
    requests Int8,
    attempt_no UInt8,

    partition UInt16,
    batch_id UUID CODEC(ZSTD(1)),
    insert_by DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    incarnation UUID CODEC(ZSTD(1)),
    segment_no UInt32 CODEC(T64, ZSTD(1)),
    journal_offset UInt64 CODEC(DoubleDelta, ZSTD(1)),

    occurred_at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    booked_at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),

    key_id LowCardinality(String),
    user_id String CODEC(ZSTD(1)),
    custom_id String CODEC(ZSTD(1)),
    tags Array(LowCardinality(String)),

    provider LowCardinality(String),
    setting_id LowCardinality(String),
    setting_revision UInt64 CODEC(T64, ZSTD(1)),
    endpoint LowCardinality(String),
    operation LowCardinality(String),
    method LowCardinality(String),
    path LowCardinality(String),
    model_asked LowCardinality(String),
    model_sent LowCardinality(String),
    model_served LowCardinality(String),
    is_streaming Bool,
    status UInt16,
    outcome LowCardinality(String),
    error LowCardinality(String),
    policy_action LowCardinality(String),
    policy_id LowCardinality(String),
    route_id LowCardinality(String),
    correlation_id String CODEC(ZSTD(1)),
    attempts UInt8,
    response_id String CODEC(ZSTD(1)),
    service_tier LowCardinality(String),

    duration_us Nullable(UInt64) CODEC(T64, ZSTD(1)),
    first_byte_us Nullable(UInt64) CODEC(T64, ZSTD(1)),
    request_bytes UInt64 CODEC(T64, ZSTD(1)),
    response_bytes UInt64 CODEC(T64, ZSTD(1)),

    input_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    output_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    input_uncached_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    cache_read_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    cache_write_5m_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    cache_write_1h_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    audio_input_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    image_input_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    output_text_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    reasoning_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    audio_output_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    rare_quantities Map(LowCardinality(String), Int64),

    cost_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    input_uncached_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    cache_read_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    cache_write_5m_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    cache_write_1h_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    audio_input_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    image_input_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    output_text_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    reasoning_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    audio_output_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    rare_usd Map(LowCardinality(String), Decimal(38, 12)),

    evidence Enum8('none' = 0, 'estimated' = 1, 'counted' = 2, 'reported' = 3),
    rating_status Enum8('rated' = 1, 'unpriced' = 2, 'unknown' = 3, 'not_billable' = 4),
    price_book LowCardinality(String),
    price_source LowCardinality(String),
    build LowCardinality(String),

    CONSTRAINT in_time CHECK insert_by > now64(3),

    INDEX batch_id_range batch_id TYPE minmax GRANULARITY 1,
    INDEX event_id_range event_id TYPE minmax GRANULARITY 1,
    INDEX occurred_at_range occurred_at TYPE minmax GRANULARITY 1,
    INDEX custom_id_bloom custom_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX tags_bloom tags TYPE bloom_filter(0.01) GRANULARITY 4,

    -- Spend by key and hour: top keys over a month must not read every row. A report that asks for
    -- whole hours, keys and visible runs is answered from here.
    PROJECTION by_key_hour
    (
        SELECT toStartOfHour(occurred_at), run_id, key_id,
               sum(requests), sum(cost_usd), sum(input_tokens), sum(output_tokens),
               sumIf(requests, rating_status = 'unpriced'),
               sumIf(requests, rating_status = 'unknown')
        GROUP BY toStartOfHour(occurred_at), run_id, key_id
    )
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (key_id, occurred_at, event_id, entry_id)
SETTINGS non_replicated_deduplication_window = 100000,
         fsync_after_insert = 1,
         fsync_part_directory = 1,
         max_suspicious_broken_parts = 1000000;

-- Bodies are not money: kept apart, by day, with a TTL. Written before the entry, replaced on a
-- retry, so a batch may insert them as often as it likes.
CREATE TABLE IF NOT EXISTS bodies
(
    event_id UUID,
    occurred_at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    key_id LowCardinality(String),
    request String CODEC(ZSTD(3)),
    response String CODEC(ZSTD(3)),
    metadata String CODEC(ZSTD(3)),
    stores_request Bool,
    stores_response Bool
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(occurred_at)
ORDER BY event_id
TTL toDateTime(occurred_at) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1;
