"""Which faults a seed brings, and when: chosen by weight, one after another, under load."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from drill import faults
from drill.books import Verdict
from drill.installation import TARGETS, Installation
from drill.load import Load
from drill.quiet import settle

Make = Callable[[Installation, random.Random], Awaitable[str]]


class Outcome(msgspec.Struct):
    """One seed: what was done and what the books say afterwards."""

    seed: int
    took_s: float
    faults: list[str]
    verdict: Verdict
    problem: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether everything was injected and nothing is missing or twice."""
        return self.verdict.is_clean and not self.problem


_WHERE: Final = ("before", "sent", "after")


def _kill(target: str) -> Make:
    return lambda installation, chance: faults.kill(installation, target, chance)


def _pause(target: str, seconds: float) -> Make:
    return lambda installation, chance: faults.pause(installation, target, seconds, chance)


def _cut_insert(where: str) -> Make:
    return lambda installation, _: faults.cut_insert(installation, where)


def _kill_consumer(where: str) -> Make:
    return lambda installation, _: faults.kill_consumer_at(installation, where)


def _kill_ledger(where: str) -> Make:
    return lambda installation, chance: faults.kill_ledger_at(installation, where, chance)


CATALOGUE: Final[dict[str, tuple[int, Make]]] = {
    **{f"kill {target}": (2, _kill(target)) for target in TARGETS},
    **{f"pause {target}": (1, _pause(target, faults.SHORT_PAUSE_S)) for target in TARGETS},
    **{f"long pause {target}": (1, _pause(target, faults.LONG_PAUSE_S)) for target in TARGETS},
    "reset nats": (3, lambda i, c: faults.reset(i.nats_proxy, c.randint(1, 4), c)),
    "reset clickhouse": (2, lambda i, c: faults.reset(i.clickhouse_proxy, c.randint(1, 4), c)),
    **{f"cut insert {where}": (2, _cut_insert(where)) for where in _WHERE},
    **{f"kill consumer {where}": (2, _kill_consumer(where)) for where in _WHERE},
    **{f"kill ledger {where}": (2, _kill_ledger(where)) for where in ("sent", "after")},
    "late insert": (2, lambda i, _: faults.late_insert(i, pauses_consumer=False)),
    "late zombie": (2, lambda i, _: faults.late_insert(i, pauses_consumer=True)),
    "stuck partition": (1, lambda i, _: faults.stuck_partition(i, faults.LONG_PAUSE_S)),
    "lost parcels": (3, faults.lose_parcels),
    "checkpoints put back": (1, lambda i, c: faults.put_nats_back(i, "checkpoints", c)),
    "nats put back": (1, lambda i, c: faults.put_nats_back(i, "all", c)),
    "checkpoints wiped": (1, lambda i, _: faults.wipe_nats(i, "checkpoints")),
}
"""Every fault that heals by itself, with its weight."""


def plan(chance: random.Random, count: int) -> list[str]:
    """So many names of the catalogue, by weight."""
    weights = [weight for weight, _ in CATALOGUE.values()]
    return chance.choices(list(CATALOGUE), weights, k=count)


async def run(
    installation: Installation,
    load: Load,
    names: list[str],
    seed: int,
    *,
    per_s: float,
    note: Callable[[str], Any] = lambda _: None,
    timeout_s: float = 90.0,
) -> Outcome:
    """Load and these faults, one after another; then quiet, then the books."""
    chance = random.Random(seed)
    began = time.monotonic()
    done: list[str] = []
    problem = ""
    async with load.running(per_s, slow_share=0.3):
        for name in names:
            await asyncio.sleep(chance.uniform(0.2, 1.0))
            try:
                done.append(await CATALOGUE[name][1](installation, chance))
            except (faults.NotInjected, RuntimeError, TimeoutError) as error:
                problem = f"{name}: {type(error).__name__} {error}"
                done.append(f"NOT INJECTED {name}")
            note(done[-1])
        await asyncio.sleep(0.3)
    await installation.all_ready()
    verdict = await settle(installation, load, timeout_s=timeout_s)
    return Outcome(seed, time.monotonic() - began, done, verdict, problem)
