"""Medians over rounds, of the rounds that others left alone."""

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

import msgspec

from bench.rows import Measured, Row

FOREIGN_SHARE_MAX: Final = 0.15
CLEAN_ROUNDS_MIN: Final = 2


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over the rounds kept of one target and mode. `is_noisy`: too few clean rounds."""

    target: str
    mode: str
    rounds_kept: int
    rounds: int
    is_noisy: bool
    full_core_per_s: float
    answers_per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    pss_mb: float
    peak_mb: float | None
    foreign_share: float
    errors: int
    parts_cpu_us: dict[str, float]
    booked_after_s: float | None
    ledger_difference: int | None


Summaries = dict[tuple[str, str], Summary]


def kept(rows: Sequence[Measured]) -> tuple[list[Measured], bool]:
    """The rounds to count, and whether they are noisy.

    Those that others disturbed are dropped where enough are left; otherwise all are kept.
    """
    clean = [row for row in rows if row.foreign_share <= FOREIGN_SHARE_MAX]
    if len(clean) >= CLEAN_ROUNDS_MIN or len(clean) == len(rows):
        return clean, False
    return list(rows), True


def summarise(rows: Iterable[Row]) -> Summaries:
    """By target and mode, in the order of their first row."""
    grouped: dict[tuple[str, str], list[Measured]] = {}
    for row in rows:
        if isinstance(row, Measured):
            grouped.setdefault((row.target, row.mode), []).append(row)
    return {key: _summary(of) for key, of in grouped.items()}


def _summary(rows: Sequence[Measured]) -> Summary:
    counted, is_noisy = kept(rows)
    cpu_us = median(row.cpu_us for row in counted)
    peaks = [row.peak_mb for row in rows if row.peak_mb is not None]
    waits = [row.booked_after_s for row in counted if row.booked_after_s is not None]
    differences = [row.booked - row.answered for row in rows if row.booked is not None]
    return Summary(
        target=rows[0].target,
        mode=rows[0].mode,
        rounds_kept=len(counted),
        rounds=len(rows),
        is_noisy=is_noisy,
        full_core_per_s=1e6 / cpu_us if cpu_us else math.nan,
        answers_per_s=median(row.answers_per_s for row in counted),
        cpu_us=cpu_us,
        p50_ms=median(row.p50_ms for row in counted),
        p99_ms=median(row.p99_ms for row in counted),
        pss_mb=max(row.pss_mb for row in rows),
        peak_mb=max(peaks, default=None),
        foreign_share=max(row.foreign_share for row in counted),
        # Of all rounds: an error is no noise.
        errors=sum(row.errors for row in rows),
        parts_cpu_us={
            name: median(row.parts_cpu_us.get(name, 0.0) for row in counted)
            for name in counted[0].parts_cpu_us
        },
        booked_after_s=median(waits) if waits else None,
        ledger_difference=sum(abs(one) for one in differences) if differences else None,
    )
