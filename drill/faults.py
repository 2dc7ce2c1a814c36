"""One fault each: injected, seen to have been injected, and healed as far as an operator would.

Every fault returns what it did in words, and raises NotInjected when it could not: a drill whose
faults do not happen proves nothing.
"""

import asyncio
import contextlib
import random
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import psutil

from drill.installation import (
    DEADLINE_S,
    EXECUTION_S,
    MEMBER_TTL_S,
    SERVERS,
    SUPERVISORS,
    Installation,
)
from drill.programs import send
from drill.proxy import Proxy, Seam
from drill.stores import Broker, Part, busyness, copy_aside, put_back, store_paths

SHORT_PAUSE_S: Final = 0.4
LONG_PAUSE_S: Final = DEADLINE_S + EXECUTION_S + MEMBER_TTL_S + 1.0
"""Past the deadline of an insert, past the recovery of its batch, past the owner's membership."""

_BACK_S: Final = 60.0
_SEAM_S: Final = 60.0
_STALLED_S: Final = 40.0
"""What a stalled disk may keep from happening so long."""


class NotInjected(AssertionError):
    """A fault did not happen."""


async def kill(installation: Installation, target: str, chance: random.Random) -> str:
    """`kill -9`; what nobody supervises here is started again after a moment."""
    if target in ("gateway-worker", "metering-consumer"):
        return await _kill_child(installation, target, chance)
    program = installation.programs[target]
    if program.pid is None:
        raise NotInjected(f"{target} does not run")
    pid = program.pid
    await installation.kill(target)
    if Path(f"/proc/{pid}").exists():
        raise NotInjected(f"{target} survived")
    await asyncio.sleep(chance.uniform(0.05, 1.0))
    if target in SUPERVISORS:
        await _children_gone(installation, target)
    await program.start()
    return f"kill -9 {target}"


async def _kill_child(installation: Installation, target: str, chance: random.Random) -> str:
    before = set(installation.pids(target))
    if not before:
        raise NotInjected(f"no {target} runs")
    pids = sorted(before)
    # One worker takes most connections of a light load; the death of the other breaks nothing.
    under_way = busyness(installation) if target == "gateway-worker" else {}
    [victim] = chance.choices(pids, [1 + 4 * under_way.get(pid, 0) for pid in pids])
    kill_child(installation, target, victim)
    await child_replaced(installation, target, before)
    return f"kill -9 {target} {victim}"


def kill_child(installation: Installation, target: str, pid: int) -> None:
    """One worker or consumer dies, and is not waited for. Raises NotInjected."""
    if target == "gateway-worker":
        installation.note_gateway_death()
    if not send(pid, signal.SIGKILL):
        raise NotInjected(f"{target} {pid} had ended")
    if target == "gateway-worker":
        installation.note_gateway_death()


async def child_replaced(installation: Installation, target: str, before: set[int]) -> None:
    """Wait until the supervisor has put another in its place, and all are ready."""
    supervisor = "gateway" if target == "gateway-worker" else "metering"
    deadline = time.monotonic() + _BACK_S
    while time.monotonic() < deadline:
        now = set(installation.pids(target))
        if len(now) >= len(before) and now != before:
            await installation.programs[supervisor].ready()
            return
        await asyncio.sleep(0.05)
    raise NotInjected(f"no other {target} came")


async def _children_gone(installation: Installation, supervisor: str) -> None:
    # They die with their parent; a port or a lock may take a moment.
    deadline = time.monotonic() + _STALLED_S
    while installation.children(supervisor) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)


async def pause(
    installation: Installation, target: str, seconds: float, chance: random.Random
) -> str:
    """SIGSTOP one process, of a server with all of its children, SIGCONT it later."""
    pids = installation.pids(target)
    if not pids:
        raise NotInjected(f"no {target} runs")
    pid = chance.choice(sorted(pids))
    # Postgres answers from a process a connection: its parent alone would not be missed.
    children = _descendants(pid) if target in SERVERS else []
    try:
        async with paused(pid):
            for child in children:
                send(child, signal.SIGSTOP)
            await asyncio.sleep(seconds)
    finally:
        for child in children:
            send(child, signal.SIGCONT)
    return f"pause {target} {seconds:g} s"


def _descendants(pid: int) -> list[int]:
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


@contextlib.asynccontextmanager
async def paused(*pids: int) -> AsyncIterator[None]:
    """These processes are stopped while the block lasts. Raises NotInjected."""
    try:
        for pid in pids:
            if not send(pid, signal.SIGSTOP):
                raise NotInjected(f"{pid} had ended")
        deadline = time.monotonic() + _STALLED_S
        while not all(is_stopped(pid) for pid in pids):
            if time.monotonic() > deadline:
                raise NotInjected("a process did not stop")
            await asyncio.sleep(0.005)
        yield
    finally:
        for pid in pids:
            send(pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False


async def reset(proxy: Proxy, times: int, chance: random.Random) -> str:
    """Cut every connection, some times in a row while they come back.

    What was said in the last moments before is lost: by turns what the server answered, which is
    done, and what the clients asked for, which is not.
    """
    ended = 0
    silences = [proxy.unheard, proxy.untold]
    chance.shuffle(silences)
    for number in range(times):
        with silences[number % 2]():
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            ended += proxy.reset()
        await asyncio.sleep(chance.uniform(0.1, 0.6))
    if ended == 0:
        raise NotInjected("there was no connection to reset")
    return f"reset {ended} ends"


# ---- at the seams of an insert ---------------------------------------------------------------


async def at_seam(installation: Installation, seam: Seam) -> None:
    """Wait for an insert to run into it. Raises NotInjected."""
    installation.clickhouse_proxy.arm(seam)
    try:
        await asyncio.wait_for(seam.hit.wait(), _SEAM_S)
    except TimeoutError:
        raise NotInjected("no insert came by") from None
    finally:
        installation.clickhouse_proxy.disarm()


def consumer_behind(installation: Installation, client_port: int) -> int:
    """The consumer process whose connection this is. Raises NotInjected."""
    for pid in installation.pids("metering-consumer"):
        with contextlib.suppress(psutil.Error):
            for connection in psutil.Process(pid).net_connections(kind="tcp"):
                if connection.laddr and connection.laddr.port == client_port:
                    return pid
    raise NotInjected(f"no consumer has port {client_port}")


async def cut_insert(installation: Installation, where: str) -> str:
    """The connection is reset before the insert arrives, when it has been sent, or once it is
    answered and before the answer gets through.
    """
    done = asyncio.Event()

    async def cut(_port: int) -> bool:
        done.set()
        return False

    seam = Seam(**{where: cut})
    await at_seam(installation, seam)
    await _await(done, f"the insert was not cut {where}")
    return f"insert cut {where}"


async def kill_consumer_at(installation: Installation, where: str) -> str:
    """The consumer dies with its insert on the wire; the insert itself goes on if it has begun."""
    done = asyncio.Event()
    before = set(installation.pids("metering-consumer"))

    async def kill_it(port: int) -> bool:
        kill_child(installation, "metering-consumer", consumer_behind(installation, port))
        done.set()
        return where != "before"

    await at_seam(installation, Seam(**{where: kill_it}))
    await _await(done, f"no consumer died {where}")
    await child_replaced(installation, "metering-consumer", before)
    return f"kill -9 consumer, insert {where}"


async def kill_ledger_at(installation: Installation, where: str, chance: random.Random) -> str:
    """The ledger dies while it inserts, some milliseconds into it."""
    done = asyncio.Event()
    delay_s = chance.uniform(0.0, 0.03) if where == "sent" else 0.0

    async def kill_it(_port: int) -> bool:
        await asyncio.sleep(delay_s)
        await installation.kill("clickhouse")
        done.set()
        return False

    await at_seam(installation, Seam(**{where: kill_it}))
    await _await(done, f"the ledger did not die {where}")
    await asyncio.sleep(chance.uniform(0.05, 0.5))
    await installation.programs["clickhouse"].start()
    return f"kill -9 clickhouse {delay_s * 1000:.0f} ms after the insert was {where}"


async def late_insert(installation: Installation, *, pauses_consumer: bool) -> str:
    """An insert arrives after its deadline, when another attempt may have been made.

    With `pauses_consumer` its owner sleeps as long and wakes to find that it was superseded.
    """
    done = asyncio.Event()

    async def hold(port: int) -> bool:
        if pauses_consumer:
            async with paused(consumer_behind(installation, port)):
                await asyncio.sleep(LONG_PAUSE_S)
        else:
            await asyncio.sleep(LONG_PAUSE_S)
        done.set()
        return True

    await at_seam(installation, Seam(before=hold))
    await _await(done, "the insert was not held", LONG_PAUSE_S + _STALLED_S)
    return "insert held past its deadline" + (", its consumer paused" if pauses_consumer else "")


async def stuck_partition(installation: Installation, seconds: float) -> str:
    """A consumer sleeps with its batch pending and the insert never comes; others go on."""
    done = asyncio.Event()
    others = 0

    async def hold(port: int) -> bool:
        nonlocal others
        pid = consumer_behind(installation, port)
        began = installation.clickhouse_proxy.inserts
        async with paused(pid):
            deadline = time.monotonic() + seconds + _STALLED_S
            await asyncio.sleep(seconds)
            while not (others := installation.clickhouse_proxy.inserts - began):
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.05)
        done.set()
        return False

    await at_seam(installation, Seam(before=hold))
    await _await(done, "the consumer was not held", seconds + 2 * _STALLED_S)
    if others == 0:
        raise NotInjected("no other partition went on")
    return f"one partition stuck {seconds:g} s beside {others} inserts of others"


async def _await(event: asyncio.Event, problem: str, timeout_s: float = _BACK_S) -> None:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        raise NotInjected(problem) from None


# ---- in the stream ---------------------------------------------------------------------------


async def lose_parcels(installation: Installation, chance: random.Random, at_most: int = 2) -> str:
    """Parcels that nobody has read yet are erased from the stream. Needs load."""
    deleted = 0
    async with paused(*installation.pids("metering-consumer")), Broker.open(installation) as broker:
        deadline = time.monotonic() + _STALLED_S
        while not deleted and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            unread = await broker.unread()
            for seq in chance.sample(unread, min(at_most, len(unread))):
                await broker.delete_parcel(seq)
                deleted += 1
    if not deleted:
        raise NotInjected("there was no unread parcel to delete")
    return f"{deleted} parcels deleted"


# ---- in the stores ---------------------------------------------------------------------------


async def put_nats_back(installation: Installation, part: Part, chance: random.Random) -> str:
    """NATS, or its checkpoints alone, goes back to what it was some seconds of load ago."""
    program = installation.programs["nats"]
    with tempfile.TemporaryDirectory(dir=installation.directory) as name:
        aside = Path(name) / "copies"
        await program.stop()
        paths = store_paths(installation, part)
        await copy_aside(paths, aside)
        await program.start()
        async with Broker.open(installation) as broker:
            before = await broker.last_seq()
        await asyncio.sleep(chance.uniform(1.5, 4.0))
        deadline = time.monotonic() + _STALLED_S
        async with Broker.open(installation) as broker:
            while (after := await broker.last_seq()) <= before and time.monotonic() < deadline:
                await asyncio.sleep(0.1)
        if after <= before:
            raise NotInjected("nothing was shipped meanwhile")
        await program.stop()
        await put_back(paths, aside)
    await program.start()
    return f"{part} of NATS put back by {after - before} parcels"


async def wipe_nats(installation: Installation, part: Part) -> str:
    """NATS, or its checkpoints alone, loses everything; what is missing is made anew, empty."""
    program = installation.programs["nats"]
    await program.stop()
    with tempfile.TemporaryDirectory(dir=installation.directory) as name:
        for number, path in enumerate(store_paths(installation, part)):
            if not any(path.iterdir()):
                raise NotInjected(f"{path} was empty already")
            path.rename(Path(name) / str(number))
    await program.start()
    await installation.migrate()
    return f"{part} of NATS wiped"
