"""A process that appends numbered events and says so after each; it is there to be killed.

    python -m journal.appending DIRECTORY [NATS_URL] < orders

Orders, one a line: a number (append as many), `reopen` (open and close a second descriptor of every
segment), `fork` (leave a child behind), `fork-holding` (the same without the fork hook). It answers
each with a line once it is done; events are `event(n)` in one lane.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from journal.conftest import open_journal, quick

from gateway.adapters.nats_bus import NatsBus
from gateway.recording import journal as journals


def payload(number: int) -> bytes:
    """The event of a number, the same in every process."""
    return f"event {number} ".encode() + bytes([number % 251]) * (300 + number % 700)


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def _reopen(directory: Path) -> None:
    for path in directory.glob("*.seg"):
        os.close(os.open(path, os.O_RDONLY))


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os.close(1)
        time.sleep(60)
        os._exit(0)
    _say(f"child {child}")


async def _main() -> None:
    directory = Path(sys.argv[1])
    settings = quick(journal_lanes=1)
    journal = open_journal(directory, settings)
    if len(sys.argv) > 2:
        bus = NatsBus(sys.argv[2], ack_timeout_s=0.5)
        bus.start()
        journal.start(bus)
    number = 0
    loop = asyncio.get_running_loop()
    _say("ready")
    while order := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        if order == "reopen":
            _reopen(directory)
            _say("reopened")
        elif order.startswith("fork"):
            if order == "fork-holding":
                journals._journals.clear()
            _fork()
        else:
            for _ in range(int(order)):
                journal.lane().append(payload(number))
                number += 1
                _say(str(number))
                if number % 20 == 0:
                    await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(_main())
