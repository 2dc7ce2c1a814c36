"""A consumer process: its share of the partitions, its heartbeat, its state."""

import asyncio
import contextlib
import os
import socket
import time
from importlib.metadata import version
from typing import Final

import msgspec
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, NoKeysError
from nats.js.kv import KeyValue

from contracts import subjects
from metering.adapters.clickhouse_ledger import ClickHouse, ClickHouseLedger
from metering.adapters.nats_checkpoint import NatsCheckpoints
from metering.adapters.nats_link import NatsLink, as_unavailable
from metering.adapters.nats_stream import DirectReader, NatsPartitionStream, found_partitions
from metering.adapters.price_books import NatsBillers
from metering.clock import SystemClock
from metering.janitor import purge
from metering.members import owner_of, share_of
from metering.partition_task import PartitionTask
from metering.ports import Refused, Superseded, Unavailable
from metering.protocol import PartitionMeter
from metering.settings import MeteringSettings
from metering.state import ConsumerState, MemberReport, consumer_state_path, report_of
from runtime.logs import Log
from runtime.processes import birth_mark
from runtime.state import run_dir, write_atomically

_STATE_INTERVAL_S: Final = 1.0
_CONNECT_AGAIN_S: Final = 0.5
_GATHER_S: Final = 0.3
"""Siblings that start together see each other before they share."""


class Consumer:
    """One member. `run` until `stop` is set; nothing it does needs another member to be right."""

    def __init__(self, settings: MeteringSettings, number: int, log: Log) -> None:
        self._settings = settings
        self._number = number
        self._log = log
        self._clock = SystemClock()
        self.member = f"{_word(socket.gethostname())}-{os.getpid()}-{number}"
        self._key = f"metering.{self.member}"
        self._tasks: dict[int, tuple[PartitionTask, asyncio.Task[None]]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
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
            await self._end_tasks()
            await self._resign(link)
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
                await _wait(stop, _CONNECT_AGAIN_S)
        return None

    async def _serve(self, link: NatsLink, clickhouse: ClickHouse, stop: asyncio.Event) -> None:
        reader = DirectReader(link)
        purged_at = time.monotonic()
        is_first = True
        while not stop.is_set():
            self._raise_bugs()
            try:
                members = await self._beat(link)
                if is_first:
                    await _wait(stop, _GATHER_S)
                    is_first = False
                    continue
                partitions = await found_partitions(link)
                partitions |= set(range(self._settings.metering_partitions))
                await self._share(link, clickhouse, reader, members, partitions)
                self._is_ready = True
                if (
                    owner_of("janitor", members) == self.member
                    and time.monotonic() - purged_at >= self._settings.janitor_interval
                ):
                    purged_at = time.monotonic()
                    await self._purge(link, reader)
            except (Unavailable, Superseded, Refused) as error:
                self._log.warning("membership.unavailable", problem=str(error))
            await _wait(stop, float(self._settings.member_interval))

    async def _beat(self, link: NatsLink) -> list[str]:
        """Say that we live; who else does."""
        report = MemberReport(
            self.member,
            self._clock.now_ms(),
            {number: report_of(task.state()) for number, (task, _) in self._tasks.items()},
        )
        bucket = await _bucket(link, subjects.MEMBERS_BUCKET)
        with as_unavailable():
            await bucket.put(self._key, msgspec.json.encode(report))
            try:
                keys = await bucket.keys()
            except NoKeysError:
                keys = []
        members = [each.removeprefix("metering.") for each in keys if each.startswith("metering.")]
        return sorted({*members, self.member})

    async def _share(
        self,
        link: NatsLink,
        clickhouse: ClickHouse,
        reader: DirectReader,
        members: list[str],
        partitions: set[int],
    ) -> None:
        mine = share_of(self.member, members, partitions)
        for number in set(self._tasks) - mine:
            task, running = self._tasks.pop(number)
            task.leave()
            self._leaving.add(running)
            running.add_done_callback(self._leaving.discard)
            self._log.info("partition.left", partition=number)
        missing = mine - set(self._tasks)
        if not missing:
            return
        checkpoints = await _bucket(link, subjects.CHECKPOINTS_BUCKET)
        books = await _bucket(link, subjects.PRICE_BOOKS_BUCKET)
        billers = NatsBillers(books, self._clock.monotonic_ms)
        for number in sorted(missing):
            stream = NatsPartitionStream(link, reader, number)
            meter = PartitionMeter(
                number,
                stream=stream,
                checkpoints=NatsCheckpoints(link, checkpoints, number),
                ledger=ClickHouseLedger(
                    clickhouse,
                    number,
                    execution_max_s=float(self._settings.booking_execution_max),
                ),
                clock=self._clock,
                billers=billers,
                limits=self._settings.limits(),
                build=self._build,
                slots=self._slots,
            )
            task = PartitionTask(meter, stream, self._clock, self._log)
            running = asyncio.create_task(task.run(), name=f"partition.{number}")
            self._tasks[number] = (task, running)

    async def _purge(self, link: NatsLink, reader: DirectReader) -> None:
        purged = await purge(
            link,
            reader,
            await _bucket(link, subjects.CHECKPOINTS_BUCKET),
            now_ms=self._clock.now_ms(),
            retention_ms=round(self._settings.replay_retention * 1000),
        )
        if purged:
            self._log.info("stream.purged", messages=purged)

    def _raise_bugs(self) -> None:
        """A partition's loop ends by itself only on a bug: the process ends with it, loudly."""
        for _, running in self._tasks.values():
            if running.done():
                running.result()
                raise AssertionError("a partition's loop has ended by itself")

    async def _end_tasks(self) -> None:
        for task, _ in self._tasks.values():
            task.leave()
        waiting = {running for _, running in self._tasks.values()} | self._leaving
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=float(self._settings.drain_s))
        for running in late:
            # Harmless: an insert that lives on has a deadline, and its batch a pending entry.
            running.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)

    async def _resign(self, link: NatsLink) -> None:
        with contextlib.suppress(Unavailable, Refused, Superseded, TimeoutError):
            async with asyncio.timeout(1.0):
                bucket = await _bucket(link, subjects.MEMBERS_BUCKET)
                with as_unavailable():
                    await bucket.delete(self._key)

    async def _tell(self) -> None:
        run_dir(self._settings.data_path)
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
            {number: task.state() for number, (task, _) in sorted(self._tasks.items())},
        )
        path = consumer_state_path(self._settings.data_path, self._number)
        write_atomically(path, msgspec.json.encode(state))


async def _bucket(link: NatsLink, name: str) -> KeyValue:
    with as_unavailable():
        try:
            return await link.jetstream.key_value(name)
        except (BucketNotFoundError, KeyNotFoundError) as error:
            raise Refused(f"there is no bucket {name}: run `tollway migrate`") from error


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def _word(text: str) -> str:
    """A text as a key may hold it."""
    return "".join(each if each.isalnum() or each == "-" else "-" for each in text)
