"""What the journal's tests share: quick settings, events, a journal with a bus."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from journal.reference_meter import ReferenceMeter
from support.stores import NatsServer

from contracts.exchange import Caller, CallFacts, RequestAdmitted, encode
from contracts.ids import new_id
from gateway.adapters.nats_bus import NatsBus
from gateway.recording import Journal, JournalSettings
from runtime.settings import Duration

PARTITIONS = 4

_QUICK = JournalSettings(
    metering_partitions=PARTITIONS,
    journal_lanes=2,
    journal_segment_bytes=64 * 1024,
    journal_bytes_max=64 * 1024 * 1024,
    journal_keep=Duration(0),
    parcel_interval=Duration(0.002),
    parcel_bytes_max=16 * 1024,
    parcel_ack_timeout=Duration(0.5),
    parcel_backoff_max=Duration(0.2),
    booked_poll=Duration(0.02),
    resend_after=Duration(0.3),
    adopt_interval=Duration(0.05),
)
NEVER = Duration(3600)
PATIENT = Duration(60)
"""For `parcel_ack_timeout`, where a test counts parcels: an answer that comes late is an answer."""


def quick(**changes: Any) -> JournalSettings:
    """Settings of a journal that does in milliseconds what takes seconds outside."""
    return msgspec.structs.replace(_QUICK, **changes)


def event(number: int, size: int = 400) -> bytes:
    """An encoded event that can be told from every other."""
    caller = Caller(f"key-{number}", None, None, ())
    call = CallFacts(
        "POST", "/v1/x", "/v1/x", "chat", "chat", "m", is_streaming=False, request_bytes=size
    )
    return encode(
        RequestAdmitted(new_id(), now_ms(), 600_000, caller, call, None, "x" * size, (str(number),))
    )


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def open_journal(directory: Path, settings: JournalSettings) -> Journal:
    """A journal without a bus."""
    return Journal.open(directory, settings, settings.metering_partitions, now_ms)


@asynccontextmanager
async def shipping(
    directory: Path, url: str, settings: JournalSettings, stop_s: float = 0.0
) -> AsyncIterator[Journal]:
    """A journal that ships; leaving gives it `stop_s` to drain (0: it stops like a killed one)."""
    async with NatsBus.open(url, ack_timeout_s=settings.parcel_ack_timeout) as bus:
        journal = open_journal(directory, settings)
        journal.start(bus)
        try:
            yield journal
        finally:
            await journal.stop(stop_s)


class Writer:
    """Appends numbered events and remembers, a lane, what was promised."""

    def __init__(self, journal: Journal, size: int = 400) -> None:
        self.journal = journal
        self.size = size
        self.numbers = itertools.count()
        self.promised: dict[int, list[bytes]] = {}

    def write(self, count: int) -> None:
        """`count` events, each in the next lane."""
        for _ in range(count):
            payload = event(next(self.numbers), self.size)
            lane = self.journal.lane()
            lane.append(payload)
            self.promised.setdefault(id(lane), []).append(payload)

    @property
    def total(self) -> int:
        """Events promised so far."""
        return sum(map(len, self.promised.values()))

    def assert_booked_in_order(self, meter: ReferenceMeter) -> None:
        """Each lane's events are one incarnation's, all of them, in order, once."""
        wanted = sorted(payloads for payloads in self.promised.values() if payloads)
        assert sorted(book.payloads for book in meter.books.values()) == wanted


async def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Returns when the condition holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - anything may be waited for
            await asyncio.sleep(0.01)


def segment_files(directory: Path) -> list[Path]:
    """Segment files, oldest first within an incarnation."""
    return sorted(directory.glob("*.seg"))


@pytest.fixture
async def meter(nats_server: NatsServer) -> AsyncIterator[ReferenceMeter]:
    """A reference meter on migrated streams."""
    await nats_server.migrate()
    meter = ReferenceMeter(nats_server.url)
    yield meter
    await meter.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the journal lives."""
    return tmp_path / "journal"
