"""What an operator does by hand: declare a journal lost, book anew from the ledger, audit."""

import argparse
import sys

from contracts import subjects
from metering.adapters.nats_link import NatsLink, as_unavailable
from metering.ports import Refused, Superseded, Unavailable
from metering.settings import MeteringSettings


def add_to(parser: argparse.ArgumentParser) -> None:
    """The subcommands."""
    commands = parser.add_subparsers(dest="command")
    lost = commands.add_parser(
        "lost", help="declare the rest of a journal lost: close what it admitted, step over gaps"
    )
    lost.add_argument("incarnation", help="32 hexadecimal digits")
    resync = commands.add_parser(
        "resync", help="forget a partition's checkpoint: it is made anew from the ledger"
    )
    resync.add_argument("partition", type=int)


async def run(arguments: argparse.Namespace, settings: MeteringSettings) -> int:
    """The exit status."""
    try:
        link = await NatsLink.open(
            settings.nats_url,
            name="metering-operator",
            creds=settings.nats_creds,
            tls_ca=settings.nats_tls_ca,
            timeout_s=float(settings.nats_timeout),
        )
        try:
            if arguments.command == "lost":
                return await _lost(link, arguments.incarnation)
            return await _resync(link, arguments.partition)
        finally:
            await link.close()
    except (Unavailable, Refused, Superseded, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


async def _lost(link: NatsLink, name: str) -> int:
    incarnation = bytes.fromhex(name)
    if len(incarnation) != 16:
        raise ValueError("an incarnation has 32 hexadecimal digits")
    with as_unavailable():
        bucket = await link.jetstream.key_value(subjects.CHECKPOINTS_BUCKET)
        await bucket.put(subjects.lost_key(incarnation), b"declared")
    sys.stdout.write(f"{name} is declared lost; its open requests will be booked as abandoned\n")
    return 0


async def _resync(link: NatsLink, partition: int) -> int:
    with as_unavailable():
        bucket = await link.jetstream.key_value(subjects.CHECKPOINTS_BUCKET)
        await bucket.delete(subjects.checkpoint_key(partition))
    sys.stdout.write(
        f"the checkpoint of partition {partition} is gone; metering makes it anew from the ledger\n"
    )
    return 0
