"""Stream to ledger: exchanges a second for N consumers, and CPU us an exchange, ours and engine's.

    .venv/bin/python bench/metering.py [--exchanges 100000] [--consumers 1,2]

Embedded servers of its own in a temporary directory. The stream is filled first: admissions and
ends of about 2.2 KB (request 1 KB, answer 0.6 KB), eight partitions, parcels of 200 KB. Then N
consumer processes book it. The rate is taken between the first tenth and the end, so that start-up
is not in it.
"""

# ruff: noqa: E402 - the roots come first
import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / each) for each in ("libs", "services", ".", "tests", "tests/metering")]

import nats
import psutil
from metering_events import answer, make_admitted, make_completed, whole
from metering_shipping import Shipper
from support.servers import RunningServer
from support.stores import ClickHouseDatabase, NatsServer, migrated

from contracts.exchange import encode
from contracts.ids import new_id
from contracts.records import frame
from infra.embedded.clickhouse import CLICKHOUSE

PARTITIONS = 8
EXCHANGES_PER_PARCEL = 85


REQUEST = b'{"model":"gpt-4o","messages":[{"role":"user","content":"%s"}]}'
SYLLABLES = [
    "ka",
    "lo",
    "mi",
    "ter",
    "ran",
    "sol",
    "ve",
    "du",
    "pi",
    "cor",
    "ang",
    "the",
    "in",
    "of",
    "and",
    "qu",
    "est",
    "ion",
    "al",
    "per",
]


def prose(chance: random.Random, length: int) -> str:
    """Text that compresses like text, not like a row of one letter."""
    words = ("".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(length))
    return " ".join(words)[:length]


def events(count: int) -> Iterator[bytes]:
    """Records of admissions and their ends."""
    now_ms = int(time.time() * 1000)
    chance = random.Random(count)
    requests = [whole(REQUEST % prose(chance, 940).encode()) for _ in range(257)]
    answers = [
        whole(answer(200 + n, n, filler=0).replace(b'""', b'"%s"' % prose(chance, 380).encode(), 1))
        for n in range(64)
    ]
    for n in range(count):
        event_id = new_id()
        yield frame(encode(make_admitted(event_id=event_id, admitted_at_ms=now_ms)))
        yield frame(
            encode(
                make_completed(
                    event_id=event_id,
                    admitted_at_ms=now_ms,
                    request=requests[n % 257],
                    response=answers[n % 64],
                )
            )
        )


async def fill(url: str, count: int) -> int:
    """Fill the stream; the bytes of an exchange's two records."""
    client = await nats.connect(url)
    size = 0
    for partition in range(PARTITIONS):
        shipper = Shipper(client, partition)
        for record in events(count // PARTITIONS):
            shipper.write_record(record)
        await shipper.ship(records_per_parcel=2 * EXCHANGES_PER_PARCEL)
        size = shipper.offsets[-1] // (count // PARTITIONS)
    await client.close()
    return size


def cpu_s(pid: int) -> float:
    """CPU of a process and its children so far."""
    process = psutil.Process(pid)
    times = [process.cpu_times(), *(each.cpu_times() for each in process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def book(database: ClickHouseDatabase, environ: dict[str, str], pids: list[int], count: int) -> str:
    """Run the consumers until all is booked; the line of the table."""
    metering = subprocess.Popen([sys.executable, "-m", "metering"], env=environ, cwd=ROOT)
    client = database.client()
    began: tuple[int, float, list[float]] | None = None
    try:
        while True:
            booked = int(client.query("SELECT count() FROM entries").result_rows[0][0])
            at, cpus = time.monotonic(), [cpu_s(pid) for pid in (metering.pid, *pids)]
            if began is None and booked >= count // 10:
                began = (booked, at, cpus)
            if booked >= count:
                break
            time.sleep(0.25)
        assert began is not None
        rows, seconds = booked - began[0], at - began[1]
        ours, engine, broker = (1e6 * (b - a) / rows for a, b in zip(began[2], cpus, strict=True))
        return (
            f"{rows / seconds:>9,.0f} exchanges/s   CPU us an exchange: metering {ours:5.1f}, "
            f"engine {engine:5.1f}, broker {broker:4.1f}"
        )
    finally:
        client.close()
        metering.terminate()
        metering.wait()


def run(consumers: int, count: int) -> str:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as scratch:
        tmp = Path(scratch)
        broker, engine = NatsServer(tmp / "n"), RunningServer(CLICKHOUSE, tmp / "c")
        broker.start()
        engine.start()
        try:
            asyncio.run(broker.migrate(price_book=True, stream_bytes_max=8 << 30))
            database = migrated(engine.url, "tollway")
            size = asyncio.run(fill(broker.url, count))
            environ = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join(
                    str(ROOT / each) for each in ("libs", "services", ".")
                ),
                "NATS_URL": broker.url,
                "CLICKHOUSE_URL": engine.url,
                "DATA_DIR": str(tmp / "data"),
                "NUMBER_OF_EVENT_MESSAGE_CONSUMERS": str(consumers),
                "LOG_LEVEL": "warning",
            }
            line = book(database, environ, [engine.pid, broker.pid], count)
            return f"N={consumers}  {size} bytes an exchange  {line}"
        finally:
            engine.kill()
            broker.kill()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=100_000)
    parser.add_argument("--consumers", default="1,2")
    arguments = parser.parse_args()
    for consumers in arguments.consumers.split(","):
        print(run(int(consumers), arguments.exchanges), flush=True)


if __name__ == "__main__":
    main()
