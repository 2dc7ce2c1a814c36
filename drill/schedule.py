"""What a seed brings: faults under load by weight, then stages in an order of its own."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from drill.books import Verdict
from drill.catalogue import CATALOGUE
from drill.disks import CannotMount
from drill.faults import NotInjected
from drill.installation import Installation
from drill.load import Load
from drill.quiet import settle
from drill.stages import STAGES

Note = Callable[[str], Any]

_FAILURES = (AssertionError, RuntimeError, TimeoutError)
"""NotInjected among them."""


class Outcome(msgspec.Struct):
    """One seed: what was done and what the books say afterwards."""

    seed: int
    took_s: float
    faults: list[str]
    stages: list[str]
    skipped: list[str]
    verdict: Verdict
    problem: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether everything was injected and nothing is missing or twice."""
        return self.verdict.is_clean and not self.problem


def plan(chance: random.Random, count: int) -> list[str]:
    """So many names of the catalogue, by weight."""
    weights = [weight for weight, _ in CATALOGUE.values()]
    return chance.choices(list(CATALOGUE), weights, k=count)


def plan_stages(chance: random.Random, count: int) -> list[str]:
    """So many stages, none of them twice, in any order."""
    return chance.sample(list(STAGES), min(count, len(STAGES)))


async def run(
    installation: Installation,
    load: Load,
    faults: Sequence[str],
    stages: Sequence[str],
    seed: int,
    *,
    per_s: float,
    note: Note,
) -> Outcome:
    """These faults under load, then quiet, then these stages; the books after each of the three
    are those of every request since the installation began. The first that are wrong end it.
    """
    chance = random.Random(seed)
    began = time.monotonic()
    outcome = Outcome(seed, 0.0, [], [], [], Verdict())
    if faults:
        await _faults(installation, load, faults, chance, outcome, per_s, note)
    for name in stages:
        if not outcome.is_clean:
            break
        await _stage(installation, load, name, chance, outcome, note)
    outcome.took_s = time.monotonic() - began
    return outcome


async def _faults(
    installation: Installation,
    load: Load,
    names: Sequence[str],
    chance: random.Random,
    outcome: Outcome,
    per_s: float,
    note: Note,
) -> None:
    async with load.running(per_s, slow_share=0.3):
        for name in names:
            await asyncio.sleep(chance.uniform(0.2, 1.0))
            try:
                outcome.faults.append(await CATALOGUE[name][1](installation, chance))
            except (NotInjected, RuntimeError, TimeoutError) as error:
                outcome.problem = f"{name}: {type(error).__name__} {error}"
                outcome.faults.append(f"NOT INJECTED {name}")
            note(outcome.faults[-1])
        await asyncio.sleep(0.3)
    await installation.all_ready()
    outcome.verdict = await settle(installation, load, timeout_s=90.0)


async def _stage(
    installation: Installation,
    load: Load,
    name: str,
    chance: random.Random,
    outcome: Outcome,
    note: Note,
) -> None:
    staged = STAGES[name]
    try:
        await installation.configure(staged.settings)
        await staged.stage(installation, load, chance, True)
        outcome.stages.append(name)
    except CannotMount as error:
        outcome.skipped.append(f"{name}: {error}")
    except _FAILURES as error:
        outcome.problem = f"{name}: {type(error).__name__} {error}"
    outcome.verdict = await settle(installation, load, timeout_s=90.0)
    note(name if outcome.is_clean else f"{name}: {outcome.problem or 'WRONG'}")
