"""One incarnation as its shipper sees it: segments under our lock and how far the records reach."""

from collections import deque
from collections.abc import Callable

import msgspec

from gateway.recording.segments import Segment


class Stop(msgspec.Struct, frozen=True):
    """Why nothing can be shipped from `offset` on.

    `torn`: the last write of a process or machine that died in it; there is no event in it.
    `damaged`: a bad record with bytes behind it. `missing`: a segment that should be here is not.
    `forked`: what is booked is not what is here, at some place after `offset`.
    """

    offset: int
    kind: str
    reason: str


class Incarnation:
    """Segments of one incarnation, oldest first.

    Written by a lane, or by one that died and was adopted. `end` is the logical end of what may be
    shipped. `chain` is the running hash at `end` and `count` the records before it, known only to
    the process that appended them; None for the adopted. Nothing is appended once `is_sealed`.
    `booked`, `booked_chain` and `ended_at` (monotonic) are what the checkpoint last said.
    """

    __slots__ = (
        "booked",
        "booked_chain",
        "chain",
        "count",
        "end",
        "ended_at",
        "id",
        "is_sealed",
        "last_time_ms",
        "partition",
        "renew",
        "segments",
        "stop",
        "unshipped_since",
        "wake",
    )

    def __init__(self, incarnation: bytes, partition: int) -> None:
        self.id = incarnation
        self.partition = partition
        self.segments: deque[Segment] = deque()
        self.end = 0
        self.booked = 0
        self.booked_chain: bytes | None = None
        self.ended_at: float | None = None
        self.chain: bytes | None = None
        self.count: int | None = None
        self.last_time_ms = 0
        self.is_sealed = False
        self.stop: Stop | None = None
        self.unshipped_since: float | None = None
        """Monotonic seconds: nothing unshipped is older. None when nothing is unshipped."""
        self.wake: Callable[[], None] | None = None
        """Set by a shipper with nothing to do; called once at the next append, and when sealed."""
        self.renew: Callable[[str], None] = _nothing
        """Asks the writer to go on in a new incarnation; does nothing for the adopted."""

    def seal(self) -> None:
        """Nothing more will be appended."""
        self.is_sealed = True
        self.call_wake()

    def call_wake(self) -> None:
        """Wake the shipper, once."""
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()

    def segment_at(self, offset: int) -> Segment | None:
        """The segment that holds the byte at `offset`; None when no segment here does."""
        for segment in reversed(self.segments):
            if segment.base <= offset:
                return segment if offset < segment.end else None
        return None

    def close(self) -> None:
        """Give every lock up; files that are left wait for whoever adopts them."""
        for segment in self.segments:
            segment.close()
        self.segments.clear()


def _nothing(reason: str) -> None:
    del reason
