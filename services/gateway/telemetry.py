"""What the gateway counts: one closed, commented list."""


class Counters:
    """Counters of one worker since it started; label-free, so never a key id."""

    __slots__ = (
        "answered",  # a provider's answer went out whole
        "broken_for_journal",  # an answer cut because its record could not be kept
        "client_left",  # gone before the answer was complete
        "internal",  # a bug of ours
        "metering_unavailable",  # refused because nothing could be kept
        "refused",  # a known key was told no
        "requests",  # every request that reached the corridor
        "shutting_down",  # ended by a stop of the gateway
        "streams_open",  # a gauge: streams under way
        "timed_out",  # a clock ran out
        "unauthenticated",  # no key, or nobody's key: counted, never written
        "unknown_path",  # nothing is served there
        "unmetered",  # served although nothing could be kept (METERING_UNAVAILABLE=serve)
        "upstream_failed",  # no usable answer
    )

    answered: int
    broken_for_journal: int
    client_left: int
    internal: int
    metering_unavailable: int
    refused: int
    requests: int
    shutting_down: int
    streams_open: int
    timed_out: int
    unauthenticated: int
    unknown_path: int
    unmetered: int
    upstream_failed: int

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    def by_name(self) -> dict[str, int]:
        """All of them."""
        return {name: getattr(self, name) for name in self.__slots__}
