"""What the journal costs: us an append, us of CPU an event shipped, bytes a second.

    PYTHONPATH=tests python -m bench.journal [EVENTS] [BYTES] [EVENTS_PER_SECOND]

Runs one process (appending and shipping on one loop) against its own NATS server, files synced as
in embedded mode. CPU is this process's; the server's is not in it. With a rate, events are spread
over time, as a gateway would; without, they are appended as fast as they go, in batches of 100.
"""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from support.stores import NatsServer

from gateway.adapters.nats_bus import NatsBus
from gateway.recording import Journal, JournalSettings


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def append_alone(directory: Path, events: int, payload: bytes) -> float:
    """Microseconds of CPU an append, user and kernel, nothing else running in this process."""
    journal = Journal.open(directory, JournalSettings(), 8, now_ms)
    lane = journal.lane()
    began = time.process_time()
    for _ in range(events):
        lane.append(payload)
    took_s = time.process_time() - began
    for path in directory.glob("*.seg"):
        path.unlink()
    return took_s / events * 1e6


async def append_and_ship(
    directory: Path, url: str, events: int, payload: bytes, rate: float
) -> None:
    """Prints what appending and shipping cost together."""
    async with NatsBus.open(url) as bus:
        journal = Journal.open(directory, JournalSettings(), 8, now_ms)
        journal.start(bus)
        while not bus.is_connected:
            await asyncio.sleep(0.01)
        cpu, began = time.process_time(), time.perf_counter()
        appending = 0.0
        lag_max = 0.0
        # With a rate: what is due every five milliseconds.
        step = 100 if rate == 0 else max(1, round(rate / 200))
        for number in range(0, events, step):
            before = time.process_time()
            for _ in range(step):
                journal.lane().append(payload)
            appending += time.process_time() - before
            due = began + number / rate if rate else 0.0
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            lag_max = max(lag_max, journal.oldest_unshipped_age_s() or 0.0)
        counts = journal.counts
        while counts.bytes_shipped < events * (len(payload) + 8):
            await asyncio.sleep(0.001)
        took_s = time.perf_counter() - began
        cpu_s = time.process_time() - cpu
        print(
            f"cpu: append {appending / events * 1e6:.2f}, all {cpu_s / events * 1e6:.2f} us/event,"
            f" {events / took_s:.0f} events/s, {counts.bytes_shipped / took_s / 1e6:.1f} MB/s,"
            f" {events / counts.parcels_shipped:.0f} events/parcel,"
            f" {cpu_s / counts.parcels_shipped * 1e6:.0f} us/parcel, lag max {lag_max * 1e3:.0f} ms"
        )
        await journal.stop(0)


def main() -> None:
    """All of it."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 1500
    rate = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    payload = os.urandom(size)
    with tempfile.TemporaryDirectory() as place:
        alone = sorted(append_alone(Path(place) / "a", events, payload) for _ in range(5))
        print(f"append alone: cpu {alone[0]:.2f} to {alone[4]:.2f} us/event (5 runs), {size} bytes")
        server = NatsServer(Path(place))
        server.start()
        try:
            asyncio.run(server.migrate())
            uvloop.run(append_and_ship(Path(place) / "b", server.url, events, payload, rate))
        finally:
            server.kill()


if __name__ == "__main__":
    main()
