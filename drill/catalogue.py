"""Faults that heal by themselves, by name and weight: what a seed chooses from, under load."""

import random
from collections.abc import Awaitable, Callable
from typing import Final

from drill import faults
from drill.installation import TARGETS, Installation

Make = Callable[[Installation, random.Random], Awaitable[str]]

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
