"""An error of every call that the journal makes: refused or kept, never both, never neither."""

import asyncio
import contextlib
import errno
import os
import random
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import pytest
from journal.appending import payload
from journal.conftest import (
    PATIENT,
    Writer,
    now_ms,
    open_journal,
    quick,
    segment_files,
    shipping,
    until,
)
from journal.reference_meter import ReferenceMeter
from support.stores import NatsServer

from contracts.checkpoint import Position
from drill.failing import Order, Orders, give
from drill.failing_calls import ADOPTING, ERRORS, INJECTED, MAKING, SHIPPING, WRITING
from drill.interpreters import interpreter
from gateway.adapters.nats_bus import NatsBus
from gateway.ports import JournalUnavailable
from gateway.recording import journal as journals
from gateway.recording import lane as lanes
from gateway.recording.counts import Counts, Usage
from gateway.recording.incarnation import Incarnation
from gateway.recording.pump import Pump


class Disk:
    """The appending process and the orders of its disk."""

    def __init__(self, directory: Path, process: asyncio.subprocess.Process) -> None:
        self.directory = directory
        self.kept: list[int] = []
        self.refused: list[int] = []
        self._process = process
        self._given = 0

    @property
    def pid(self) -> int:
        """Of the appending process."""
        return self._process.pid

    @property
    def orders(self) -> Path:
        """Where it reads its orders."""
        return self.directory.with_suffix(".orders")

    @property
    def fired(self) -> int:
        """Faults of the orders in force that happened."""
        path = self.directory.with_suffix(".fired")
        lines = path.read_text().splitlines() if path.exists() else []
        return sum(line.startswith(f"{self._given} ") for line in lines)

    def give(self, *orders: Order) -> None:
        """These orders instead of the old ones."""
        self._given += 1
        give(self.orders, Orders(self._given, list(orders)))

    async def append(self, count: int) -> bool:
        """Append, note what was said; whether the last one was taken."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n".encode())
        said = ""
        for _ in range(count):
            line = await asyncio.wait_for(self._process.stdout.readline(), 60)
            assert line, "the process has ended"
            said, number = line.decode().split()
            (self.kept if said == "ok" else self.refused).append(int(number))
        return said == "ok"


@asynccontextmanager
async def failing_disk(directory: Path, url: str) -> AsyncIterator[Disk]:
    """An appending process over a disk that fails on order; killed in the end."""
    python = interpreter(
        directory.with_suffix(".python"),
        "drill.failing",
        *(str(directory.with_suffix(suffix)) for suffix in ("", ".orders", ".fired")),
    )
    process = await asyncio.create_subprocess_exec(
        *(python, "-m", "journal.failing_disk", directory, url),
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    disk = Disk(directory, process)
    try:
        yield disk
    finally:
        process.kill()
        await process.communicate()


async def _assert_booked(disk: Disk, meter: ReferenceMeter, *, others: list[bytes]) -> None:
    """After the process died: what it took is booked once, what it refused is not."""
    async with shipping(disk.directory, meter.url, quick(journal_lanes=1)):
        await meter.run_until(lambda: len(segment_files(disk.directory)) == 1)
    wanted = sorted([*map(payload, disk.kept), *others])
    assert sorted(meter.payloads()) == wanted


@pytest.mark.parametrize(
    "faults",
    [MAKING, SHIPPING, *({name: orders} for name, orders in WRITING.items())],
    ids=["making a segment", "shipping", *WRITING],
)
async def test_an_error_refuses_or_keeps_and_is_over_with_its_cause(
    directory: Path,
    nats_server: NatsServer,
    meter: ReferenceMeter,
    faults: dict[str, list[Order]],
) -> None:
    """Each error, once and often; then the lane goes on, and after a death the books are right."""
    is_writing = not faults.keys() - WRITING.keys()
    async with failing_disk(directory, nats_server.url) as disk:
        assert await disk.append(10)
        if is_writing:
            # It dies with nothing shipped: only the files can say what was promised.
            nats_server.pause()
        for name, orders in faults.items():
            for error, factor in (("EIO", 1), ("ENOSPC", 3)):
                disk.give(
                    *(
                        Order(each.call, each.kind, error, each.how, each.skip, each.times * factor)
                        for each in orders
                    )
                )
                await _until_fired(disk, None if is_writing else meter, len(orders), name)
                disk.give()
                await _until_taken(disk, name)
    if is_writing:
        nats_server.resume()
    await _assert_booked(disk, meter, others=[])


async def _until_fired(disk: Disk, meter: ReferenceMeter | None, times: int, name: str) -> None:
    deadline = time.monotonic() + 60
    while disk.fired < times:
        assert time.monotonic() < deadline, f"{name}: the fault did not happen"
        await disk.append(4)
        if meter is not None:
            await meter.turn()


async def _until_taken(disk: Disk, name: str) -> None:
    deadline = time.monotonic() + 60
    while not await disk.append(1):
        assert time.monotonic() < deadline, f"{name}: the lane does not recover"


async def test_a_name_that_cannot_be_taken_back_hides_no_event(
    directory: Path, meter: ReferenceMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short event still fits where a long one did not; whoever adopts the segment must find it."""
    monkeypatch.setattr(lanes, "_RETRY_S", 0.0)
    journal = open_journal(directory, quick(journal_lanes=1, journal_segment_bytes=4096))
    lane = journal.lane()
    kept = [b"a" * 3000]
    lane.append(kept[0])
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", _failing_for(os.fsync, lambda fd: S_ISDIR(os.fstat(fd).st_mode)))
        disk.setattr(os, "unlink", _failing_for(os.unlink, lambda path: path.suffix == ".seg"))
        for event in (b"b" * 2000, b"c" * 500):
            with contextlib.suppress(JournalUnavailable):
                lane.append(event)
                kept.append(event)
        assert len(segment_files(directory)) > 1
    kept.append(b"d" * 2000)
    lane.append(kept[-1])
    await journal.stop(0)
    async with shipping(directory, meter.url, quick(journal_lanes=1)):
        await meter.run_until(lambda: len(segment_files(directory)) == 1)
    assert sorted(meter.payloads()) == sorted(kept)


class DroppingBus(NatsBus):
    """Drops a cancellation that comes while it asks, as `wait_for` of Python 3.11 does when the
    answer comes in at the same moment."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.dropped = 0

    async def position(self, partition: int, incarnation: bytes) -> Position | None:
        self.is_asked.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.dropped += 1
        return await super().position(partition, incarnation)


async def test_a_lane_ships_on_when_the_end_of_its_shipper_was_dropped(
    directory: Path, meter: ReferenceMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pump fails while the books are read: whoever reads them must not go on alone."""
    monkeypatch.setattr(journals, "_TICK_S", 0.02)
    async with DroppingBus.open(meter.url, ack_timeout_s=PATIENT) as bus:
        journal = open_journal(directory, quick(journal_lanes=1))
        journal.start(bus)
        journal.lane().append(payload(0))
        await meter.run_until(lambda: len(meter.payloads()) == 1)
        bus.may_answer.clear()
        bus.is_asked.clear()
        journal.lane().append(payload(1))
        await asyncio.wait_for(bus.is_asked.wait(), PATIENT)
        with monkeypatch.context() as disk:
            disk.setattr(os, "pread", _failing_for(os.pread, lambda _: True))
            journal.lane().append(payload(2))
            await until(lambda: bus.dropped > 0)
        bus.may_answer.set()
        await meter.run_until(lambda: len(meter.payloads()) == 3)
        await journal.stop(0)


class HeldBus(NatsBus):
    """What it publishes is acknowledged when it may be; a cancellation that comes then is dropped,
    as by `wait_for` of Python 3.11."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.waiting = 0
        self.published = 0

    async def publish(self, subject: str, content: bytes, headers: dict[str, str]) -> None:
        await super().publish(subject, content, headers)
        self.waiting += 1
        with contextlib.suppress(asyncio.CancelledError):
            await self.may_answer.wait()
        self.waiting -= 1
        self.published += 1


@pytest.mark.parametrize("says", ["go back", "stop"])
async def test_what_a_pump_is_told_while_it_probes_is_done(
    directory: Path, meter: ReferenceMeter, says: str
) -> None:
    """Nothing is left to send when the answer comes: it must not go to sleep over what it was told."""
    async with HeldBus.open(meter.url, ack_timeout_s=PATIENT) as bus:
        directory.mkdir()
        await until(lambda: bus.is_connected)
        sources: list[Incarnation] = []
        settings, counts = quick(), Counts()
        lane = lanes.Lane(
            directory,
            0,
            1 << 20,
            1 << 20,
            Usage(1 << 30),
            counts,
            now_ms,
            os.urandom,
            sources.append,
        )
        lane.append(payload(0))
        [source] = sources
        pump = Pump(source, bus, settings, counts)
        running = asyncio.create_task(pump.run())
        await until(lambda: pump.next == source.end)
        bus.may_answer.clear()
        pump.probe()
        await until(lambda: bus.waiting == 1)
        published = bus.published
        if says == "go back":
            pump.rewind(0)
            bus.may_answer.set()
            await until(lambda: bus.published == published + 2)
        pump.is_stopped = True
        pump.nudge()
        running.cancel()
        bus.may_answer.set()
        done, _ = await asyncio.wait([running], timeout=PATIENT)
        assert done
        source.close()


def _failing_for(call: Callable[..., Any], is_due: Callable[[Any], bool]) -> Callable[..., Any]:
    def fail_or_call(target: Any, *arguments: Any, **options: Any) -> Any:
        if is_due(target):
            raise OSError(errno.EIO, "injected")
        return call(target, *arguments, **options)

    return fail_or_call


@pytest.mark.parametrize("fault", ADOPTING)
async def test_an_error_at_adoption_costs_a_second_try(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter, fault: str
) -> None:
    """Three dead incarnations, a fault at one of them: all are booked while the adopter lives."""
    async with failing_disk(directory, nats_server.url) as disk:
        assert await disk.append(10)
        promised = []
        for error in ERRORS:
            disk.give(*(Order(o.call, o.kind, error, o.how, o.skip) for o in ADOPTING[fault]))
            for _ in range(3):
                promised += await _dead(directory)
            draft = directory / f"{os.urandom(16).hex()}.00000000.new"
            draft.touch()
            os.utime(draft, (0, 0))
            _leave_damage(directory)
            await meter.run_until(lambda: disk.fired > 0)
            await meter.run_until(lambda: len(segment_files(directory)) == 1)
            await until(lambda: not list(directory.glob("*.new")))
        assert len(list(directory.glob("*.bad"))) == len(ERRORS)
    await _assert_booked(disk, meter, others=promised)


def _leave_damage(directory: Path) -> None:
    # In one step: an adopter that meets it empty removes it, and nothing is set aside.
    draft = directory.with_suffix(".damage")
    draft.write_bytes(bytes(100))
    draft.rename(directory / f"{os.urandom(16).hex()}.00000000.seg")


async def _dead(directory: Path) -> list[bytes]:
    journal = open_journal(directory, quick(journal_lanes=1, journal_segment_bytes=1 << 20))
    writer = Writer(journal)
    writer.write(20)
    await journal.stop(0)
    return next(iter(writer.promised.values()))


@pytest.mark.strace
@pytest.mark.long_form(short=1, long=15)
async def test_errors_of_every_system_call_at_once_lose_and_double_nothing(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter, seed: int
) -> None:
    """The kernel answers with errors again and again, also beside each other, from below Python."""
    chance = random.Random(seed)
    log = directory.with_suffix(".strace")
    promised = []
    async with failing_disk(directory, nats_server.url) as disk:
        assert await disk.append(10)
        inject = [
            f"--inject={call}:error={error}:when={chance.randint(1, first)}+{step}"
            for call, (error, first, step) in INJECTED.items()
        ]
        tracing = await asyncio.create_subprocess_exec(
            *("strace", "-f", "-p", str(disk.pid), "-o", log, f"--trace={','.join(INJECTED)}"),
            *inject,
            stderr=subprocess.PIPE,
        )
        assert tracing.stderr is not None
        assert b"attached" in await asyncio.wait_for(tracing.stderr.readline(), 60)
        _leave_damage(directory)
        promised += await _dead(directory)
        missing = set(INJECTED)
        deadline = time.monotonic() + 60
        while missing:
            assert time.monotonic() < deadline, f"never met: {missing}"
            await disk.append(20)
            await meter.turn()
            lines = log.read_text().splitlines()
            missing -= {c for c in INJECTED if any(f"{c}(" in x and "INJECTED" in x for x in lines)}
    await tracing.communicate()
    assert disk.refused
    await _assert_booked(disk, meter, others=promised)
