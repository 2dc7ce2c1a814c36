"""What the gateway counts: one closed, commented list, and tallies by model and provider."""

from typing import Final

NAMES_MAX: Final = 1_000
"""Of models, which clients name; those beyond are tallied together."""


class Counters:
    """Counters of one worker since it started; label-free, so never a key id."""

    __slots__ = (
        "answered",  # a provider's answer went out whole
        "broken_for_journal",  # an answer cut because its record could not be kept
        "cache_hits",  # answers of routes that were kept
        "cache_misses",  # looked for and not there
        "cache_not_kept",  # answers that Redis could not take, or should not
        "cache_unavailable",  # Redis did not answer, or not in time
        "client_left",  # gone before the answer was complete
        "internal",  # a bug of ours
        "metering_unavailable",  # refused because nothing could be kept
        "refused",  # a known key was told no
        "requests",  # every request that reached the corridor
        "shutting_down",  # ended by a stop of the gateway
        "streams_open",  # a gauge: streams under way
        "succeeded",  # answered, and not with an error
        "timed_out",  # a clock ran out
        "unauthenticated",  # no key, or nobody's key: counted, never written
        "unknown_path",  # nothing is served there
        "unmetered",  # served although nothing could be kept (METERING_UNAVAILABLE=serve)
        "upstream_failed",  # no usable answer
    )

    answered: int
    broken_for_journal: int
    cache_hits: int
    cache_misses: int
    cache_not_kept: int
    cache_unavailable: int
    client_left: int
    internal: int
    metering_unavailable: int
    refused: int
    requests: int
    shutting_down: int
    streams_open: int
    succeeded: int
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


class Tallies:
    """Requests and failures by name, of one worker since it started."""

    __slots__ = ("by_model", "by_provider")

    def __init__(self) -> None:
        self.by_model: dict[str, list[int]] = {}
        self.by_provider: dict[str, list[int]] = {}

    def add(self, model: str | None, provider: str, *, is_success: bool) -> None:
        """One exchange that went to a provider."""
        failures = 0 if is_success else 1
        for names, name in ((self.by_provider, provider), (self.by_model, model)):
            if not name:
                continue
            found = names.get(name)
            if found is None:
                shown = name if len(names) < NAMES_MAX else "other"
                found = names.setdefault(shown, [0, 0])
            found[0] += 1
            found[1] += failures
