"""Durations as Go writes them: what `ttl`, `timeout` and `retryInterval` hold."""

import re
from typing import Final

_TEXT: Final = re.compile(r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+")
_PART: Final = re.compile(r"([0-9]*)\.?([0-9]*)([a-zµμ]+)")
_NANOSECONDS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_CHARS_MAX: Final = 256
_NS_MAX: Final = 2**63 - 1


def parse_go_duration(text: str) -> int:
    """Nanoseconds, possibly negative. Raises ValueError: there are no days, and "" is none.

    A number takes a sign, a fraction and several units (`-1.5h`, `1h30m`); a bare `0` needs none.
    """
    if text in ("0", "+0", "-0"):
        return 0
    if len(text) > _CHARS_MAX or not _TEXT.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no duration; write 300ms, 10s or 1h30m")
    total = 0
    for whole, fraction, unit in _PART.findall(text):
        scale = _NANOSECONDS[unit]
        total += int(whole or 0) * scale + int(fraction or 0) * scale // 10 ** len(fraction)
    if total > _NS_MAX:
        raise ValueError(f"{text[:40]!r} is longer than a duration can be")
    return -total if text[0] == "-" else total
