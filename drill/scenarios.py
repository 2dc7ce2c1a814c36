"""Faults that need a stage: what has to be true before, what must be seen, and the way back.

Each returns what it did in words and raises NotInjected when its fault did not happen; the caller
then compares the books.
"""

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, Literal

from drill.faults import NotInjected, child_replaced, kill_child, paused, wipe_nats
from drill.installation import Installation
from drill.load import Load, Told
from drill.programs import send
from drill.quiet import settle
from drill.stores import (
    Broker,
    Part,
    busyness,
    consumer_problems,
    copy_aside,
    gateway_counts,
    put_back,
    store_paths,
)

PARTITIONS: Final = range(4)
_SEEN_S: Final = 60.0
_JOURNAL_HALF: Final = 750_000
"""Of the JOURNAL_BYTES_MAX of who fills a stream."""
_LONGER: Final = (1, 2, 4, 8)
"""How many times as long streams last when shorter ones were over before the fault came."""


async def until(condition: Callable[[], Any], problem: str, timeout_s: float = _SEEN_S) -> None:
    """Wait for a condition. Raises NotInjected."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise NotInjected(problem)
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def streams_under_way(load: Load, count: int, seconds: float) -> AsyncIterator[list[Told]]:
    """So many streams whose head has come, and whose end is not near; leaving it awaits them."""
    before = len(load.told)
    tasks = [asyncio.create_task(load.send(load.slow_stream(seconds))) for _ in range(count)]
    try:
        mine: list[Told] = []

        def are_open() -> bool:
            mine[:] = load.told[before:]
            return len(mine) >= count and all(told.status == 200 for told in mine[:count])

        await until(are_open, "the streams did not begin")
        yield mine
    finally:
        await asyncio.wait(tasks)


async def kill_worker_in_flight(installation: Installation, load: Load) -> list[Told]:
    """The busiest worker dies with streams under way, another lives. The streams that broke."""

    def are_seen() -> bool:
        return sum(busyness(installation).values()) >= 16

    for longer in _LONGER:
        before = set(installation.pids("gateway-worker"))
        is_killed = False
        async with streams_under_way(load, 16, 3.5 * longer) as streams:
            # Workers say once a second what they do; one may have taken every connection.
            with contextlib.suppress(NotInjected):
                await until(are_seen, "none is busy", 3 * longer)
                under_way = busyness(installation)
                busiest = max(under_way, key=lambda pid: under_way[pid])
                kill_child(installation, "gateway-worker", busiest)
                is_killed = True
        if is_killed:
            await child_replaced(installation, "gateway-worker", before)
            broken = [told for told in streams if not told.is_whole]
            if broken:
                return broken
    raise NotInjected("no stream was under way in what died")


async def kill_gateway_in_flight(installation: Installation, load: Load) -> list[Told]:
    """The whole gateway dies with streams under way, and is started again."""
    broken: list[Told] = []
    for longer in _LONGER:
        async with streams_under_way(load, 8, 2.0 * longer) as streams:
            await installation.kill("gateway")
        await asyncio.sleep(0.3)
        await installation.programs["gateway"].start()
        mine = [told for told in streams if not told.is_whole]
        broken += mine
        if len(mine) == len(streams):
            return broken
    raise NotInjected("a stream outlived the gateway")


async def without(
    installation: Installation, server: str, load: Load, count: int, **mix: Any
) -> list[Told]:
    """Requests while a server is not there."""
    await installation.kill(server)
    try:
        return await load.burst(count, **mix)
    finally:
        await installation.programs[server].start()


# ---- stores wiped and put back ---------------------------------------------------------------


Store = Literal["clickhouse"] | Part


async def restore(
    installation: Installation,
    load: Load,
    *stores: Store,
    between: int = 80,
    during: int = 0,
) -> str:
    """Stores are put back to an older state of one moment, after `between` requests more were
    booked. With `during`, so many requests come while they are away. Metering is stopped while
    several are put back, as the README tells an operator; with one it has to notice by itself.
    """
    servers = {"clickhouse" if store == "clickhouse" else "nats" for store in stores}
    programs = [installation.programs[server] for server in sorted(servers)]
    paths = [path for store in stores for path in store_paths(installation, store)]
    with tempfile.TemporaryDirectory(dir=installation.directory) as name:
        aside = Path(name) / "copies"
        await settle(installation, load)
        for program in programs:
            await program.stop()
        await copy_aside(paths, aside)
        for program in programs:
            await program.start()
        await load.burst(between)
        verdict = await settle(installation, load)
        if not verdict.is_clean:
            raise NotInjected(f"not clean before the fault: {verdict}")
        metering = [installation.programs["metering"]] if len(stores) > 1 else []
        for program in (*metering, *programs):
            await program.stop()
        await put_back(paths, aside)
    if during:
        await load.burst(during)
    for program in (*programs, *metering):
        await program.start()
    return f"{' and '.join(stores)} put back to {between} requests ago"


async def wipe(installation: Installation, load: Load, part: Part) -> str:
    """NATS loses a part of its store, or all of it, and what is missing is made anew, empty."""
    await settle(installation, load)
    if part == "stream":
        async with Broker.open(installation) as broker:
            if await broker.last_seq() == 0:
                raise NotInjected("the stream was empty already")
            await broker.recreate_stream()
        return "stream deleted and made again"
    return await wipe_nats(installation, part)


async def refused_with(installation: Installation, sentence: str) -> str:
    """Metering refuses, and says so in a sentence that holds these words. The sentence."""

    def refusals() -> list[str]:
        return [each for each in consumer_problems(installation) if sentence in each]

    await until(refusals, f"metering did not refuse with {sentence!r}")
    return refusals()[0]


async def resync(installation: Installation) -> None:
    """What the refusal tells the operator to do, for every partition, and metering started anew:
    by itself it would look again some seconds later.
    """
    await installation.run("metering", "resync", *map(str, PARTITIONS))
    await installation.kill("metering")
    await asyncio.sleep(0.2)
    await installation.programs["metering"].start()


# ---- limits ----------------------------------------------------------------------------------


async def fill_stream(installation: Installation, load: Load, bytes_free: int) -> str:
    """Metering is away and the stream is full: publishing is refused, clients do not notice."""
    await settle(installation, load)
    before = gateway_counts(installation).get("publish_full", 0)
    await installation.programs["metering"].stop()
    async with Broker.open(installation) as broker:
        await broker.resize(await broker.stream_bytes() + bytes_free)
    deadline = time.monotonic() + _SEEN_S
    told: list[Told] = []
    while gateway_counts(installation).get("publish_full", 0) == before:
        if time.monotonic() > deadline:
            raise NotInjected("the stream did not fill up")
        # Workers say once a second what they do: until then the journal must not fill up as well.
        if _journal_bytes(installation) < _JOURNAL_HALF:
            told += await load.burst(30)
        else:
            await asyncio.sleep(0.1)
    refused = [each for each in told if each.error_code == "metering_unavailable"]
    if refused:
        raise NotInjected(f"{len(refused)} requests were refused: the journal was full first")
    await installation.programs["metering"].start()
    # It drains within its small limit; only then is there more room.
    verdict = await settle(installation, load)
    async with Broker.open(installation) as broker:
        await broker.resize(1 << 30)
    if not verdict.is_clean:
        raise AssertionError(f"not drained: {verdict}")
    return f"stream full, {len(told)} requests meanwhile"


def _journal_bytes(installation: Installation) -> int:
    sizes = 0
    for path in (installation.directory / "journal").glob("*.seg"):
        with contextlib.suppress(FileNotFoundError):
            sizes += path.stat().st_size
    return sizes


async def fill_journal(installation: Installation, load: Load) -> str:
    """NATS is away until the journal takes no more: requests are refused, and admitted later."""
    await installation.kill("nats")
    try:
        served, refused = await until_refused(load)
    finally:
        await installation.programs["nats"].start()
    await admitted_again(load)
    return f"journal full after {served} requests, {refused} refused"


async def until_refused(load: Load) -> tuple[int, int]:
    """Requests until some are refused; how many were served and refused. Raises NotInjected."""
    served = refused = 0
    deadline = time.monotonic() + _SEEN_S
    while refused < 3:
        if time.monotonic() > deadline:
            raise NotInjected(f"nothing was refused after {served} requests")
        told = await load.burst(40)
        full = [each for each in told if each.error_code == "metering_unavailable"]
        if any(each.status != 503 for each in full):
            raise AssertionError("a refusal has another status than 503")
        refused += len(full)
        served += len(told) - len(full)
    return served, refused


async def admitted_again(load: Load) -> None:
    """Requests until they are served again. Raises AssertionError."""
    deadline = time.monotonic() + _SEEN_S
    while time.monotonic() < deadline:
        told = await load.burst(10)
        if all(each.error_code != "metering_unavailable" for each in told):
            return
        await asyncio.sleep(0.3)
    raise AssertionError("nothing is admitted although there is room again")


async def lose_parcels_of_the_dead(installation: Installation, load: Load) -> str:
    """Parcels vanish whose owner died: only the adopter can send them again."""
    consumers = installation.pids("metering-consumer")
    deleted = 0
    async with paused(*consumers), Broker.open(installation) as broker:
        before = set(installation.pids("gateway-worker"))
        await load.burst(40)
        for worker in sorted(before):
            kill_child(installation, "gateway-worker", worker)
        for seq in (await broker.unread())[::2]:
            await broker.delete_parcel(seq)
            deleted += 1
    if not deleted:
        raise NotInjected("there was no unread parcel to delete")
    await until(
        lambda: not before & set(installation.pids("gateway-worker")), "the workers live on"
    )
    await installation.programs["gateway"].ready()
    return f"{deleted} parcels of dead workers deleted"


def wake(installation: Installation) -> None:
    """SIGCONT to everything, after a scenario that failed half way."""
    for name in ("gateway", "metering"):
        for pid in installation.children(name).values():
            send(pid, signal.SIGCONT)
