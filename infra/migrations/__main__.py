"""`python -m infra.migrations [--dry-run] [--phase pre|post|all]`."""

import argparse
import asyncio
import sys

from infra.migrations.files import MigrationChanged
from infra.migrations.migrate import StoreFailed, migrate
from infra.migrations.settings import MigrationSettings
from runtime.output import say
from runtime.settings import BadSettings, load


def main(argv: list[str] | None = None) -> int:
    """Prints what was done. Returns 2 for settings that cannot be used, 1 for a changed file
    or a store that cannot be reached."""
    parser = argparse.ArgumentParser(prog="python -m infra.migrations")
    parser.add_argument("--dry-run", action="store_true", help="print, change nothing")
    parser.add_argument("--phase", choices=("pre", "post", "all"), default="all")
    arguments = parser.parse_args(argv)
    try:
        lines = asyncio.run(
            migrate(load(MigrationSettings), phase=arguments.phase, dry_run=arguments.dry_run)
        )
    except BadSettings as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    except (MigrationChanged, StoreFailed) as error:
        print(error, file=sys.stderr)
        return 1
    say("\n".join(lines or ["nothing to do"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
