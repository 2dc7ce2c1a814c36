"""The gateway without one of its protections: each function takes one away, in this process."""

import contextlib
import time
from types import SimpleNamespace
from typing import Any, Final

from drill.interpreters import replace

_FRESH_S: Final = 0.5


def no_admission() -> None:
    """A request is dispatched without a word in the journal."""
    from gateway.recording.record import Exchange

    def admit(self: Any, *_: Any) -> None:
        self.is_admitted = True

    replace(Exchange, "admit", admit)


def no_adoption() -> None:
    """Nobody looks for the journals of the dead."""
    from gateway.recording import journal

    replace(journal, "adopt", lambda *_: [])


def no_lock() -> None:
    """A journal looks the same whether its owner lives or not."""
    import fcntl

    from gateway.recording import segments

    replace(
        segments,
        "fcntl",
        SimpleNamespace(flock=lambda *_: None, LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB),
    )


def nothing_sent_again() -> None:
    """A parcel goes out once, whatever becomes of it."""
    from gateway.ports import BusFull, BusUnavailable
    from gateway.recording.booking import Booking
    from gateway.recording.pump import Pump
    from gateway.recording.shipper import Shipper

    async def send(self: Any, parcel: Any) -> bool:
        try:
            await self._bus.publish(self._subject, parcel.content, parcel.headers.to_headers())
        except BusFull:
            self._counts.publish_full += 1
        except BusUnavailable:
            self._counts.publish_unavailable += 1
        return True

    async def heal(_: Any) -> None:
        return

    replace(Pump, "_send", send)
    replace(Booking, "_heal", heal)
    replace(Shipper, "ask", lambda *_: None)


def shipped_is_booked() -> None:
    """The broker's acknowledgement counts as booked: the file may go."""
    from gateway.recording.booking import Booking

    async def read_position(self: Any) -> bool:
        if not await read(self):
            return False
        if self._pump.next > self.source.booked:
            self.source.booked, self.source.booked_chain = self._pump.next, None
        return True

    read = replace(Booking, "read_position", read_position)


def served_unrecorded() -> None:
    """A request that the journal has no room for is served."""
    from gateway.ports import JournalUnavailable
    from gateway.recording.journal import Journal
    from gateway.recording.lane import Lane

    def write(self: Any, payload: bytes) -> None:
        with contextlib.suppress(JournalUnavailable):
            append(self, payload)

    append = replace(Lane, "append", write)
    replace(Journal, "is_accepting", True)


def no_database_no_keys() -> None:
    """Keys have to be as fresh as the database can make them."""
    from gateway.configuration.snapshot import EMPTY
    from gateway.configuration.watcher import Configuration

    async def note(self: Any) -> None:
        await refresh(self)
        self.read_at = time.monotonic()

    def fresh(self: Any) -> Any:
        return self.held if time.monotonic() - self.read_at < _FRESH_S else EMPTY

    def hold(self: Any, snapshot: Any) -> None:
        self.held, self.read_at = snapshot, time.monotonic()

    refresh = replace(Configuration, "refresh", note)
    Configuration.snapshot = property(fresh, hold)  # type: ignore[assignment]


def leaving_is_no_end() -> None:
    """Nothing is written down when a client leaves in mid-stream."""
    from gateway.recording.record import Exchange

    def end(self: Any, outcome: str, *arguments: Any, **facts: Any) -> None:
        if outcome != "client_left":
            complete(self, outcome, *arguments, **facts)

    complete = replace(Exchange, "complete", end)
