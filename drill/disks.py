"""The journal on another disk: a small one that fills up, and one whose every call fails."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from itertools import chain
from pathlib import Path
from typing import Final

from drill.failing import Order, Orders, give
from drill.failing_calls import ADOPTING, MAKING, SHIPPING, WRITING
from drill.faults import NotInjected, child_replaced, kill_child
from drill.installation import Installation
from drill.interpreters import interpreter
from drill.load import Load
from drill.quiet import settle, unquiet

_SEEN_S: Final = 60.0
_MET_S: Final = 80.0
_KILLS: Final = 2


class CannotMount(RuntimeError):
    """This user may not mount file systems."""


@contextlib.asynccontextmanager
async def small_journal_disk(
    installation: Installation, load: Load, size_bytes: int
) -> AsyncIterator[Path]:
    """The journal's directory is a file system of this size while the block lasts.

    Raises CannotMount. The gateway is stopped before and after, its journal booked.
    """
    journal = installation.directory / "journal"
    await settle(installation, load)
    await installation.programs["gateway"].stop()
    await _command("mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=700", "tmpfs", journal)
    try:
        await installation.programs["gateway"].start()
        began = time.monotonic()
        yield journal
        installation.disk_full.append((began, time.monotonic()))
        async with asyncio.timeout(_SEEN_S):
            while await unquiet(installation) is not None:
                await asyncio.sleep(0.2)
        # The ENDs of its lanes close as abandoned what found no room for its own end.
        await installation.programs["gateway"].stop()
        if list(journal.glob("*.seg")):
            raise AssertionError("the gateway ended and its journal is not booked")
    finally:
        await installation.programs["gateway"].stop()
        await _command("umount", journal)
        await installation.programs["gateway"].start()


async def _command(*arguments: str | Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise CannotMount(said.decode().strip())


async def fail_every_call(installation: Installation, load: Load) -> str:
    """Each of the journal's calls fails in both workers while workers die; then a gateway on a sound
    disk adopts what they left. Raises NotInjected, AssertionError.
    """
    gateway = installation.programs["gateway"]
    journal = installation.directory / "journal"
    bad = len(list(journal.glob("*.bad")))
    names = ("failing-python", "orders", "fired")
    python, orders, fired = (installation.directory / name for name in names)
    for path in (orders, fired):
        path.unlink(missing_ok=True)
    await gateway.stop()
    gateway.run_by(interpreter(python, "drill.failing", str(journal), str(orders), str(fired)))
    await gateway.start()
    wanted = every_call()
    lines = {f"1 {o.call} {o.kind} {o.error} {o.how}" for o in wanted}
    give(orders, Orders(1, wanted))
    began = time.monotonic()
    statuses: set[tuple[int | None, str]] = set()
    kills = 0
    while lines or kills < _KILLS:
        if time.monotonic() - began > _MET_S:
            raise NotInjected(f"did not happen: {lines}")
        statuses |= {(told.status, told.error_code) for told in await load.burst(12)}
        await asyncio.sleep(0.05)
        if kills < _KILLS and time.monotonic() - began > 2.0 * (kills + 1):
            _leave_drafts(journal)
            await _worker_dies(installation)
            kills += 1
        lines -= set(fired.read_text().splitlines()) if fired.exists() else set()
    give(orders, Orders(2, []))
    installation.disk_full.append((began, time.monotonic()))
    if {each for each in statuses if each[0] == 503} != {(503, "metering_unavailable")}:
        raise AssertionError(f"no refusals, or others than by the journal: {statuses}")

    await installation.kill("gateway")
    gateway.run_by(sys.executable)
    await gateway.start()
    verdict = await settle(installation, load)
    if not verdict.is_clean:
        raise AssertionError(f"over a failing disk: {verdict}")
    if len(list(journal.glob("*.bad"))) - bad != kills:
        raise AssertionError("not every file with a damaged header was set aside")
    return f"{len(wanted)} calls failed, {verdict.refused} requests refused"


def every_call() -> list[Order]:
    """All orders, a little apart from each other."""
    groups = (MAKING, WRITING, SHIPPING, ADOPTING)
    found = chain.from_iterable(chain.from_iterable(group.values() for group in groups))
    distinct = {(o.call, o.kind, o.how): o for o in found}
    return [
        Order(o.call, o.kind, "EIO", o.how, skip=number % 3, times=2)
        for number, o in enumerate(distinct.values())
    ]


def _leave_drafts(journal: Path) -> None:
    """A file with a damaged header and an old draft are among what the dead leave behind."""
    incarnation = os.urandom(16).hex()
    (journal / f"{incarnation}.00000000.seg").write_bytes(bytes(100))
    draft = journal / f"{incarnation}.00000001.new"
    draft.touch()
    os.utime(draft, (0, 0))


async def _worker_dies(installation: Installation) -> None:
    """One worker is killed and another put in its place."""
    before = set(installation.pids("gateway-worker"))
    kill_child(installation, "gateway-worker", min(before))
    await child_replaced(installation, "gateway-worker", before)
