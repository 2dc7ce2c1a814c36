"""In which order the settings of a key are tried for one call."""

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final

from gateway.routing.health import Health
from gateway.values import Principal, Target

_HASHES: Final = 2.0**64


def in_order(
    candidates: Sequence[Target],
    principal: Principal,
    user_id: str | None,
    model: str | None,
    health: Health,
    draw: Callable[[], float],
) -> list[Target]:
    """All candidates, the one to try first in front.

    The lowest priority number goes first; within one, the key's balancing decides. Settings that
    rest come after all others, the one that rests least in front. `draw` gives numbers from 0 to 1,
    exclusive.
    """
    balancing = principal.balancing
    keys: dict[str, float]
    if balancing == "random":
        keys = {one.ref.setting_id: draw() for one in candidates}
    elif balancing == "weighted":
        keys = {one.ref.setting_id: _late(draw(), one.weight) for one in candidates}
    elif balancing == "least_busy":
        keys = {one.ref.setting_id: health.under_way(one.ref.setting_id) for one in candidates}
    elif balancing == "sticky":
        seed = "\0".join((principal.key_id, user_id or "", model or ""))
        keys = {
            one.ref.setting_id: _late(_share(seed, one.ref.setting_id), one.weight)
            for one in candidates
        }
    else:
        keys = {}
    # A stable sort: where nothing else decides, the key's own order does.
    ordered = sorted(candidates, key=lambda one: (one.priority, keys.get(one.ref.setting_id, 0)))
    if health.is_clear:
        return ordered
    rests = {one.ref.setting_id: health.rests_for_s(one.ref.setting_id) for one in ordered}
    return sorted(ordered, key=lambda one: rests[one.ref.setting_id])


def _late(share: float, weight: int) -> float:
    """When a candidate's turn would come if turns came at random, `weight` times a unit of time.

    The first is each candidate in proportion to its weight, and so on among the rest.
    """
    return -math.log(share or 0.5 / _HASHES) / max(weight, 1)


def _share(seed: str, setting_id: str) -> float:
    """A number from 0 to 1 that is the same for the same call, in every worker."""
    digest = blake2b(f"{seed}\0{setting_id}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big") / _HASHES
