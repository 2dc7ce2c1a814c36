"""Whether ratios fell since earlier rows: Tollway against a peer of the same run, then and now.

Only ratios within a run are compared, of CPU time an answer, so that a slower machine is no slower
Tollway.
"""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final, Literal

import msgspec

from bench.floors import OWN
from bench.rows import Measured, Row
from bench.summary import kept

PEERS: Final = ("nginx", "tensorzero")
CHANGE_MIN: Final = 0.10
"""Less than this is nothing, whatever the rounds say."""

Verdict = Literal["REGRESSED", "unclear", "same", "better"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Tollway's work per core as a multiple of the peer's, in one mode.

    `change` is the share by which it rose. `spread` is the larger of the two runs' half widths over
    its rounds, as a share of the median, None where no run has two rounds.
    """

    mode: str
    peer: str
    times_then: float
    times_now: float
    change: float
    spread: float | None
    verdict: Verdict
    versions: tuple[str, str]


def changes(then: Iterable[Row], now: Iterable[Row]) -> list[Change]:
    """Of every mode and peer that both have, in the order of the newer rows."""
    old, new = _by_mode_and_target(then), _by_mode_and_target(now)
    modes = list(dict.fromkeys(mode for mode, _ in new))
    found = []
    for mode in modes:
        for peer in PEERS:
            keys = ((mode, OWN), (mode, peer))
            if all(key in rows for key in keys for rows in (old, new)):
                found.append(
                    _change(mode, peer, *([rows[key] for key in keys] for rows in (old, new)))
                )
    return found


def has_regressed(found: Iterable[Change]) -> bool:
    """Whether any ratio fell beyond noise."""
    return any(change.verdict == "REGRESSED" for change in found)


def _by_mode_and_target(rows: Iterable[Row]) -> dict[tuple[str, str], list[Measured]]:
    grouped: dict[tuple[str, str], list[Measured]] = {}
    for row in rows:
        if isinstance(row, Measured) and row.cpu_us:
            grouped.setdefault((row.mode, row.target), []).append(row)
    return {key: kept(of)[0] for key, of in grouped.items()}


def _change(
    mode: str, peer: str, old: Sequence[Sequence[Measured]], new: Sequence[Sequence[Measured]]
) -> Change:
    times_then, times_now = _times(*old), _times(*new)
    spreads = [spread for spread in (_spread(*old), _spread(*new)) if spread is not None]
    change = times_now / times_then - 1
    spread = max(spreads, default=None)
    return Change(
        mode=mode,
        peer=peer,
        times_then=times_then,
        times_now=times_now,
        change=change,
        spread=spread,
        verdict=_verdict(change, spread),
        versions=(old[1][-1].version, new[1][-1].version),
    )


def _verdict(change: float, spread: float | None) -> Verdict:
    if abs(change) <= CHANGE_MIN:
        return "same"
    if spread is not None and abs(change) <= spread:
        return "unclear"
    return "better" if change > 0 else "REGRESSED"


def _times(own: Sequence[Measured], others: Sequence[Measured]) -> float:
    return median(row.cpu_us for row in others) / median(row.cpu_us for row in own)


def _spread(own: Sequence[Measured], others: Sequence[Measured]) -> float | None:
    """Half the width of the ratio over the rounds that have both."""
    cpu_us = {row.round_no: row.cpu_us for row in others}
    ratios = [cpu_us[row.round_no] / row.cpu_us for row in own if row.round_no in cpu_us]
    if len(ratios) < 2:
        return None
    return (max(ratios) - min(ratios)) / 2 / median(ratios)
