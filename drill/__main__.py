"""`python -m drill`: seeds of faults against the whole product; status 1 when the books are wrong.

With `--prove` each fault comes twice, the second time without the protection that it exercises;
status 1 when the drill did not notice, or when the first time was wrong already.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from drill import schedule
from drill.catalogue import CATALOGUE
from drill.disks import CannotMount
from drill.installation import Installation
from drill.load import Load
from drill.proof_catalogue import PROOFS
from drill.proofs import prove
from drill.stages import STAGES


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m drill", description=__doc__)
    parser.add_argument("--seeds", type=int, default=8, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--faults", type=int, default=20, help="faults a seed")
    parser.add_argument("--stages", type=int, default=6, help="stages a seed, after its faults")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second")
    parser.add_argument(
        "--only", action="append", default=[], help="this fault or stage only; repeatable"
    )
    parser.add_argument("--keep", action="store_true", help="keep the data of clean seeds too")
    parser.add_argument("--list", action="store_true", help="name every fault and stage, and end")
    parser.add_argument(
        "--prove",
        action="store_true",
        help="switch a protection off under each fault, and see it noticed; --only takes part of a name",
    )
    return parser.parse_args()


def _plan(arguments: argparse.Namespace, chance: random.Random) -> tuple[list[str], list[str]]:
    """The faults and the stages of a seed."""
    only: list[str] = arguments.only
    if not only:
        return (
            schedule.plan(chance, arguments.faults),
            schedule.plan_stages(chance, arguments.stages),
        )
    faults = [name for name in only if name in CATALOGUE]
    return (
        [chance.choice(faults) for _ in range(arguments.faults if faults else 0)],
        [name for name in only if name in STAGES],
    )


async def _seed(arguments: argparse.Namespace, seed: int) -> schedule.Outcome:
    directory = Path(tempfile.mkdtemp(prefix=f"tollway-drill-{seed}-"))
    chance = random.Random(seed)
    faults, stages = _plan(arguments, chance)
    began = time.monotonic()

    def note(text: str) -> None:
        sys.stderr.write(f"  seed {seed} {time.monotonic() - began:6.1f} s  {text}\n")

    async with Installation.running(directory) as installation:
        load = Load(installation.proxy_port, installation.key, chance, f"s{seed}")
        note("up")
        outcome = await schedule.run(
            installation, load, faults, stages, seed, per_s=arguments.rate, note=note
        )
    if outcome.is_clean and not arguments.keep:
        shutil.rmtree(directory)
    else:
        sys.stderr.write(f"  seed {seed} kept in {directory}\n{outcome.verdict}\n")
        if outcome.problem:
            sys.stderr.write(f"  {outcome.problem}\n")
    return outcome


async def _prove(arguments: argparse.Namespace) -> int:
    wanted = [
        (number, proof)
        for number, proof in enumerate(PROOFS, 1)
        if not arguments.only or any(part in proof.name for part in arguments.only)
    ]
    missed = []
    for number, proof in wanted:
        directory = Path(tempfile.mkdtemp(prefix=f"tollway-proof-{number}-"))
        try:
            proved = await prove(proof, directory, number)
        except CannotMount as error:
            sys.stdout.write(f"| {proof.scenario} | {proof.protection} | skipped: {error} |\n")
            continue
        said = str(proved).replace("|", "/")
        sys.stdout.write(f"| {proof.scenario} | {proof.protection} | {said} |\n")
        sys.stdout.flush()
        if proved.is_proved and not arguments.keep:
            shutil.rmtree(directory)
        elif not proved.is_proved:
            missed.append(proof.name)
            sys.stderr.write(f"  NOT NOTICED {proof.name}, kept in {directory}\n")
    sys.stderr.write(f"  {len(wanted) - len(missed)} of {len(wanted)} noticed\n")
    return 1 if missed else 0


_COLUMNS = ("requests", "whole", "refused", "unanswered", "booked", "abandoned", "corrections")
_BAD = ("unpriced", "lost", "doubled", "wrong", "strange")


async def _run(arguments: argparse.Namespace) -> int:
    outcomes = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        outcome = await _seed(arguments, seed)
        outcomes.append(outcome)
        row = outcome.verdict.row()
        line = {
            "seed": seed,
            "took_s": round(outcome.took_s, 1),
            **row,
            "faults": outcome.faults,
            "stages": outcome.stages,
            "skipped": outcome.skipped,
        }
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
        sys.stdout.flush()
    head = ("seed", "faults", "stages", "took_s", *_COLUMNS, *_BAD)
    sys.stdout.write("\n" + " ".join(f"{name:>11}" for name in head) + "\n")
    for outcome in outcomes:
        row = outcome.verdict.row()
        done = (len(outcome.faults), len(outcome.stages), round(outcome.took_s))
        cells = (outcome.seed, *done, *map(row.get, head[4:]))
        sys.stdout.write(" ".join(f"{cell!s:>11}" for cell in cells) + "\n")
    sums = [sum(outcome.verdict.row()[name] for outcome in outcomes) for name in head[4:]]
    faults = sum(len(outcome.faults) for outcome in outcomes)
    stages = sum(len(outcome.stages) for outcome in outcomes)
    took_s = round(sum(outcome.took_s for outcome in outcomes))
    cells = ("all", faults, stages, took_s, *sums)
    sys.stdout.write(" ".join(f"{cell!s:>11}" for cell in cells) + "\n")
    return 0 if all(outcome.is_clean for outcome in outcomes) else 1


def main() -> int:
    """The exit status."""
    arguments = _arguments()
    if arguments.list:
        sys.stdout.write("\n".join((*CATALOGUE, *STAGES)) + "\n")
        return 0
    return asyncio.run(_prove(arguments) if arguments.prove else _run(arguments))


if __name__ == "__main__":
    sys.exit(main())
