"""`python -m gateway.import_command bricksllm`: takes over a BricksLLM installation's configuration."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from typing import Final

import asyncpg
import msgspec

from gateway.adapters.bricksllm_database import CannotRead, read_tables
from gateway.adapters.postgres import open_pool
from gateway.adapters.postgres_store import PostgresStore
from gateway.adapters.sealer import open_sealer
from gateway.administration.bricksllm_import import Clash, Report, Wishes, import_all
from gateway.administration.bricksllm_rows import ID_BY_TABLE, Remark
from gateway.administration.bricksllm_values import Means, take
from gateway.administration.invalid import Invalid
from gateway.administration.provider_settings import SettingMeans
from gateway.administration.store import StoreUnavailable
from gateway.outbound import upstream_guard
from gateway.ports import SealUnavailable
from gateway.progress_bar import progress_bar
from gateway.providers.registry import PROVIDERS
from gateway.settings import GatewaySettings, load_settings
from runtime.output import say
from runtime.settings import BadSettings

REMARKS_SHOWN_MAX: Final = 50
"""Of a kind, as text; JSON has all of them."""

_NOT_IMPORTED: Final = (
    "Events, and what keys and users have spent so far, are not imported: reports and budgets"
    " begin anew."
)
_COLUMNS: Final = ("found", "imported", "already_there", "kept", "replaced", "left_out")


class CannotImport(Exception):
    """Nothing was read; the message says what to do."""


def _is_encrypted(chosen: bool | None, settings: GatewaySettings) -> bool:
    """Nothing in a database says whether its secrets are encrypted. Raises CannotImport."""
    if chosen is None and (settings.enable_encryption or settings.decryption_endpoint):
        raise CannotImport(
            "encryption endpoints are configured: add --encrypted if BricksLLM ran with"
            " ENABLE_ENCRYPTION, --no-encrypted if it did not"
        )
    if chosen and not settings.decryption_endpoint:
        raise CannotImport(
            "to import encrypted secrets, set DECRYPTION_ENDPOINT (and AUDIENCE) to what"
            " BricksLLM had; they are decrypted once and encrypted anew as configured here"
        )
    return bool(chosen)


async def _run(arguments: argparse.Namespace, settings: GatewaySettings) -> int:
    is_encrypted = _is_encrypted(arguments.encrypted, settings)
    tables, missing = await read_tables(arguments.dsn, tuple(ID_BY_TABLE))
    row_count = sum(map(len, tables.values()))
    wishes = Wishes(
        is_dry=arguments.dry_run,
        skips_invalid=arguments.skip_invalid,
        resolution=arguments.on_conflict,
    )
    async with open_pool(settings) as pool, open_sealer(settings) as sealer:
        means = SettingMeans(sealer, PROVIDERS, upstream_guard(settings).check_url)
        with progress_bar("checking", row_count) as advance:
            taken = await take(tables, Means(means, is_encrypted, advance))
        taken.notes += [Remark(table, "", "the database has no such table") for table in missing]
        progress = partial(progress_bar, "writing")
        report = await import_all(taken, PostgresStore(pool), sealer, wishes, progress)
    if arguments.as_json:
        say(msgspec.json.encode(report).decode())
    else:
        _show(report)
    return 1 if report.refused else 0


def _show(report: Report) -> None:
    lines = [" ".join(f"{name.replace('_', ' '):>13}" for name in ("", *_COLUMNS))]
    for table, count in report.tables.items():
        figures = (f"{getattr(count, name):>13}" for name in _COLUMNS)
        lines.append(f"{table.replace('_', ' '):<17} {' '.join(figures)[4:]}")
    lines += _listed("cannot be taken over", report.invalid)
    lines += _listed("conflicts", report.conflicts)
    lines += _listed("notes", report.notes)
    lines += ["", _NOT_IMPORTED, _outcome(report)]
    say("\n".join(lines))


def _listed(title: str, remarks: Sequence[Remark | Clash]) -> list[str]:
    if not remarks:
        return []
    lines = ["", f"{title}:"]
    for remark in remarks[:REMARKS_SHOWN_MAX]:
        outcome = f" ({remark.outcome})" if isinstance(remark, Clash) and remark.outcome else ""
        lines.append(f"  {remark.table} {remark.id}: {remark.text}{outcome}")
    if len(remarks) > REMARKS_SHOWN_MAX:
        lines.append(f"  and {len(remarks) - REMARKS_SHOWN_MAX} more; --json shows all")
    return lines


def _outcome(report: Report) -> str:
    if report.refused:
        ways = []
        if report.invalid:
            ways.append("mend these rows, or leave them out with --skip-invalid")
        if any(not clash.outcome for clash in report.conflicts):
            ways.append("say who wins with --on-conflict keep (what is here) or replace")
        return f"Nothing was written: {'; '.join(ways)}."
    if report.dry_run:
        return "Nothing was written: this was a dry run."
    return "Written." if report.written else "Nothing to write: everything is already there."


def main() -> int:
    """Entry point. Status 1 when nothing could be written, 2 when a database is away."""
    parser = argparse.ArgumentParser(prog="python -m gateway.import_command", description=__doc__)
    bricksllm = parser.add_subparsers(dest="source", required=True).add_parser(
        "bricksllm", help="out of its Postgres database"
    )
    bricksllm.add_argument("--dsn", required=True, help="postgres://user@host/database")
    bricksllm.add_argument("--dry-run", action="store_true", help="check, write nothing")
    bricksllm.add_argument("--skip-invalid", action="store_true", help="leave these rows out")
    bricksllm.add_argument(
        "--on-conflict", choices=("keep", "replace"), default="", help="who wins"
    )
    bricksllm.add_argument(
        "--encrypted",
        action=argparse.BooleanOptionalAction,
        help="secrets were encrypted by the endpoints of ENABLE_ENCRYPTION",
    )
    bricksllm.add_argument("--json", action="store_true", dest="as_json")
    arguments = parser.parse_args()
    try:
        return asyncio.run(_run(arguments, load_settings()))
    except StoreUnavailable as error:
        sys.stderr.write(f"tollway: the configuration database does not answer: {error}\n")
        return 2
    except CannotRead as error:
        sys.stderr.write(f"tollway: {error}\n")
        return 2
    except asyncpg.PostgresError as error:
        sys.stderr.write(f"tollway: nothing was written: {error}\n")
        return 1
    except (BadSettings, CannotImport, Invalid, SealUnavailable, OSError) as error:
        sys.stderr.write(f"tollway: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
