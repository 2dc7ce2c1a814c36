"""What may be asked: frozen values between the HTTP side and the queries."""

from enum import StrEnum

import msgspec


class Window(msgspec.Struct, frozen=True):
    """Half-open, Unix seconds UTC: `start_s` is in, `end_s` is not."""

    start_s: int
    end_s: int

    @property
    def start_ms(self) -> int:
        """In milliseconds, the ledger's resolution."""
        return self.start_s * 1000

    @property
    def end_ms(self) -> int:
        """In milliseconds, the ledger's resolution."""
        return self.end_s * 1000

    @property
    def is_whole_hours(self) -> bool:
        """Whether both bounds are the start of an hour."""
        return self.start_s % 3600 == 0 == self.end_s % 3600


class Filters(msgspec.Struct, frozen=True):
    """Whose entries. Empty means any; ids match any of the list, tags must all be there."""

    key_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    custom_ids: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()


class Dimension(StrEnum):
    """What a time series may be grouped by; the values are the wire's `filters`."""

    MODEL = "model"
    KEY_ID = "keyId"
    CUSTOM_ID = "customId"
    USER_ID = "userId"


class TimeseriesQuestion(msgspec.Struct, frozen=True):
    """Sums by bucket of `increment_s` seconds, aligned to the window's start."""

    window: Window
    increment_s: int
    filters: Filters
    group_by: tuple[Dimension, ...]

    @property
    def buckets(self) -> int:
        """start, start + increment, … up to and including the end."""
        return (self.window.end_s - self.window.start_s) // self.increment_s + 1


class TopKeysQuestion(msgspec.Struct, frozen=True):
    """Keys by spend. `limit` None: all of them. `name` and `revoked` are the configured key's."""

    window: Window
    filters: Filters
    name: str
    revoked: bool | None
    is_descending: bool
    limit: int | None
    offset: int


class EventOrder(StrEnum):
    """How events are sorted; ties go by event id, so that pages never overlap."""

    NEWEST = "newest"
    OLDEST = "oldest"
    DEAREST = "dearest"
    CHEAPEST = "cheapest"


class EventsQuestion(msgspec.Struct, frozen=True):
    """Single exchanges. `window` None is all time; `status` None is any; `limit` None is all."""

    window: Window | None
    filters: Filters
    policy_ids: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    status: int | None = None
    order: EventOrder = EventOrder.NEWEST
    limit: int | None = None
    offset: int = 0
