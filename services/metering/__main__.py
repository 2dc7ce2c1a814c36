"""`python -m metering`: supervises the consumers; its subcommands look after the books."""

import argparse
import asyncio
import sys
from importlib.metadata import version

import msgspec

from metering import operator_commands
from metering.settings import MeteringSettings, load_settings
from metering.state import ConsumerState, consumer_state_path
from runtime.children import Child, Probe, StartFailed, Supervisor, run_until_signal
from runtime.logs import Log, LogSettings, take_over_stdlib, to_stream
from runtime.output import say_settings
from runtime.processes import is_same
from runtime.settings import BadSettings, load

_decode_state = msgspec.json.Decoder(ConsumerState).decode


def _probe(settings: MeteringSettings, number: int) -> Probe:
    path = consumer_state_path(settings.data_path, number)

    async def probe() -> str | None:
        try:
            state = _decode_state(path.read_bytes())
        except (OSError, msgspec.DecodeError):
            return "has not said that it is ready"
        if not is_same(state.pid, state.birth):
            return "has not said that it is ready"
        return None if state.is_ready else "has not met the other members"

    return probe


def supervisor(settings: MeteringSettings, log: Log) -> Supervisor:
    """The consumer processes, started together."""
    consumers = tuple(
        Child(
            name=f"metering-{number}",
            argv=(sys.executable, "-m", "metering.worker", "--number", str(number)),
            kind="worker",
            probe=_probe(settings, number),
            stop_timeout_s=float(settings.drain_s) + 5,
            version=version("tollway"),
        )
        for number in range(1, settings.number_of_event_message_consumers + 1)
    )
    return Supervisor("metering", [consumers], data_dir=settings.data_path, log=log)


def main() -> int:
    """Entry point of the service."""
    parser = argparse.ArgumentParser(prog="python -m metering", description=__doc__)
    parser.add_argument(
        "--check-config", action="store_true", help="print the settings in force and exit"
    )
    operator_commands.add_to(parser)
    arguments = parser.parse_args()
    log = to_stream(load(LogSettings))
    take_over_stdlib(log)
    try:
        settings = load_settings()
        if arguments.check_config:
            say_settings(settings)
            return 0
        if arguments.command is not None:
            return asyncio.run(operator_commands.run(arguments, settings))
        return asyncio.run(run_until_signal(supervisor(settings, log)))
    except BadSettings as error:
        for problem in error.problems:
            log.error("settings.bad", problem=problem)
    except StartFailed as error:
        log.error("start.failed", problem=str(error))
    return 1


if __name__ == "__main__":
    sys.exit(main())
