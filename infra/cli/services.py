"""`tollway gateway`, `migrate`, `secrets` and their like: one program, told by the environment."""

import os
import sys
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from infra.cli.parameters import DATA_DIR_DEFAULT, AsJson, DataDir
from infra.cli.problems import Problem
from infra.embedded.instance import find_addresses, launcher_state

_NAMES_OF_SERVERS: Final = ("NATS_URL", "CLICKHOUSE_URL", "POSTGRES_URL", "POSTGRESQL_")
"""Settings that name servers, or how their names begin."""

CheckConfig = Annotated[
    bool,
    Parameter(name="--check-config", negative="", help="Print the settings in force and end."),
]


def gateway(*, data_dir: DataDir = DATA_DIR_DEFAULT, check_config: CheckConfig = False) -> None:
    """Run the gateway alone, configured by the environment."""
    become("gateway", data_dir, ["--check-config"] if check_config else [])


def metering(*, data_dir: DataDir = DATA_DIR_DEFAULT, check_config: CheckConfig = False) -> None:
    """Run metering alone, configured by the environment."""
    become("metering", data_dir, ["--check-config"] if check_config else [])


def reporting(*, data_dir: DataDir = DATA_DIR_DEFAULT, check_config: CheckConfig = False) -> None:
    """Run reporting alone, configured by the environment."""
    become("reporting", data_dir, ["--check-config"] if check_config else [])


def migrate(
    *,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dry_run: Annotated[bool, Parameter(negative="", help="Print, change nothing.")] = False,
    phase: Annotated[
        str, Parameter(help="pre (before the new version), post (after it), or all.")
    ] = "all",
) -> None:
    """Bring Postgres, ClickHouse and NATS to this version.

    Servers are those the environment names, else those of the instance on the data directory.
    """
    arguments = ["--phase", phase, *(["--dry-run"] if dry_run else [])]
    become("infra.migrations", data_dir, arguments, instance=find_environment(data_dir))


def audit(
    *,
    begin: Annotated[
        str | None,
        Parameter(name="--from", help="RFC 3339 or Unix ms; a day before the end when left out."),
    ] = None,
    end: Annotated[
        str | None,
        Parameter(name="--to", help="RFC 3339 or Unix ms, not included; now when left out."),
    ] = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Prove from ledger, stream and journals that nothing is lost and nothing doubled.

    Servers are those the environment names, else those of the instance on the data directory.
    """
    words = [
        *([] if begin is None else [f"--from={begin}"]),
        *([] if end is None else [f"--to={end}"]),
        *(["--json"] if as_json else []),
    ]
    try:
        instance = find_environment(data_dir)
    except Problem as problem:
        # 1 would say that the books differ.
        sys.stderr.write(f"tollway: {problem}\n")
        raise SystemExit(2) from None
    become("metering", data_dir, ["audit", *words], instance=instance)


def lost(incarnation: str, /, *, data_dir: DataDir = DATA_DIR_DEFAULT) -> None:
    """Declare the rest of a journal lost: close what it admitted, step over gaps."""
    become("metering", data_dir, ["lost", incarnation], instance=find_environment(data_dir))


def resync(partition: int, /, *more: int, data_dir: DataDir = DATA_DIR_DEFAULT) -> None:
    """Forget the checkpoints of partitions: they are made anew from the ledger."""
    words = ["resync", str(partition), *map(str, more)]
    become("metering", data_dir, words, instance=find_environment(data_dir))


def secrets_status(*, data_dir: DataDir = DATA_DIR_DEFAULT, as_json: AsJson = False) -> None:
    """Show how provider secrets are encrypted, and which cannot be read.

    The database is the one the environment names, else that of the instance on the data directory.
    """
    words = ["status", *(["--json"] if as_json else [])]
    become("gateway.secrets_command", data_dir, words, instance=find_environment(data_dir))


def secrets_rotate(
    *,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dry_run: Annotated[bool, Parameter(negative="", help="Print, change nothing.")] = False,
    keep_old: Annotated[
        bool, Parameter(negative="", help="Leave older keys in the file, for backups.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Encrypt every provider secret with a new key; running gateways follow.

    The database is the one the environment names, else that of the instance on the data directory.
    With SECRETS_KEY set no key is made: its first one is taken.
    """
    chosen = {"--dry-run": dry_run, "--keep-old": keep_old, "--json": as_json}
    words = ["rotate", *(word for word, is_chosen in chosen.items() if is_chosen)]
    become("gateway.secrets_command", data_dir, words, instance=find_environment(data_dir))


def find_environment(data_dir: Path) -> dict[str, str]:
    """What the instance on a data directory gave its services; empty when there never was one.

    Raises Problem when none runs there, unless the environment names servers.
    """
    data_dir = data_dir.resolve()
    is_told = any(name.startswith(_NAMES_OF_SERVERS) for name in os.environ)
    if not is_told and launcher_state(data_dir) is None:
        raise Problem(
            f"nothing runs on {data_dir}; start it with `tollway up`, or name other servers: "
            "NATS_URL, CLICKHOUSE_URL, POSTGRES_URL or POSTGRESQL_*"
        )
    addresses = find_addresses(data_dir)
    return {} if addresses is None else addresses.environment


def become(
    module: str, data_dir: Path, arguments: list[str], instance: dict[str, str] | None = None
) -> None:
    """Replace this process by `python -m module`; signals and exit status are then its own."""
    environ = {**(instance or {}), **os.environ, "DATA_DIR": str(data_dir.resolve())}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environ)
