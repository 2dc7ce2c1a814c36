"""The command line `tollway`: a table of commands, each imported when it is asked for.

Enters: argv. Leaves: an exit status, and text without tracebacks for what a person can mend.
"""

import sys
from typing import Final

import msgspec


class Command(msgspec.Struct, frozen=True):
    """A command (its name may begin with its group's), where it lives and how it is shown."""

    name: str
    place: str
    help: str
    example: str


COMMANDS: Final = (
    Command(
        "up",
        "infra.cli.up:up",
        "Start everything on this machine and keep it alive until Ctrl-C.",
        "tollway up --detach --json",
    ),
    Command("down", "infra.cli.running:down", "Stop what `up` started.", "tollway down"),
    Command(
        "status",
        "infra.cli.running:status",
        "Show every process, its state and its restarts. Exit status 3 when nothing runs.",
        "tollway status --json",
    ),
    Command(
        "logs",
        "infra.cli.running:logs",
        "Show the logs of all processes, or of one.",
        "tollway logs -f gateway",
    ),
    Command(
        "gateway",
        "infra.cli.services:gateway",
        "Run the gateway alone, configured by the environment.",
        "POSTGRES_URL=postgresql://... NATS_URL=nats://... tollway gateway",
    ),
    Command(
        "metering",
        "infra.cli.services:metering",
        "Run metering alone, configured by the environment.",
        "NATS_URL=nats://... CLICKHOUSE_URL=http://... tollway metering",
    ),
    Command(
        "reporting",
        "infra.cli.services:reporting",
        "Run reporting alone, configured by the environment.",
        "CLICKHOUSE_URL=http://... tollway reporting",
    ),
    Command(
        "migrate",
        "infra.cli.services:migrate",
        "Bring Postgres, ClickHouse and NATS to this version.",
        "tollway migrate --dry-run",
    ),
    Command(
        "audit",
        "infra.cli.services:audit",
        "Prove from ledger, stream and journals that nothing is lost and nothing doubled.",
        "tollway audit --from 2026-01-31T08:00:00Z --json",
    ),
    Command(
        "lost",
        "infra.cli.services:lost",
        "Declare the rest of a journal lost: close what it admitted, step over gaps.",
        "tollway lost 0123456789abcdef0123456789abcdef",
    ),
    Command(
        "resync",
        "infra.cli.services:resync",
        "Forget checkpoints of partitions: they are made anew from the ledger.",
        "tollway resync 0 1 2 3",
    ),
    Command(
        "doctor",
        "infra.cli.doctor:doctor",
        "Check settings, programs, ports, disk and servers; say how to mend what is wrong.",
        "tollway doctor",
    ),
    Command(
        "demo",
        "infra.cli.demo:demo",
        "Send a handful of requests with the demo key and show the bill.",
        "tollway demo",
    ),
    Command(
        "secrets status",
        "infra.cli.services:secrets_status",
        "Show how provider secrets are encrypted, and which cannot be read.",
        "tollway secrets status --json",
    ),
    Command(
        "secrets rotate",
        "infra.cli.services:secrets_rotate",
        "Encrypt every provider secret with a new key; running gateways follow.",
        "tollway secrets rotate --dry-run",
    ),
    Command(
        "import bricksllm",
        "infra.cli.importing:bricksllm",
        "Take over keys, settings, users, routes, policies and custom providers of BricksLLM.",
        "tollway import bricksllm --dsn postgres://user@host/bricksllm --dry-run",
    ),
    Command(
        "trace replay",
        "infra.cli.trace.command:replay",
        "Play Azure LLM trace files through the gateway against the demo provider.",
        "tollway trace replay conv.csv code.csv --limit 1000",
    ),
)

GROUPS: Final = (
    Command(
        "import",
        "",
        "Take over what another gateway knows.",
        "tollway import bricksllm --dsn postgres://user@host/bricksllm --dry-run",
    ),
    Command(
        "secrets",
        "",
        "Look after the encryption of provider secrets.",
        "tollway secrets status",
    ),
    Command(
        "trace",
        "",
        "Play recorded traffic through the running gateway.",
        "tollway trace replay conv.csv code.csv",
    ),
)


def application() -> "object":
    """The parser of the whole command line."""
    from cyclopts import App

    app = App(
        name="tollway",
        help="An LLM gateway that keeps the books.",
        help_format="plaintext",
        version=_version,
        result_action="return_value",
        print_error=False,
        exit_on_error=False,
    )
    groups = {
        group.name: App(
            name=group.name, help=group.help, help_epilogue=f"Example:  {group.example}"
        )
        for group in GROUPS
    }
    for group in groups.values():
        app.command(group)
    for command in COMMANDS:
        *path, name = command.name.split()
        (groups[path[0]] if path else app).command(
            command.place,
            name=name,
            help=command.help,
            help_epilogue=f"Example:  {command.example}",
        )
    return app


def _version() -> str:
    from importlib.metadata import version

    return version("tollway")


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exits with the command's status, 1 for a problem, 130 for Ctrl-C.

    2 is for words on the command line that cannot be taken.
    """
    from cyclopts import CycloptsError

    app = application()
    try:
        status = app(arguments)  # type: ignore[operator]
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        from runtime.output import end_unread

        end_unread()
    except CycloptsError as error:
        sys.stderr.write(f"tollway: {error}\n")
        sys.exit(2)
    except Exception as error:
        from infra.cli.problems import explain

        problem = explain(error)
        if problem is None:
            raise
        sys.stderr.write(f"tollway: {problem}\n")
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)
