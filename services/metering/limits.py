"""The numbers a partition's meter works within, and what it counts while it works."""

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Milliseconds, rows and bytes; see `metering.settings` for where they come from.

    `ended_max` bounds the ended journals that a checkpoint keeps, and those that one batch ends: a
    checkpoint is read by every lane of the partition and written twice a batch.
    """

    rows_max: int = 20_000
    bytes_max: int = 8 * 1024 * 1024
    delay_ms: int = 150
    poll_ms: int = 20
    poll_max_ms: int = 160
    rest_factor: int = 10
    rest_max_ms: int = 1_000
    booking_deadline_ms: int = 15_000
    execution_max_ms: int = 10_000
    closings_max: int = 500
    close_grace_ms: int = 60_000
    keep_ended_ms: int = 7 * 86_400_000
    ended_max: int = 100
    silence_ms: int = 86_400_000
    silence_settle_ms: int = 600_000
    ledger_check_ms: int = 10_000
    lost_check_ms: int = 5_000
    look_ms: int = 500
    gap_ask_ms: int = 1_000
    bad_run_max: int = 100
    quarantined_max: int = 3


class Progress(msgspec.Struct):
    """Counters of one partition since the process began; `committed_seq` and times are newest."""

    committed_seq: int = 0
    metered_up_to_ms: int = 0
    is_caught_up: bool = False
    open_admissions: int = 0
    batches: int = 0
    rows: int = 0
    unpriced: int = 0
    abandoned: int = 0
    dead_letters: int = 0
    openings: int = 0
    recoveries: int = 0
    rebuilds: int = 0
    pending_drifts: int = 0
    copies_reversed: int = 0
    gaps: int = 0
    forks: int = 0
    damages: int = 0
    jumped_bytes: int = 0
    looked_up: int = 0
