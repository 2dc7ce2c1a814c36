"""`tollway import bricksllm`: the gateway's program that does it, told which databases."""

from typing import Annotated, Literal

from cyclopts import Parameter

from infra.cli.parameters import DATA_DIR_DEFAULT, AsJson, DataDir
from infra.cli.services import become, find_environment


def bricksllm(
    *,
    dsn: Annotated[
        str,
        Parameter(
            help="BricksLLM's Postgres database. Leave the password out of it and set PGPASSWORD,"
            " or use ~/.pgpass: other users of this machine can read command lines."
        ),
    ],
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dry_run: Annotated[
        bool, Parameter(negative="", help="Check everything, write nothing.")
    ] = False,
    skip_invalid: Annotated[
        bool, Parameter(negative="", help="Leave out rows that cannot be taken over.")
    ] = False,
    on_conflict: Annotated[
        Literal["keep", "replace"] | None,
        Parameter(help="Who wins where an id is here with other values: what is here, or theirs."),
    ] = None,
    encrypted: Annotated[
        bool | None,
        Parameter(help="BricksLLM ran with ENABLE_ENCRYPTION; needs its DECRYPTION_ENDPOINT."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take over keys, settings, users, routes, policies and custom providers of BricksLLM.

    All or nothing, in one transaction; what is already there is left alone, so it can be run
    again. Clients keep their keys. Events are not imported, nor what was spent so far. The database written to is the one
    the environment names, else that of the instance on the data directory.
    """
    chosen = {
        "--dry-run": dry_run,
        "--skip-invalid": skip_invalid,
        "--encrypted": encrypted is True,
        "--no-encrypted": encrypted is False,
        "--json": as_json,
    }
    words = [word for word, is_chosen in chosen.items() if is_chosen]
    if on_conflict is not None:
        words += ["--on-conflict", on_conflict]
    arguments = ["bricksllm", f"--dsn={dsn}", *words]
    become("gateway.import_command", data_dir, arguments, instance=find_environment(data_dir))
