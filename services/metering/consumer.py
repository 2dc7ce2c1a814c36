"""A consumer process: its share of the partitions, its heartbeat, its state."""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from importlib.metadata import version
from typing import Final

import msgspec
from nats.js.kv import KeyValue

from contracts import subjects
from metering.adapters.clickhouse_ledger import ClickHouse, ClickHouseLedger
from metering.adapters.nats_checkpoint import NatsCheckpoints
from metering.adapters.nats_link import NatsLink
from metering.adapters.nats_members import NatsMembers, open_bucket
from metering.adapters.nats_stream import DirectReader, NatsPartitionStream, found_partitions
from metering.adapters.price_books import NatsBillers
from metering.clock import SystemClock
from metering.handover import Handover, Word
from metering.held_partitions import HeldPartitions
from metering.janitor import purge
from metering.members import owner_of
from metering.partition_task import PartitionTask
from metering.ports import Refused, Superseded, Unavailable
from metering.protocol import PartitionMeter
from metering.settings import MeteringSettings
from metering.state import ConsumerState, PartitionReport, consumer_state_path, report_of
from runtime.logs import Log
from runtime.processes import birth_mark
from runtime.state import make_run_dir, write_atomically

_STATE_INTERVAL_S: Final = 1.0
_CONNECT_AGAIN_S: Final = 0.5
_AWAITED_INTERVAL_S: Final = 0.1
"""Between looks whether another member has let go of a partition that is ours now."""
_GATHER_S: Final = 0.3
"""Siblings that start together see each other before they share."""


class Stores(msgspec.Struct, frozen=True):
    """What every partition of a process shares."""

    link: NatsLink
    clickhouse: ClickHouse
    reader: DirectReader
    checkpoints: KeyValue
    billers: NatsBillers


class Consumer:
    """One member. `run` until `stop` is set; nothing it does needs another member to be right."""

    def __init__(self, settings: MeteringSettings, number: int, log: Log) -> None:
        self._settings = settings
        self._number = number
        self._log = log
        self._clock = SystemClock()
        # Containers may share a host name and count their processes alike.
        itself = secrets.token_hex(4)
        self.member = f"{_word(socket.gethostname())}-{os.getpid()}-{number}-{itself}"
        self._held = HeldPartitions(log)
        self._is_ready = False
        self._slots = asyncio.Semaphore(settings.batches_at_once)
        self._build = f"metering {version('tollway')}"

    async def run(self, stop: asyncio.Event) -> None:
        """Meter until told to stop; the batches under way are finished within the drain limit."""
        telling = asyncio.create_task(self._tell(), name="tell")
        link = await self._connect(stop)
        if link is None:
            telling.cancel()
            return
        settings = self._settings
        clickhouse = ClickHouse(
            settings.clickhouse_url,
            user=settings.clickhouse_user,
            password=settings.clickhouse_password.reveal(),
            database=settings.clickhouse_database,
            query_timeout_s=float(settings.clickhouse_timeout),
        )
        try:
            await self._serve(link, clickhouse, stop)
        finally:
            telling.cancel()
            self._write_state()
            await clickhouse.close()
            await link.close()

    async def _connect(self, stop: asyncio.Event) -> NatsLink | None:
        settings = self._settings
        while not stop.is_set():
            try:
                return await NatsLink.open(
                    settings.nats_url,
                    name=self.member,
                    creds=settings.nats_creds,
                    tls_ca=settings.nats_tls_ca,
                    timeout_s=float(settings.nats_timeout),
                )
            except Unavailable as error:
                self._log.warning("nats.unavailable", problem=str(error))
                await _wait(_CONNECT_AGAIN_S, stop)
        return None

    async def _serve(self, link: NatsLink, clickhouse: ClickHouse, stop: asyncio.Event) -> None:
        members = NatsMembers(link, self.member, self._clock, self._reports)
        patience_ms = round(self._settings.drain_s * 1000)
        handover = Handover(self.member, members, self._clock, patience_ms=patience_ms)
        try:
            stores = await self._open(link, clickhouse, members, stop)
            if stores is not None:
                await self._take_turns(handover, stores, stop)
        finally:
            await self._held.end(float(self._settings.drain_s))
            await _resign(members)

    async def _open(
        self, link: NatsLink, clickhouse: ClickHouse, members: NatsMembers, stop: asyncio.Event
    ) -> Stores | None:
        """Be heard before the first share is taken; None when told to stop."""
        while not stop.is_set():
            link.raise_if_closed()
            try:
                checkpoints = await open_bucket(link, subjects.CHECKPOINTS_BUCKET)
                books = await open_bucket(link, subjects.PRICE_BOOKS_BUCKET)
                await members.say(Word(frozenset(), frozenset()))
            except (Unavailable, Refused) as error:
                self._log.warning("membership.unavailable", problem=str(error))
                await _wait(float(self._settings.member_interval), stop)
                continue
            await _wait(_GATHER_S, stop)
            billers = NatsBillers(books, self._clock.monotonic_ms)
            return Stores(link, clickhouse, DirectReader(link), checkpoints, billers)
        return None

    async def _take_turns(self, handover: Handover, stores: Stores, stop: asyncio.Event) -> None:
        purged_at = time.monotonic()
        while not stop.is_set():
            # The process ends, and its supervisor starts one that connects anew.
            stores.link.raise_if_closed()
            self._held.raise_bugs()
            self._held.change.clear()
            pause_s = float(self._settings.member_interval)
            try:
                partitions = await found_partitions(stores.link)
                partitions |= set(range(self._settings.metering_partitions))
                turn = await handover.turn(partitions)
                self._held.leave(turn.leave, handover.has_left)
                for number in sorted(turn.begin):
                    self._held.begin(number, self._task(number, stores))
                if turn.awaited:
                    pause_s = min(pause_s, _AWAITED_INTERVAL_S)
                self._is_ready = True
                if (
                    owner_of("janitor", turn.members) == self.member
                    and time.monotonic() - purged_at >= self._settings.janitor_interval
                ):
                    purged_at = time.monotonic()
                    await self._purge(stores)
            except (Unavailable, Superseded, Refused) as error:
                self._log.warning("membership.unavailable", problem=str(error))
            # Whoever waits for a partition that was left hears of it in the turn that follows.
            await _wait(pause_s, stop, self._held.change)

    def _reports(self) -> dict[int, PartitionReport]:
        return {number: report_of(state) for number, state in self._held.states().items()}

    def _task(self, number: int, stores: Stores) -> PartitionTask:
        stream = NatsPartitionStream(stores.link, stores.reader, number)
        meter = PartitionMeter(
            number,
            stream=stream,
            checkpoints=NatsCheckpoints(stores.link, stores.checkpoints, number),
            ledger=ClickHouseLedger(
                stores.clickhouse,
                number,
                execution_max_s=float(self._settings.booking_execution_max),
            ),
            clock=self._clock,
            billers=stores.billers,
            limits=self._settings.limits(),
            build=self._build,
            slots=self._slots,
        )
        return PartitionTask(meter, stream, self._clock, self._log)

    async def _purge(self, stores: Stores) -> None:
        purged = await purge(
            stores.link,
            stores.reader,
            stores.checkpoints,
            now_ms=self._clock.now_ms(),
            retention_ms=round(self._settings.replay_retention * 1000),
        )
        if purged:
            self._log.info("stream.purged", messages=purged)

    async def _tell(self) -> None:
        make_run_dir(self._settings.data_path)
        while True:
            self._write_state()
            await asyncio.sleep(_STATE_INTERVAL_S)

    def _write_state(self) -> None:
        state = ConsumerState(
            os.getpid(),
            birth_mark(os.getpid()),
            self._is_ready,
            self.member,
            self._clock.now_ms(),
            dict(self._held.states()),
        )
        path = consumer_state_path(self._settings.data_path, self._number)
        try:
            write_atomically(path, msgspec.json.encode(state))
        except OSError as error:
            # A full disk is over some time; what is told then must not be what was.
            self._log.error("state.not_written", error=str(error))


async def _resign(members: NatsMembers) -> None:
    with contextlib.suppress(Unavailable, Refused, Superseded, TimeoutError):
        async with asyncio.timeout(1.0):
            await members.resign()


async def _wait(seconds: float, *events: asyncio.Event) -> None:
    """Until one of the events, at most so long."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()


def _word(text: str) -> str:
    """A text as a key may hold it."""
    return "".join(each if each.isalnum() or each == "-" else "-" for each in text)
