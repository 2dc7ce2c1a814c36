"""Faults with everything around them that makes them happen: what a proof does, and what a seed
goes through after its random faults.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from drill import disks, faults, scenarios
from drill.catalogue import CATALOGUE
from drill.installation import Installation
from drill.load import UNPRICED_MODEL, Load
from drill.proxy import Seam
from drill.repartition import repartition
from drill.stores import Part

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


def put_back(*stores: scenarios.Store, refusal: str = "") -> Stage:
    """Stores in an older state; with every protection an operator then does as he is told."""

    async def stage(
        installation: Installation, load: Load, _: random.Random, is_protected: bool
    ) -> None:
        during = 20 if "clickhouse" in stores else 0
        await scenarios.restore(installation, load, *stores, during=during)
        await _mend(installation, load, refusal if is_protected else "")

    return stage


def wiped(part: Part, refusal: str = "") -> Stage:
    """A part of NATS made anew, empty; then the same."""

    async def stage(
        installation: Installation, load: Load, _: random.Random, is_protected: bool
    ) -> None:
        await load.burst(40)
        await scenarios.wipe(installation, load, part)
        await _mend(installation, load, refusal if is_protected else "")

    return stage


async def _mend(installation: Installation, load: Load, refusal: str) -> None:
    if refusal:
        await scenarios.refused_with(installation, refusal)
    await load.burst(10)
    if refusal:
        await scenarios.resync(installation)


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
        async with disks.small_journal_disk(installation, load, 400_000):
            await full_journal(installation, load, chance, is_protected)


async def repartitioned(installation: Installation, load: Load, _: random.Random, __: bool) -> None:
    """More partitions, and as few as before."""
    for partitions in (12, 8):
        await repartition(installation, load, partitions)


async def failing_disk(installation: Installation, load: Load, _: random.Random, __: bool) -> None:
    """Every call of the journal fails, in both workers."""
    await disks.fail_every_call(installation, load)


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


LIMITED: Final = {
    "JOURNAL_BYTES_MAX": "1500000",
    "JOURNAL_SEGMENT_BYTES": "65536",
    "JOURNAL_KEEP": "0s",
    "PARCEL_BYTES_MAX": "16384",
    "REPLAY_RETENTION": "1s",
    "JANITOR_INTERVAL": "500ms",
}
SMALL_SEGMENTS: Final = {"JOURNAL_SEGMENT_BYTES": "32768", "JOURNAL_KEEP": "0s"}
KEPT: Final = {"JOURNAL_KEEP": "10m"}
"""Stream and ledger may go back together while the journals hold what both have lost."""
LONG_PARCELS: Final = {"PARCEL_INTERVAL": "300ms", "BATCH_ROWS_MAX": "1"}
"""An admission and its end in one parcel, a parcel a batch: what repeats itself within a batch counts
once, and an end without its admission is looked up in the ledger.
"""
IMPATIENT: Final = {"IN_MEMORY_DB_UPDATE_INTERVAL": "200ms", "POSTGRESQL_READ_TIME_OUT": "500ms"}

_CREATED: Final = "the stream was created at"
_SHORTER: Final = "it was restored to an older state"
_BEHIND: Final = "the ledger was restored"
_OLDER: Final = "restored to an older state"
"""Said of either: the stream may have grown beyond what is booked before anybody looks."""


class Staged(msgspec.Struct, frozen=True):
    """A stage and the settings of the services that it needs."""

    stage: Stage
    settings: Mapping[str, str] = {}


STAGES: Final[dict[str, Staged]] = {
    "a worker dies in mid-stream": Staged(worker_in_flight),
    "the gateway dies in mid-stream": Staged(gateway_in_flight),
    "parcels of the dead lost": Staged(loss_of_the_dead),
    "postgres away": Staged(away("postgres"), IMPATIENT),
    "nats away": Staged(away("nats")),
    "clickhouse away": Staged(away("clickhouse")),
    "stream wiped": Staged(wiped("stream", _CREATED), SMALL_SEGMENTS),
    "nats wiped": Staged(wiped("all"), SMALL_SEGMENTS),
    "stream put back": Staged(put_back("stream", refusal=_SHORTER), SMALL_SEGMENTS),
    "checkpoints put back, quiet": Staged(put_back("checkpoints")),
    "nats put back, quiet": Staged(put_back("all"), SMALL_SEGMENTS),
    "ledger put back": Staged(put_back("clickhouse", refusal=_BEHIND)),
    "ledger and checkpoints put back": Staged(put_back("clickhouse", "checkpoints")),
    "ledger and stream put back": Staged(put_back("clickhouse", "stream", refusal=_OLDER), KEPT),
    "ledger and nats put back": Staged(put_back("clickhouse", "all"), KEPT),
    "8 to 12 to 8 partitions": Staged(repartitioned, {"METERING_PARTITIONS": "8"}),
    "full stream": Staged(full_stream, LIMITED),
    "full journal": Staged(full_journal, LIMITED),
    "full disk": Staged(full_disk, LIMITED),
    "failing disk": Staged(failing_disk, LIMITED),
}
"""Every stage that leaves an installation sound, by name."""
