"""What Tollway must reach for each core, as the project set it; floors, not goals."""

from collections.abc import Mapping
from typing import Final

import msgspec

from bench.load import EVENTS

OWN: Final = "tollway"

ByTargetAndMode = Mapping[tuple[str, str], float]


class Floor(msgspec.Struct, frozen=True):
    """One floor: what is wanted, what was reached. None: its rows are not there."""

    name: str
    wanted: str
    reached: str | None
    is_met: bool | None


def floors(cpu_us: ByTargetAndMode, p50_ms: ByTargetAndMode) -> list[Floor]:
    """All of them. Ratios are of CPU time an answer, which is work per core."""
    return [
        _times(cpu_us, "JSON against LiteLLM", "c64", "litellm", 40.0),
        _times(cpu_us, "JSON against TensorZero", "c64", "tensorzero", 0.6),
        _at_most("JSON, CPU us an answer", cpu_us.get((OWN, "c64")), 240.0, "us"),
        _times(cpu_us, "stream bursts against LiteLLM", "burst", "litellm", 60.0),
        _times(cpu_us, "stream bursts against TensorZero", "burst", "tensorzero", 2.0),
        _at_most("paced streams, CPU us an event", _by_event(cpu_us), 40.0, "us"),
        _below("median added over nginx, 8 connections", _added(p50_ms), 1.0, "ms"),
    ]


def _times(cpu_us: ByTargetAndMode, name: str, mode: str, other: str, wanted: float) -> Floor:
    own, others = cpu_us.get((OWN, mode)), cpu_us.get((other, mode))
    reached = others / own if own and others is not None else None
    return Floor(
        name,
        f">= {wanted:g}x",
        None if reached is None else f"{reached:.2f}x",
        None if reached is None else reached >= wanted,
    )


def _at_most(name: str, reached: float | None, wanted: float, unit: str) -> Floor:
    return Floor(
        name,
        f"<= {wanted:g} {unit}",
        None if reached is None else f"{reached:.1f} {unit}",
        None if reached is None else reached <= wanted,
    )


def _below(name: str, reached: float | None, wanted: float, unit: str) -> Floor:
    return Floor(
        name,
        f"< {wanted:g} {unit}",
        None if reached is None else f"{reached:.2f} {unit}",
        None if reached is None else reached < wanted,
    )


def _by_event(cpu_us: ByTargetAndMode) -> float | None:
    stream_us = cpu_us.get((OWN, "paced"))
    return None if stream_us is None else stream_us / EVENTS


def _added(p50_ms: ByTargetAndMode) -> float | None:
    own, nginx = p50_ms.get((OWN, "c8")), p50_ms.get(("nginx", "c8"))
    return None if own is None or nginx is None else own - nginx
