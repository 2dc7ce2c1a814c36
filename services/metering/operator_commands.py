"""What an operator does by hand: declare a journal lost, book anew from the ledger, audit."""

import argparse
import sys
from datetime import UTC, datetime
from typing import Final

import msgspec
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from contracts import subjects
from metering.adapters.clickhouse_ledger import ClickHouse
from metering.adapters.nats_link import NatsLink, as_unavailable
from metering.audit import as_text, audit
from metering.clock import SystemClock
from metering.ports import Refused, Superseded, Unavailable
from metering.settings import MeteringSettings
from runtime.output import say

_DAY_MS: Final = 86_400_000


def add_to(parser: argparse.ArgumentParser) -> None:
    """The subcommands."""
    commands = parser.add_subparsers(dest="command")
    lost = commands.add_parser(
        "lost", help="declare the rest of a journal lost: close what it admitted, step over gaps"
    )
    lost.add_argument("incarnation", help="32 hexadecimal digits")
    resync = commands.add_parser(
        "resync", help="forget checkpoints of partitions: they are made anew from the ledger"
    )
    resync.add_argument("partitions", metavar="PARTITION", type=int, nargs="+")
    check = commands.add_parser(
        "audit", help="journal = stream = ledger = projection for a window; status 1 if different"
    )
    check.add_argument("--from", dest="begin", help="RFC 3339 or Unix ms; default a day before")
    check.add_argument("--to", dest="end", help="RFC 3339 or Unix ms, exclusive; default now")
    check.add_argument("--json", action="store_true", help="the findings as one JSON object")


async def run(arguments: argparse.Namespace, settings: MeteringSettings) -> int:
    """The exit status."""
    try:
        link = await _link(settings)
        try:
            if arguments.command == "lost":
                return await _lost(link, arguments.incarnation)
            if arguments.command == "audit":
                return await _audit(link, settings, arguments)
            return await _resync(link, arguments.partitions)
        finally:
            await link.close()
    except (Unavailable, Refused, Superseded, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


async def _link(settings: MeteringSettings) -> NatsLink:
    return await NatsLink.open(
        settings.nats_url,
        name="metering-operator",
        creds=settings.nats_creds,
        tls_ca=settings.nats_tls_ca,
        timeout_s=float(settings.nats_timeout),
    )


async def _audit(link: NatsLink, settings: MeteringSettings, arguments: argparse.Namespace) -> int:
    now_ms = SystemClock().now_ms()
    to_ms = _instant_ms(arguments.end, now_ms)
    from_ms = _instant_ms(arguments.begin, to_ms - _DAY_MS)
    clickhouse = ClickHouse(
        settings.clickhouse_url,
        user=settings.clickhouse_user,
        password=settings.clickhouse_password.reveal(),
        database=settings.clickhouse_database,
        query_timeout_s=float(settings.audit_timeout),
    )
    try:
        findings = await audit(link, clickhouse, settings.data_path, from_ms, to_ms)
    finally:
        await clickhouse.close()
    text = msgspec.json.encode(findings).decode() if arguments.json else as_text(findings)
    say(text)
    return 0 if findings.is_right else 1


def _instant_ms(text: str | None, default_ms: int) -> int:
    """Raises ValueError when it is no instant."""
    if text is None:
        return default_ms
    if text.isdigit():
        return int(text)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: write 2026-01-31T08:00:00Z, or Unix milliseconds"
        ) from None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return round(instant.timestamp() * 1000)


async def _lost(link: NatsLink, name: str) -> int:
    try:
        incarnation = bytes.fromhex(name)
    except ValueError:
        incarnation = b""
    if len(incarnation) != 16:
        raise ValueError(f"{name}: an incarnation has 32 hexadecimal digits")
    with as_unavailable():
        bucket = await link.jetstream.key_value(subjects.CHECKPOINTS_BUCKET)
        await bucket.put(subjects.lost_key(incarnation), b"declared")
    say(f"{name} is declared lost; its open requests will be booked as abandoned")
    return 0


async def _resync(link: NatsLink, partitions: list[int]) -> int:
    with as_unavailable():
        bucket = await link.jetstream.key_value(subjects.CHECKPOINTS_BUCKET)
        done = [await _forget_checkpoint(bucket, partition) for partition in partitions]
    say("\n".join(done))
    return 0


async def _forget_checkpoint(bucket: KeyValue, partition: int) -> str:
    key = subjects.checkpoint_key(partition)
    try:
        await bucket.get(key)
    except KeyNotFoundError:
        return f"partition {partition} has no checkpoint: nothing to forget"
    await bucket.delete(key)
    return (
        f"the checkpoint of partition {partition} is gone; metering makes it anew from the ledger"
    )
