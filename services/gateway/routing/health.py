"""Which provider settings rest: those that failed lately. In one worker's memory, forgotten with it."""

import time
from collections.abc import Callable
from typing import Final

import msgspec

REST_FIRST_S: Final = 1.0
REST_FACTOR: Final = 2.0
REST_MAX_S: Final = 60.0
REST_DENIED_S: Final = 30.0
"""After a 401 or 403: a credential that was refused is not mended in a second."""
SETTINGS_MAX: Final = 10_000

_DENIED: Final = frozenset({401, 403})


class _Record(msgspec.Struct):
    until_s: float = 0.0
    failures: int = 0


class Health:
    """What settings failed, and how many calls each has under way.

    A setting rests for a second after its first failure, longer after each that follows a rest,
    until one of its calls succeeds. Failures during a rest are of calls that began before it.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._records: dict[str, _Record] = {}
        self._under_way: dict[str, int] = {}

    @property
    def is_clear(self) -> bool:
        """Whether nobody has failed lately."""
        return not self._records

    def failed(
        self, setting_id: str, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        """A call got no answer (status None), or one that speaks against the setting."""
        now_s = self._now_s()
        record = self._records.get(setting_id)
        if record is None:
            if len(self._records) >= SETTINGS_MAX:
                self._records.clear()
            record = self._records[setting_id] = _Record()
        if now_s < record.until_s:
            return
        rest_s = REST_FIRST_S * REST_FACTOR ** min(record.failures, 16)
        if status in _DENIED:
            rest_s = max(rest_s, REST_DENIED_S)
        if retry_after_s is not None:
            rest_s = max(rest_s, retry_after_s)
        record.failures += 1
        record.until_s = now_s + min(rest_s, REST_MAX_S)

    def succeeded(self, setting_id: str) -> None:
        """A call was answered: the setting is as good as new."""
        self._records.pop(setting_id, None)

    def rests_for_s(self, setting_id: str) -> float:
        """How much longer; 0 when it does not."""
        record = self._records.get(setting_id)
        return 0.0 if record is None else max(record.until_s - self._now_s(), 0.0)

    def begin(self, setting_id: str) -> None:
        """A call that had a choice went there."""
        self._under_way[setting_id] = self._under_way.get(setting_id, 0) + 1

    def end(self, setting_id: str) -> None:
        """The call is over."""
        left = self._under_way[setting_id] - 1
        if left:
            self._under_way[setting_id] = left
        else:
            del self._under_way[setting_id]

    def under_way(self, setting_id: str) -> int:
        """Calls that had a choice, went there and are not over."""
        return self._under_way.get(setting_id, 0)


def speaks_against(status: int) -> bool:
    """Whether an answer says that the setting cannot serve now: its credential, quota or provider."""
    return status >= 500 or status == 429 or status in _DENIED
