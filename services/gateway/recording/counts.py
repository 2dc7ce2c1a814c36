"""What the journal counts, and the facts it tells about itself."""

import msgspec


class Usage:
    """Bytes of every segment in the directory, counted as we append, recounted every second."""

    __slots__ = ("bytes_max", "stored")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.stored = 0

    @property
    def is_short(self) -> bool:
        """More than half of the room is taken: what is booked has to go at once."""
        return self.stored > self.bytes_max // 2


class Counts:
    """Counters of one journal since its start. Bytes are bytes of records, framing included."""

    __slots__ = (
        "adopted",
        "appends_refused",
        "bytes_booked",
        "bytes_damaged",
        "bytes_missing",
        "bytes_shipped",
        "bytes_torn",
        "faults",
        "forks",
        "incarnations_renewed",
        "parcels_shipped",
        "publish_full",
        "publish_refused",
        "publish_unavailable",
        "resends_asked",
        "resends_own",
        "segments_quarantined",
        "short_writes",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    adopted: int
    appends_refused: int
    bytes_booked: int
    bytes_damaged: int
    bytes_missing: int
    bytes_shipped: int
    bytes_torn: int
    faults: int
    forks: int
    incarnations_renewed: int
    parcels_shipped: int
    publish_full: int
    publish_refused: int
    publish_unavailable: int
    resends_asked: int
    resends_own: int
    segments_quarantined: int
    short_writes: int


class JournalFacts(msgspec.Struct, frozen=True):
    """The state of a journal at one instant, for metrics and `/stats`.

    `events_journalled` and `bytes_journalled` count our own lanes' appends; `bytes_stored` the
    segments of the whole directory; `counts` what `Counts` counts, by name.
    `oldest_unshipped_age_s` is None when everything is shipped.
    """

    is_accepting: bool
    events_journalled: int
    bytes_journalled: int
    bytes_stored: int
    oldest_unshipped_age_s: float | None
    counts: dict[str, int]
