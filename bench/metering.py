"""Stream to ledger: exchanges a second for N consumers, and CPU us an exchange, ours and engine's.

    .venv/bin/python bench/metering.py [--exchanges 200000] [--rounds 1,2,2,1,1,2] [--bodies]

A stream is filled once: admissions and ends of about 2.2 KB (request 1 KB, answer 0.6 KB), eight
partitions, parcels of 200 KB; with `--bodies` of keys that keep bodies in ClickHouse as well, which
is not the default. Every round books a copy of it with N consumer processes, embedded
servers of its own and an empty ledger; the rounds of different N take turns, so that whatever else
the machine does meets them alike. The rate and the CPU of a round are taken between the first tenth
and the last, so that neither starting nor the rest before a last, small batch is in them; the time
from the first tenth to the last row is printed beside.
"""

# ruff: noqa: E402 - the roots come first
import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / each) for each in ("libs", "services", ".", "tests", "tests/metering")]

import msgspec
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


def events(count: int, *, bodies: bool = False) -> Iterator[bytes]:
    """Records of admissions and their ends; `bodies` asks the ledger to keep theirs."""
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
                    stores_request=bodies,
                    stores_response=bodies,
                )
            )
        )


async def fill(url: str, count: int, *, bodies: bool) -> int:
    """Fill the stream; the bytes of an exchange's two records."""
    client = await nats.connect(url)
    size = 0
    for partition in range(PARTITIONS):
        shipper = Shipper(client, partition)
        for record in events(count // PARTITIONS, bodies=bodies):
            shipper.write_record(record)
        await shipper.ship(records_per_parcel=2 * EXCHANGES_PER_PARCEL)
        size = shipper.offsets[-1] // (count // PARTITIONS)
    await client.close()
    return size


def cpu_s(pid: int) -> float:
    """CPU of a process and its children so far."""
    process = psutil.Process(pid)
    times = [process.cpu_times(), *(each.cpu_times() for each in process.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


class Round(msgspec.Struct, frozen=True):
    """What one round came to: exchanges a second, CPU us an exchange of each of the three.

    `whole_rate` counts the last tenth as well; `others` are cores that went elsewhere, this
    program's own looks among them.
    """

    consumers: int
    rate: float
    whole_rate: float
    metering_us: float
    engine_us: float
    broker_us: float
    others: float

    @property
    def us(self) -> float:
        """All three."""
        return self.metering_us + self.engine_us + self.broker_us

    @property
    def cores(self) -> float:
        """How many cores they kept busy."""
        return self.rate * self.us / 1e6


class Look(msgspec.Struct, frozen=True):
    """What was booked at a moment, and the CPU spent until then: by each of the three, and by all
    that runs on this machine or takes from it."""

    booked: int
    at_s: float
    cpu_s: list[float]
    machine_s: float


def machine_s() -> float:
    """CPU the machine has spent, what its host gave to others included."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _rate(first: Look, last: Look) -> float:
    return (last.booked - first.booked) / (last.at_s - first.at_s)


def measured(looks: list[Look]) -> list[Look]:
    """Those at a tenth, at nine tenths and at the end, of four.

    Of next to nothing all may be booked by the first of them: then it is that of the start.
    """
    begun, first, last, end = looks
    return [first if first.booked < last.booked else begun, last, end]


def book(
    database: ClickHouseDatabase,
    environ: dict[str, str],
    pids: list[int],
    *,
    consumers: int,
    count: int,
) -> Round:
    """Run the consumers until all is booked."""
    metering = subprocess.Popen([sys.executable, "-m", "metering"], env=environ, cwd=ROOT)
    client = database.client()
    pids = [metering.pid, *pids]
    looks = [Look(0, time.monotonic(), [cpu_s(pid) for pid in pids], machine_s())]
    try:
        for share in (0.1, 0.9, 1.0):
            while True:
                booked = int(client.query("SELECT count() FROM entries").result_rows[0][0])
                if booked >= share * count:
                    break
                if metering.poll() is not None:
                    raise RuntimeError(f"metering ended with {metering.returncode}")
                time.sleep(0.05)
            looks.append(Look(booked, time.monotonic(), [cpu_s(pid) for pid in pids], machine_s()))
        first, last, end = measured(looks)
        rows = last.booked - first.booked
        metering_us, engine_us, broker_us = (
            1e6 * (b - a) / rows for a, b in zip(first.cpu_s, last.cpu_s, strict=True)
        )
        others_s = last.machine_s - first.machine_s - sum(last.cpu_s) + sum(first.cpu_s)
        others = others_s / (last.at_s - first.at_s)
        return Round(
            consumers,
            _rate(first, last),
            _rate(first, end),
            metering_us,
            engine_us,
            broker_us,
            others,
        )
    finally:
        client.close()
        metering.terminate()
        metering.wait()


def run(consumers: int, count: int, filled: Path) -> Round:
    """One round over a copy of the filled stream."""
    with tempfile.TemporaryDirectory() as scratch:
        tmp = Path(scratch)
        shutil.copytree(filled, tmp / "n")
        os.sync()
        broker, engine = NatsServer(tmp / "n"), RunningServer(CLICKHOUSE, tmp / "c")
        broker.start()
        engine.start()
        try:
            database = migrated(engine.url, "tollway")
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
            pids = [engine.pid, broker.pid]
            return book(database, environ, pids, consumers=consumers, count=count)
        finally:
            engine.kill()
            broker.kill()


def fill_once(directory: Path, count: int, *, bodies: bool) -> int:
    """A broker's directory with the stream in it; the bytes of an exchange."""
    broker = NatsServer(directory)
    broker.start()
    try:
        asyncio.run(broker.migrate(price_book=True, stream_bytes_max=8 << 30))
        return asyncio.run(fill(broker.url, count, bodies=bodies))
    finally:
        broker.stop()


def summary(rounds: list[Round]) -> Iterator[str]:
    """The table by N, and the ratio of the medians."""
    yield "| consumers | exchanges/s, median (least to most) | CPU us an exchange: metering | engine | broker | cores busy |"
    yield "|---|---|---|---|---|---|"
    medians: dict[int, float] = {}
    for consumers in sorted({each.consumers for each in rounds}):
        of = [each for each in rounds if each.consumers == consumers]
        rates = sorted(each.rate for each in of)
        medians[consumers] = median(rates)
        yield (
            f"| {consumers} | {medians[consumers]:,.0f} ({rates[0]:,.0f} to {rates[-1]:,.0f}) "
            f"| {median(each.metering_us for each in of):.1f} "
            f"| {median(each.engine_us for each in of):.1f} "
            f"| {median(each.broker_us for each in of):.1f} "
            f"| {median(each.cores for each in of):.2f} |"
        )
    pairs = zip(rounds[::2], rounds[1::2], strict=False)
    ratios = [
        max(pair, key=lambda each: each.consumers).rate
        / min(pair, key=lambda each: each.consumers).rate
        for pair in pairs
        if {each.consumers for each in pair} == {1, 2}
    ]
    if ratios:
        yield ""
        yield (
            f"two consumers / one: {medians[2] / medians[1]:.2f} by the medians; in pairs of "
            f"rounds, one after the other: {', '.join(f'{ratio:.2f}' for ratio in ratios)}"
        )


def main() -> None:
    """Print a line a round, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=200_000)
    parser.add_argument("--rounds", default="1,2,2,1,1,2", help="consumers of each round")
    parser.add_argument("--bodies", action="store_true", help="keys that store their bodies")
    arguments = parser.parse_args()
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory() as scratch:
        filled = Path(scratch) / "filled"
        size = fill_once(filled, arguments.exchanges, bodies=arguments.bodies)
        print(f"{arguments.exchanges:,} exchanges of {size} bytes, {os.cpu_count()} cores")
        for consumers in map(int, arguments.rounds.split(",")):
            each = run(consumers, arguments.exchanges, filled)
            rounds.append(each)
            print(
                f"N={consumers} {each.rate:>9,.0f} exchanges/s   CPU us an exchange: metering "
                f"{each.metering_us:5.1f}, engine {each.engine_us:5.1f}, broker "
                f"{each.broker_us:4.1f}, together {each.us:5.1f} on {each.cores:.2f} cores, "
                f"others on {each.others:.2f}; "
                f"to the last row {each.whole_rate:,.0f}/s",
                flush=True,
            )
    print("\n".join(summary(rounds)))


if __name__ == "__main__":
    main()
