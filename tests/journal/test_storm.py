"""Faults in an order that nobody chose; the seed names the order."""

import asyncio
import contextlib
import gc
import random
from pathlib import Path

import nats.errors
import pytest
from journal.conftest import event, open_journal, quick, segment_files, until
from journal.reference_meter import ReferenceMeter
from journal.resetting_proxy import ResettingProxy
from support.stores import NatsServer

from contracts.subjects import EXCHANGES_STREAM
from gateway.adapters.nats_bus import NatsBus
from gateway.recording import Journal

STEPS = 60


class Storm:
    """A gateway that is written to while its broker, its connections and itself keep failing."""

    def __init__(
        self, directory: Path, server: NatsServer, meter: ReferenceMeter, url: str
    ) -> None:
        self.directory = directory
        self.server = server
        self.meter = meter
        self.url = url
        self.journal: Journal | None = None
        self.bus: NatsBus | None = None
        self.promised: list[list[bytes]] = []
        self.open: dict[int, list[bytes]] = {}
        self.number = 0

    async def begin(self) -> None:
        """A new process, as far as files and connections tell."""
        self.bus = NatsBus(self.url, ack_timeout_s=0.3)
        self.bus.start()
        self.journal = open_journal(self.directory, quick())
        self.journal.start(self.bus)
        self.open = {}

    async def die(self) -> None:
        """The process ends without another word."""
        assert self.journal is not None
        assert self.bus is not None
        self.promised += self.open.values()
        await self.journal.stop(0)
        await self.bus.close()

    def write(self, count: int, size: int) -> None:
        """Append, and remember what was promised."""
        assert self.journal is not None
        for _ in range(count):
            lane = self.journal.lane()
            lane.append(payload := event(self.number, size))
            self.number += 1
            self.open.setdefault(id(lane), []).append(payload)

    async def lose_a_parcel(self, chance: random.Random) -> None:
        """The stream forgets one of the parcels that the meter has not read yet."""
        stream = await self.meter.stream()
        state = (await stream.stream_info(EXCHANGES_STREAM)).state
        if state.last_seq >= self.meter.next_seq:
            seq = chance.randint(self.meter.next_seq, state.last_seq)
            await stream.delete_msg(EXCHANGES_STREAM, seq)

    async def metering(self) -> None:
        """One turn of the meter, if the broker lets it."""
        try:
            await self.meter.turn()
        except (nats.errors.Error, OSError, TimeoutError):
            await self.meter.close()


@pytest.mark.slow
# The library leaves a connection that ended before the server's greeting to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*StreamWriter:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.long_form(short=3, long=100)
async def test_everything_promised_is_booked_once_and_in_order(
    directory: Path, nats_server: NatsServer, meter: ReferenceMeter, seed: int
) -> None:
    """Broker killed and paused, connections reset, parcels lost, the gateway killed and replaced."""
    chance = random.Random(seed)
    async with ResettingProxy(nats_server.url) as proxy:
        storm = Storm(directory, nats_server, meter, proxy.url)
        await storm.begin()
        faults = ["reset", "lose", "lose", "kill", "pause", "die"]
        acts = chance.choices(["write"] * 8 + ["meter"] * 4 + faults, k=STEPS)
        # Each at least once, wherever chance put it.
        for at, fault in zip(chance.sample(range(STEPS), len(faults)), faults, strict=True):
            acts[at] = fault
        for act in acts:
            if act == "write":
                storm.write(chance.randint(1, 150), chance.choice([10, 300, 3000]))
            elif act == "meter":
                await storm.metering()
            elif act == "reset":
                proxy.reset()
            elif act == "lose":
                with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                    await storm.lose_a_parcel(chance)
            elif act == "kill":
                await meter.close()
                nats_server.kill()
                storm.write(50, 300)
                await asyncio.sleep(0.05)
                nats_server.start()
            elif act == "pause":
                nats_server.pause()
                storm.write(50, 300)
                await asyncio.sleep(0.1)
                nats_server.resume()
            else:
                await storm.die()
                await storm.begin()
            await asyncio.sleep(chance.random() * 0.03)
        await storm.die()
        await storm.begin()
        await meter.close()
        wanted = sorted(storm.promised)
        await meter.run_until(
            lambda: (
                sum(len(book.payloads) for book in meter.books.values()) >= storm.number
                and meter.ends == len(wanted)
            ),
            100,
        )
        assert sorted(book.payloads for book in meter.books.values()) == wanted
        await until(lambda: len(segment_files(directory)) == 2)
        await storm.die()
    gc.collect()
