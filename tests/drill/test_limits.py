"""Full stream, full journal, full or failing disk: refused in time, and nothing of it lost."""

import os
import sys
import time
from itertools import chain

import pytest
from journal.failing_calls import ADOPTING, MAKING, SHIPPING, WRITING

from drill import scenarios
from drill.failing import Order, Orders, give
from drill.faults import child_replaced, kill_child
from drill.interpreters import interpreter

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = {
    "JOURNAL_BYTES_MAX": "1500000",
    "JOURNAL_SEGMENT_BYTES": "32768",
    "JOURNAL_KEEP": "0s",
    "JOURNAL_FSYNC_AFTER": "0s",
    "PARCEL_BYTES_MAX": "16384",
    "REPLAY_RETENTION": "1s",
    "JANITOR_INTERVAL": "500ms",
}
MET_WITHIN_S = 40.0
KILLS = 2


async def test_a_full_stream_fills_the_journal_and_drains_later(stage):
    """Without metering the stream refuses parcels; requests are served, and all are booked later."""
    await stage.load.burst(30)
    await scenarios.fill_stream(stage.installation, stage.load, 300_000)
    await stage.settled()


async def test_a_full_journal_refuses_requests_and_books_only_the_others(stage):
    """Past JOURNAL_BYTES_MAX requests get 503 and stay out of the books, until there is room."""
    await scenarios.fill_journal(stage.installation, stage.load)
    verdict = await stage.settled()
    assert verdict.refused > 0


async def test_a_full_disk_refuses_requests_and_books_only_the_others(stage):
    """A journal whose disk is full refuses admissions; what it admitted is completed and booked."""
    try:
        async with scenarios.small_journal_disk(stage.installation, stage.load, 400_000):
            await scenarios.fill_journal(stage.installation, stage.load)
    except scenarios.CannotMount as error:
        pytest.skip(f"needs the right to mount a file system: {error}")
    await stage.settled()


def every_call() -> list[Order]:
    """All orders of the journal's own tests, a little apart from each other."""
    groups = (MAKING, WRITING, SHIPPING, ADOPTING)
    found = chain.from_iterable(chain.from_iterable(group.values() for group in groups))
    distinct = {(o.call, o.kind, o.how): o for o in found}
    return [
        Order(o.call, o.kind, "EIO", o.how, skip=number % 3, times=2)
        for number, o in enumerate(distinct.values())
    ]


async def test_requests_over_a_failing_disk_are_refused_or_recorded(stage):
    """Each call fails in both workers, workers die in between; a gateway on a sound disk adopts."""
    installation, load = stage.installation, stage.load
    gateway = installation.programs["gateway"]
    names = ("failing-python", "journal", "orders", "fired")
    python, journal, orders, fired = (installation.directory / name for name in names)
    await gateway.stop()
    gateway.run_by(interpreter(python, "drill.failing", str(journal), str(orders), str(fired)))
    await gateway.start()
    wanted = every_call()
    lines = {f"1 {o.call} {o.kind} {o.error} {o.how}" for o in wanted}
    give(orders, Orders(1, wanted))
    began = time.monotonic()
    statuses, kills = set(), 0
    while lines or kills < KILLS:
        assert time.monotonic() - began < MET_WITHIN_S, f"did not happen: {lines}"
        statuses |= {(told.status, told.error_code) for told in await load.burst(12)}
        if kills < KILLS and time.monotonic() - began > 2.0 * (kills + 1):
            # A file with a damaged header is among what the dead leave behind.
            (journal / f"{kills:032x}.00000000.seg").write_bytes(bytes(100))
            draft = journal / f"{kills:032x}.00000001.new"
            draft.touch()
            os.utime(draft, (0, 0))
            await worker_dies(installation)
            kills += 1
        lines -= set(fired.read_text().splitlines()) if fired.exists() else set()
    give(orders, Orders(2, []))
    installation.disk_full.append((began, time.monotonic()))
    assert {each for each in statuses if each[0] == 503} == {(503, "metering_unavailable")}

    await installation.kill("gateway")
    gateway.run_by(sys.executable)
    await gateway.start()
    verdict = await stage.settled()
    assert verdict.refused > 0
    assert len(list(journal.glob("*.bad"))) == kills


async def worker_dies(installation) -> None:
    """One worker is killed and another put in its place."""
    before = set(installation.pids("gateway-worker"))
    kill_child(installation, "gateway-worker", min(before))
    await child_replaced(installation, "gateway-worker", before)
