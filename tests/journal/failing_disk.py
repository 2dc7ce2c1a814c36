"""A process that appends numbered events over a disk that fails on order; it is there to be killed.

    INTERPRETER -m journal.failing_disk DIRECTORY NATS_URL < counts

For each count that it reads it appends so many events and says `ok N` or `no N` of each: taken or
refused. Anything else than the journal's own refusal ends it.
"""

import asyncio
import os
import sys
from pathlib import Path

from journal.appending import payload
from journal.conftest import open_journal, quick

from gateway.adapters.nats_bus import NatsBus
from gateway.ports import JournalUnavailable
from gateway.recording import journal as journals
from gateway.recording import lane as lanes
from runtime.settings import Duration

SETTINGS = quick(
    journal_lanes=1,
    journal_segment_bytes=4096,
    journal_fsync_after=Duration(0),
    adopt_interval=Duration(0.02),
)


async def _main() -> None:
    # A second is long for a test: what is tried again after one is tried again soon.
    lanes._RETRY_S = journals._TICK_S = 0.02
    bus = NatsBus(sys.argv[2], ack_timeout_s=0.5)
    bus.start()
    journal = open_journal(Path(sys.argv[1]), SETTINGS)
    journal.start(bus)
    loop = asyncio.get_running_loop()
    number = 0
    while count := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        for _ in range(int(count)):
            try:
                journal.lane().append(payload(number))
                said = "ok"
            except JournalUnavailable:
                said = "no"
            os.write(1, f"{said} {number}\n".encode())
            number += 1
            await asyncio.sleep(0.001)


if __name__ == "__main__":
    asyncio.run(_main())
