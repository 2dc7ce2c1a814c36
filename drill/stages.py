"""What a proof does: a fault with everything around it that makes it happen."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

import msgspec

from drill import faults, scenarios
from drill.installation import Installation
from drill.load import UNPRICED_MODEL, Load
from drill.proxy import Seam
from drill.schedule import CATALOGUE

Stage = Callable[[Installation, Load, random.Random, bool], Awaitable[object]]
"""The last says whether every protection is there: an operator's step may depend on it."""


def fault(name: str, *, times: int = 1, per_s: float = 40.0) -> Stage:
    """A fault of the catalogue, under load."""

    async def stage(installation: Installation, load: Load, chance: random.Random, _: bool) -> None:
        async with load.running(per_s, slow_share=0.3):
            for _round in range(times):
                await asyncio.sleep(0.3)
                await CATALOGUE[name][1](installation, chance)
            await asyncio.sleep(0.3)
        await installation.all_ready()

    return stage


def killed_at_insert(target: str) -> Stage:
    """A kill of metering that meets a batch under way, as some random kill would."""

    async def stage(installation: Installation, load: Load, chance: random.Random, _: bool) -> None:
        done = asyncio.Event()

        async def kill_it(_port: int) -> bool:
            await faults.kill(installation, target, chance)
            done.set()
            return False

        async with load.running(40):
            await faults.at_seam(installation, Seam(before=kill_it))
            await asyncio.wait_for(done.wait(), 60)
        await installation.all_ready()

    return stage


async def reset_at_insert(
    installation: Installation, load: Load, _: random.Random, __: bool
) -> None:
    """Every connection to the ledger is reset while an insert is on its way."""

    async def reset(_port: int) -> bool:
        installation.clickhouse_proxy.reset()
        return False

    async with load.running(40):
        for _round in range(2):
            await faults.at_seam(installation, Seam(before=reset))
        await asyncio.sleep(0.3)


async def worker_in_flight(
    installation: Installation, load: Load, _: random.Random, __: bool
) -> None:
    """The busiest worker dies with streams under way."""
    await scenarios.kill_worker_in_flight(installation, load)


async def gateway_in_flight(
    installation: Installation, load: Load, _: random.Random, __: bool
) -> None:
    """All of the gateway dies with streams under way."""
    await scenarios.kill_gateway_in_flight(installation, load)


async def loss_of_the_dead(
    installation: Installation, load: Load, _: random.Random, __: bool
) -> None:
    """Parcels vanish whose writers are dead."""
    await scenarios.lose_parcels_of_the_dead(installation, load)


def away(server: str) -> Stage:
    """Requests while a server is not there, and has not been for a while."""

    async def stage(installation: Installation, load: Load, _: random.Random, __: bool) -> None:
        await installation.kill(server)
        await asyncio.sleep(1.0)
        await load.burst(40)
        await installation.programs[server].start()

    return stage


def replaced(how: str, store: str, sentence: str = "") -> Stage:
    """A store wiped or put back; with every protection an operator then does as he is told."""

    async def stage(
        installation: Installation, load: Load, _: random.Random, is_protected: bool
    ) -> None:
        if how == "wipe":
            await load.burst(40)
            await scenarios.wipe(installation, load, store)  # type: ignore[arg-type]
        else:
            during = 20 if store == "clickhouse" else 0
            await scenarios.restore(installation, load, store, during=during)  # type: ignore[arg-type]
        if sentence and is_protected:
            await scenarios.refused_with(installation, sentence)
        await load.burst(10)
        if sentence and is_protected:
            await scenarios.resync(installation)

    return stage


async def full_stream(
    installation: Installation, load: Load, _: random.Random, is_protected: bool
) -> None:
    """The stream takes no more parcels, and drains later."""
    await load.burst(30)
    try:
        await scenarios.fill_stream(installation, load, 300_000)
    except AssertionError:
        # It looks at the books itself before it makes room.
        if is_protected:
            raise


async def full_journal(
    installation: Installation, load: Load, _: random.Random, is_protected: bool
) -> None:
    """The journal takes no more events while NATS is away."""
    if is_protected:
        await scenarios.fill_journal(installation, load)
        return
    await installation.kill("nats")
    for _round in range(30):
        await load.burst(40)
    await installation.programs["nats"].start()


async def full_disk(
    installation: Installation, load: Load, chance: random.Random, is_protected: bool
) -> None:
    """The same on a file system of 400 kB."""
    with contextlib.suppress(*(() if is_protected else (AssertionError, TimeoutError))):
        async with scenarios.small_journal_disk(installation, load, 400_000):
            await full_journal(installation, load, chance, is_protected)


async def clients_leave(_: Installation, load: Load, __: random.Random, ___: bool) -> None:
    """Clients leave in mid-stream; nothing else goes wrong."""
    asks = [msgspec.structs.replace(load.slow_stream(0.5), kind="leaves") for _ in range(10)]
    await asyncio.gather(*map(load.send, asks))


async def unpriced(_: Installation, load: Load, __: random.Random, ___: bool) -> None:
    """Models that no price book knows; nothing goes wrong."""
    asks = [
        msgspec.structs.replace(load.ask(), kind="unpriced", model=UNPRICED_MODEL)
        for _ in range(20)
    ]
    await asyncio.gather(*map(load.send, asks))
