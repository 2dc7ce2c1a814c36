"""What the gateway counts: one closed, commented list."""

from enum import StrEnum


class Count(StrEnum):
    """Counters of one worker since it started; label-free, so never a key id."""

    REQUESTS = "requests"  # every request that reached a handler
    ANSWERED = "answered"  # a provider's answer went out whole
    REFUSED = "refused"  # a known key was told no
    UNAUTHENTICATED = "unauthenticated"  # no key, or nobody's key: counted, never written
    UNKNOWN_PATH = "unknown_path"  # nothing is served there
    UPSTREAM_FAILED = "upstream_failed"  # no usable answer
    TIMED_OUT = "timed_out"  # a clock ran out
    CLIENT_LEFT = "client_left"  # gone before the answer was complete
    SHUTTING_DOWN = "shutting_down"  # ended by a stop of the gateway
    METERING_UNAVAILABLE = "metering_unavailable"  # refused because nothing could be kept
    UNMETERED = "unmetered"  # served although nothing could be kept (METERING_UNAVAILABLE=serve)
    BROKEN_FOR_JOURNAL = "broken_for_journal"  # an answer cut because its record could not be kept
    INTERNAL = "internal"  # a bug of ours
    STREAMS_OPEN = "streams_open"  # a gauge: streams under way
    IN_FLIGHT = "in_flight"  # a gauge: exchanges under way


class Counters:
    """Plain integers; one worker is one thread."""

    __slots__ = ("by_name",)

    def __init__(self) -> None:
        self.by_name: dict[Count, int] = dict.fromkeys(Count, 0)

    def add(self, name: Count, amount: int = 1) -> None:
        """Counts."""
        self.by_name[name] += amount
