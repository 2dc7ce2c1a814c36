"""`python -m metering.worker --number N`: one consumer process, started by the supervisor."""

import argparse
import asyncio
import gc
import sys

import uvloop

from metering.consumer import Consumer
from metering.settings import load_settings
from runtime.logs import LogSettings, take_over_stdlib, to_stream
from runtime.settings import BadSettings, load
from runtime.signals import stop_event


async def _serve(consumer: Consumer) -> None:
    await consumer.run(stop_event())


def main() -> int:
    """Entry point of a consumer."""
    parser = argparse.ArgumentParser(prog="python -m metering.worker")
    parser.add_argument("--number", type=int, required=True)
    number = parser.parse_args().number
    log = to_stream(load(LogSettings)).bind(consumer=number)
    take_over_stdlib(log)
    try:
        settings = load_settings()
    except BadSettings as error:
        for problem in error.problems:
            log.error("settings.bad", problem=problem)
        return 1
    # A batch makes some ten thousand values that all live until it is booked: collecting among
    # them finds nothing and costs a tenth of the time.
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(Consumer(settings, number, log)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
