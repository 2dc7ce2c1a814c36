"""What a consumer process says of itself, in a file and to the other members."""

from pathlib import Path
from typing import Literal

import msgspec

from metering.limits import Progress

PartitionCondition = Literal["starting", "metering", "waiting", "refused"]


class PartitionState(msgspec.Struct, frozen=True):
    """One partition. `problem` is the sentence of the newest error, None when all is well.

    `metered_up_to_ms` is Unix time: everything that reached the stream before it is booked. None
    while nothing is known. `lag_messages` are parcels that wait, `lag_ms` the age of the oldest.
    """

    condition: PartitionCondition
    problem: str | None
    metered_up_to_ms: int | None
    lag_ms: int | None
    lag_messages: int | None
    progress: Progress


class ConsumerState(msgspec.Struct, frozen=True):
    """`<DATA_DIR>/run/metering-<number>.state.json`, written every second."""

    pid: int
    birth: str | None
    is_ready: bool
    member: str
    at_ms: int
    partitions: dict[int, PartitionState]


class PartitionReport(msgspec.Struct, frozen=True):
    """A partition in a member's entry."""

    condition: PartitionCondition
    committed_seq: int
    metered_up_to_ms: int | None
    lag_ms: int | None
    lag_messages: int | None
    problem: str | None = None


class MemberReport(msgspec.Struct, frozen=True):
    """The value of a member's key in the MEMBERS bucket, JSON.

    `known` are all partitions that it knows of. `place` is equal for processes that see each
    other's pids, None where that cannot be told.
    """

    member: str
    at_ms: int
    partitions: dict[int, PartitionReport]
    pid: int = 0
    birth: str | None = None
    place: str | None = None
    known: tuple[int, ...] = ()


def consumer_state_path(data_dir: Path, number: int) -> Path:
    """Where a consumer writes its state."""
    return data_dir / "run" / f"metering-{number}.state.json"


def report_of(state: PartitionState) -> PartitionReport:
    """What others need to know of a partition."""
    return PartitionReport(
        state.condition,
        state.progress.committed_seq,
        state.metered_up_to_ms,
        state.lag_ms,
        state.lag_messages,
        state.problem,
    )
