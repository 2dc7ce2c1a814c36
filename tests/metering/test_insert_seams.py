"""An insert of two parts fails, or the engine dies, at each write, sync and rename that it makes."""

import asyncio
import contextlib
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from metering_ledgers import A_MONTH_MS, IN_TIME_MS, ClockAhead, kept_in
from metering_shipping import exchanges
from metering_stack import Stack, book_all
from support.servers import RunningServer

from metering.ports import Unavailable

pytestmark = [pytest.mark.xdist_group("metering-clickhouse"), pytest.mark.strace]

RENAMES = "rename,renameat,renameat2"
ERROR, DEATH = "error=EIO", "signal=SIGKILL"
CALLS = {
    RENAMES: (ERROR, DEATH),
    "write,pwrite64": (DEATH,),
    "fsync,fdatasync": (ERROR, DEATH),
}
"""With their faults; the first is the short form's. A rename lies between the engine's token and
its rows. An error of a write is left out: the engine swallows it for a part's data and marks, and
answers OK (docs/drill.md)."""
EVENTS = 4
_CALL = re.compile(r"^(\d+) +(\w+)\(")


class Trace(msgspec.Struct):
    """What strace wrote: system calls of a server's threads."""

    log: Path

    def most_of_a_thread(self, calls: str) -> int:
        """Faults are counted by thread: up to this number each meets some call."""
        counts: Counter[str] = Counter()
        for line in self.log.read_text().splitlines():
            found = _CALL.match(line)
            if found is not None and found[2] in calls.split(","):
                counts[found[1]] += 1
        return max(counts.values(), default=0)

    @property
    def has_failed(self) -> bool:
        """Whether an error met a call."""
        return "INJECTED" in self.log.read_text()


@asynccontextmanager
async def traced(
    server: RunningServer, log: Path, *expressions: str, is_deadly: bool = False
) -> AsyncIterator[Trace]:
    """Under strace while the block lasts; skipped where that is not allowed."""
    options = [word for each in expressions for word in ("-e", each)]
    tracing = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-p", str(server.pid), "-o", str(log), *options),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert tracing.stderr is not None
    said = await tracing.stderr.readline()
    if b"attached" not in said:
        pytest.skip(f"not allowed to trace: {said.decode()}")
    try:
        yield Trace(log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            # Of a process that was killed it may wait for a thread for ever.
            tracing.send_signal(signal.SIGKILL if is_deadly else signal.SIGINT)
        await tracing.communicate()


async def ship(stack: Stack) -> None:
    """Exchanges of this month and the last, without bodies."""
    shipper = await stack.shipper()
    now_ms = int(time.time() * 1000)
    for n in range(EVENTS):
        at_ms = now_ms - (A_MONTH_MS if n % 2 else 0)
        shipper.write(exchanges(1, at_ms=at_ms, stores_request=False, stores_response=False))
    await shipper.ship()


def places(most: int, rounds: int) -> list[int]:
    """So many of 1 to `most`, spread evenly; the middle when it is one."""
    if rounds >= most:
        return list(range(1, most + 1))
    return [1 + (2 * n + 1) * most // (2 * rounds) for n in range(rounds)]


@pytest.mark.timeout(3_600)
@pytest.mark.long_form(short=1, long=1_000)
async def test_a_fault_at_any_call_of_an_insert_loses_and_doubles_nothing(
    own_stack: Stack, clickhouse_server: RunningServer, tmp_path: Path, rounds: int
) -> None:
    """EIO and kill -9, one at a time: token without rows, one part without the other, half a file."""
    ledgers: list[ClockAhead] = []
    meter = await own_stack.meter(ledger=kept_in(ledgers))
    await ship(own_stack)
    await meter.open()  # so that only the insert is under the fault
    log = tmp_path / "strace.log"
    async with traced(clickhouse_server, log, f"trace={','.join(CALLS)}") as trace:
        await book_all(meter)
    booked = EVENTS
    fired: Counter[tuple[str, str]] = Counter()
    most_by_calls = {calls: trace.most_of_a_thread(calls) for calls in CALLS}
    for calls, most in most_by_calls.items():
        for when in places(most, rounds):
            for fault in CALLS[calls] if rounds > 1 else CALLS[calls][:1]:
                await ship(own_stack)
                booked += EVENTS
                expressions = (f"trace={calls}", f"inject={calls}:{fault}:when={when}")
                is_deadly = fault == DEATH
                async with traced(
                    clickhouse_server, log, *expressions, is_deadly=is_deadly
                ) as trace:
                    with contextlib.suppress(Unavailable):
                        await meter.step()
                fired[calls, fault] += (
                    _has_ended(clickhouse_server) if is_deadly else trace.has_failed
                )
                if is_deadly:
                    clickhouse_server.kill()
                    clickhouse_server.start()
                ledgers[0].ahead_ms += IN_TIME_MS
                await book_all(meter)
                totals = await own_stack.totals()
                wanted = {"rows": booked, "events": booked, "requests": booked, "wrong": 0}
                assert totals == wanted, (calls, fault, when)
    assert all(fired.values()), fired
    assert await by_hour(own_stack, uses_projection=True) == await by_hour(
        own_stack, uses_projection=False
    )


def _has_ended(server: RunningServer) -> bool:
    """Soon after its last connection broke, if so."""
    assert server.process is not None
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.process.wait(1)
    return server.process.returncode is not None


async def by_hour(stack: Stack, *, uses_projection: bool) -> list[list[object]]:
    return await stack.http.rows(
        "SELECT toStartOfHour(occurred_at) AS hour, run_id, key_id, sum(requests), sum(cost_usd) "
        "FROM entries GROUP BY hour, run_id, key_id ORDER BY hour "
        f"SETTINGS optimize_use_projections = {int(uses_projection)}"
    )
