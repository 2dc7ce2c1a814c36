"""When a call is tried again, and where: ordered steps, each some times, within one deadline.

The clock's readings and the draws of chance are given, nothing waits here.
"""

import calendar
import re
import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

ATTEMPTS_MAX: Final = 100
"""Of one call, whatever its steps add up to: every one of them is in its event."""
EXPONENTIAL_FIRST_S: Final = 0.5
EXPONENTIAL_FACTOR: Final = 1.5
EXPONENTIAL_MAX_S: Final = 60.0
JITTER: Final = 0.5
"""An exponential pause is drawn from so much below it to so much above."""
RETRY_AFTER_MAX_S: Final = 60.0
"""Longer than this a provider is not waited for, however it asks."""
RETRY_AFTER_PATIENCE_S: Final = 5.0
"""The same while there is another step to go on to."""

RETRY_AFTER_FAR_S: Final = 86_400.0
"""Longer than this is told from this by nobody."""

_RETRY_AFTER_CHARS_MAX: Final = 64
_SECONDS: Final = re.compile(rb"[0-9]+(?:\.[0-9]+)?").fullmatch
_RETRYABLE: Final = frozenset({408, 409, 429})


class Step(NamedTuple):
    """One destination: `retries` after the first try, `timeout_s` for each of them.

    `pause_s` before a retry is ignored when `is_exponential`.
    """

    retries: int
    pause_s: float
    is_exponential: bool
    timeout_s: float


class Try(NamedTuple):
    """The next attempt: at which step, which one there (from 0), after what pause, for how long."""

    step: int
    number: int
    wait_s: float
    timeout_s: float


def is_retryable(status: int) -> bool:
    """Whether the same request may succeed later, or with another provider."""
    return status >= 500 or status in _RETRYABLE


class Schedule:
    """The attempts of one call, in order. Times are seconds of one monotonic clock.

    `draw` gives numbers from 0 to 1, exclusive.
    """

    __slots__ = ("_at", "_count", "_deadline_s", "_draw", "_number", "_steps")

    def __init__(self, steps: Sequence[Step], deadline_s: float, draw: Callable[[], float]) -> None:
        assert steps, "a call goes somewhere"
        self._steps = steps
        self._deadline_s = deadline_s
        self._draw = draw
        self._at = 0
        self._number = 0
        self._count = 1

    def first(self, now_s: float) -> Try:
        """The attempt that begins at once."""
        return self._try(now_s, 0.0)

    def next(self, now_s: float, retry_after_s: float | None = None) -> Try | None:
        """What follows an attempt that failed now; None when the call has come to its end.

        `retry_after_s` is what the provider asked for. A pause that would outlast the deadline, or
        is longer than anyone should wait, is not made: the call goes on to the next step.
        """
        if self._count >= ATTEMPTS_MAX or now_s >= self._deadline_s:
            return None
        step = self._steps[self._at]
        if self._number < step.retries:
            wait_s = max(self._pause(step), retry_after_s or 0.0)
            is_bearable = retry_after_s is None or retry_after_s <= self._patience_s()
            if is_bearable and now_s + wait_s < self._deadline_s:
                self._number += 1
                self._count += 1
                return self._try(now_s, wait_s)
        if self._at + 1 >= len(self._steps):
            return None
        self._at += 1
        self._number = 0
        self._count += 1
        return self._try(now_s, 0.0)

    def _try(self, now_s: float, wait_s: float) -> Try:
        left_s = max(self._deadline_s - now_s - wait_s, 0.0)
        timeout_s = min(self._steps[self._at].timeout_s, left_s)
        return Try(self._at, self._number, wait_s, timeout_s)

    def _patience_s(self) -> float:
        is_last = self._at + 1 >= len(self._steps)
        return RETRY_AFTER_MAX_S if is_last else RETRY_AFTER_PATIENCE_S

    def _pause(self, step: Step) -> float:
        if not step.is_exponential:
            return step.pause_s
        pause_s = min(EXPONENTIAL_FIRST_S * EXPONENTIAL_FACTOR**self._number, EXPONENTIAL_MAX_S)
        return pause_s * (1 - JITTER + 2 * JITTER * self._draw())


def retry_after_of(value: bytes | None, now_s: float | None = None) -> float | None:
    """The seconds that a `Retry-After` header asks for: a number, or a date; None for nonsense.

    Never more than RETRY_AFTER_FAR_S. `now_s` is Unix time, the clock's if none is given.
    """
    text = b"" if value is None else value.strip()
    if not text or len(value or b"") > _RETRY_AFTER_CHARS_MAX:
        # A number that long is one all the same.
        return RETRY_AFTER_FAR_S if text.isdigit() else None
    if _SECONDS(text):
        return min(float(text), RETRY_AFTER_FAR_S)
    try:
        at = parsedate_to_datetime(text.decode("ascii"))
    except (ValueError, OverflowError, TypeError):
        return None
    # Without a zone, as one of the three forms of HTTP is written, it is Greenwich's too.
    at_s = calendar.timegm(at.utctimetuple())
    return min(max(at_s - (time.time() if now_s is None else now_s), 0.0), RETRY_AFTER_FAR_S)
