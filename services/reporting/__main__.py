"""`python -m reporting`: settings from the environment, then one process until told to stop."""

import sys

import uvloop

from reporting.bootstrap import run
from reporting.settings import load_settings
from runtime import logs
from runtime.output import say_settings
from runtime.settings import BadSettings, load


def main(arguments: list[str]) -> int:
    """The exit status: 0 after a signal, 1 when it could not start, 2 for settings."""
    try:
        settings = load_settings()
        log = logs.to_stream(load(logs.LogSettings)).bind(service="reporting")
    except BadSettings as error:
        for problem in error.problems:
            sys.stderr.write(f"reporting: {problem}\n")
        return 2
    if arguments == ["--check-config"]:
        say_settings(settings)
        return 0
    if arguments:
        sys.stderr.write("usage: python -m reporting [--check-config]\n")
        return 2
    logs.take_over_stdlib(log)
    try:
        uvloop.run(run(settings, log))
    except OSError as error:
        log.error(
            "reporting.not_started",
            host=settings.reporting_host,
            port=settings.reporting_port,
            reason=error,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
