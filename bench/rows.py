"""What a run of the bench writes down, one JSON object a line."""

from pathlib import Path

import msgspec


class Measured(msgspec.Struct, frozen=True, kw_only=True, tag="measured"):
    """One target under one mode in one round.

    `cpu_us` is the target's own CPU time by answer, of all its processes. `foreign_share` is the
    part of the proxy core that others took. `parts_cpu_us` are what stands behind the target (for
    Tollway the broker, metering and the stores), until everything was booked. `booked` is what the
    ledger gained, None where there is no ledger. `peak_mb` is the memory at the worst moment of the
    mode: what it was before, and how far each process rose above that.
    """

    target: str
    version: str
    round_no: int
    mode: str
    at: float
    window_s: float
    sent: int
    answered: int
    status_errors: int
    socket_errors: int
    timeouts: int
    answers_per_s: float
    answer_bytes: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    core_share: float
    foreign_share: float
    pss_mb: float
    parts_cpu_us: dict[str, float]
    peak_mb: float | None = None
    booked: int | None = None
    booked_after_s: float | None = None

    @property
    def errors(self) -> int:
        """Answers that were no success and requests without an answer."""
        return self.status_errors + self.socket_errors + self.timeouts

    @property
    def full_core_per_s(self) -> float:
        """What one core gives when nobody else takes part of it."""
        return 1e6 / self.cpu_us if self.cpu_us else float("nan")

    @property
    def is_booked_exactly(self) -> bool | None:
        """Whether the ledger gained one exchange an answer; None where there is no ledger."""
        return None if self.booked is None else self.booked == self.answered


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """A target answered for the first time in this round."""

    target: str
    version: str
    round_no: int
    cold_s: float
    pss_mb: float
    parts_pss_mb: dict[str, float]


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """A target could not be measured in this round, and why."""

    target: str
    round_no: int
    reason: str


Row = Measured | Started | Failed

_rows = msgspec.json.Decoder(Row)


def append(path: Path, row: Row) -> None:
    """Adds a line."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(row) + b"\n")


def read(path: Path) -> list[Row]:
    """All lines of a file. Raises OSError, msgspec.DecodeError."""
    return [_rows.decode(line) for line in path.read_bytes().splitlines() if line.strip()]
