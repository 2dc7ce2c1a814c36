"""How far metering is, from NATS: checkpoints say what is booked, members say how fresh it is."""

import asyncio
import ssl
from typing import Any, Final

import msgspec
import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.client import JetStreamContext
from nats.js.errors import KeyNotFoundError, NotFoundError

from contracts import checkpoint, subjects
from contracts.reports import PartitionProgress
from reporting.errors import Unavailable
from reporting.settings import ReportingSettings

ENTRIES_MAX: Final = 10_000
"""Entries of a bucket that are looked at."""

CONSUMER_LIFE_S: Final = 5.0
"""How long a consumer made only to be counted may outlive us."""


class NatsProgress:
    """Implements ports.Progress. Connects at the first question and keeps the connection."""

    def __init__(self, settings: ReportingSettings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def partitions(self) -> list[PartitionProgress]:
        """See ports.Progress."""
        try:
            async with asyncio.timeout(self._settings.report_nats_timeout):
                client = await self._connected()
                stream = client.jetstream(timeout=self._settings.report_nats_timeout)
                return await _read(stream)
        except (NatsError, OSError, TimeoutError, msgspec.MsgspecError) as error:
            raise Unavailable("metering's progress cannot be read from NATS") from error

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is None or self._client.is_closed:
                settings = self._settings
                options: dict[str, Any] = {}
                if settings.nats_creds:
                    options["user_credentials"] = settings.nats_creds
                if settings.nats_tls_ca:
                    options["tls"] = _tls(settings.nats_tls_ca)
                self._client = await nats.connect(
                    settings.nats_url,
                    name="tollway-reporting",
                    allow_reconnect=True,
                    connect_timeout=2,
                    max_reconnect_attempts=3,
                    **options,
                )
            return self._client

    async def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._client is not None and not self._client.is_closed:
            await self._client.close()


def _tls(authority: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority)


class PartitionReport(msgspec.Struct, frozen=True):
    """What a member says of one partition; only the fields that are read here."""

    condition: str | None = None
    problem: str | None = None
    metered_up_to_ms: int | None = None
    lag_ms: int | None = None


class MemberReport(msgspec.Struct, frozen=True):
    """A member's entry in its bucket; the key names the member. Partitions are decimal text."""

    partitions: dict[str, PartitionReport] = {}


async def _read(stream: JetStreamContext) -> list[PartitionProgress]:
    reports = await _member_reports(stream)
    found = []
    for text in (await _values(stream, subjects.CHECKPOINTS_BUCKET, prefix="p.")).values():
        booked = checkpoint.decode(text)
        member, report = reports.get(booked.partition, (None, PartitionReport()))
        found.append(
            PartitionProgress(
                partition=booked.partition,
                member=member,
                condition=report.condition,
                problem=report.problem,
                metered_up_to_ms=report.metered_up_to_ms,
                lag_ms=report.lag_ms,
                backlog_messages=await _backlog(stream, booked),
                committed_seq=booked.committed_seq,
                batch_is_pending=booked.pending is not None,
            )
        )
    return sorted(found, key=lambda progress: progress.partition)


async def _member_reports(stream: JetStreamContext) -> dict[int, tuple[str, PartitionReport]]:
    """Who meters which partition, and what it says of it: the farthest when two say something.

    An entry that cannot be read is nobody's word: the bucket is an optimisation, and so is this.
    """
    found: dict[int, tuple[str, PartitionReport]] = {}
    for member, content in (await _values(stream, subjects.MEMBERS_BUCKET)).items():
        try:
            partitions = msgspec.json.decode(content, type=MemberReport).partitions
            reports = {int(number): report for number, report in partitions.items()}
        except (msgspec.DecodeError, ValueError):
            continue
        for number, report in reports.items():
            _, known = found.get(number, ("", None))
            if known is None or (report.metered_up_to_ms or 0) > (known.metered_up_to_ms or 0):
                found[number] = (member, report)
    return found


async def _values(stream: JetStreamContext, bucket: str, prefix: str = "") -> dict[str, bytes]:
    """The entries of a bucket by key; none when there is no such bucket yet.

    The library's own list of keys leaves a consumer behind that the server keeps for minutes.
    """
    space = f"$KV.{bucket}."
    try:
        entries = await stream.key_value(bucket)
        info = await stream.stream_info(f"KV_{bucket}", subjects_filter=f"{space}{prefix}>")
    except NotFoundError:
        return {}
    keys = [subject.removeprefix(space) for subject in info.state.subjects or {}]
    values = {}
    for key in sorted(keys)[:ENTRIES_MAX]:
        try:
            entry = await entries.get(key)
        except KeyNotFoundError:
            continue
        values[key] = entry.value or b""
    return values


async def _backlog(stream: JetStreamContext, booked: checkpoint.Checkpoint) -> int | None:
    """Parcels of a partition that are in the stream and not yet booked, as the server counts."""
    try:
        consumer = await stream.add_consumer(
            subjects.EXCHANGES_STREAM,
            ConsumerConfig(
                filter_subject=subjects.exchanges_subject(booked.partition),
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=booked.committed_seq + 1,
                ack_policy=AckPolicy.NONE,
                inactive_threshold=CONSUMER_LIFE_S,
                mem_storage=True,
                num_replicas=1,
            ),
        )
    except NotFoundError:
        return None
    await stream.delete_consumer(subjects.EXCHANGES_STREAM, consumer.name)
    return consumer.num_pending
