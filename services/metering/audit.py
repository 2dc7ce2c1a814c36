"""`metering audit`: journal = stream = ledger = projection for a window, and every difference named.

Evidence is gathered first, the ledger read last: what a checkpoint calls booked must be in it.
Memory: about 200 bytes an event of the window.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from nats.js.errors import NotFoundError

from contracts import subjects
from contracts.checkpoint import Position
from contracts.ids import from_text, to_text
from contracts.records import SEGMENT_HEADER_BYTES, BadSegment, SegmentHeader
from metering.adapters.clickhouse_ledger import ClickHouse
from metering.adapters.nats_checkpoint import NatsCheckpoints
from metering.adapters.nats_link import NatsLink, as_unavailable
from metering.adapters.nats_stream import DirectReader, NatsPartitionStream, found_partitions
from metering.evidence import Evidence, Gap

_READ_BYTES: Final = 16 * 1024 * 1024
_NAMED_MAX: Final = 100
_HOUR_MS: Final = 3_600_000
_WINDOW: Final = (
    "occurred_at >= fromUnixTimestamp64Milli({from:Int64}) "
    "AND occurred_at < fromUnixTimestamp64Milli({to:Int64})"
)


class Findings(msgspec.Struct, frozen=True):
    """What an audit found. Lists name at most a hundred; times are Unix milliseconds.

    `waiting` events are in journal or stream and not yet booked; `open` admissions have no end yet.
    `ledger_only` events are in the ledger alone: natural once the stream is purged.
    """

    from_ms: int
    to_ms: int
    is_right: bool
    evidence_events: int
    ledger_events: int
    ledger_requests: int
    ledger_rows: int
    by_outcome: dict[str, int]
    cost_usd: str
    unpriced: int
    unknown: int
    waiting: int
    open: int
    ledger_only: int
    is_purged: bool
    missing: list[str]
    not_one: list[str]
    gaps: list[Gap]
    projection_differs: list[str]
    pending_partitions: list[int]
    dead_letters: int
    unreadable: int
    took_s: float


async def audit(
    link: NatsLink, clickhouse: ClickHouse, data_dir: Path, from_ms: int, to_ms: int
) -> Findings:
    """Raises Unavailable, Refused."""
    began = time.monotonic()
    partitions = sorted(await found_partitions(link))
    positions, pending = await _positions(link, partitions)
    evidence = Evidence(positions, from_ms, to_ms)
    put_aside = await _put_aside(link)
    is_purged = await _read_stream(link, partitions, evidence, put_aside)
    for incarnation, offset, content in journal_ranges(data_dir / "journal"):
        evidence.take(incarnation, offset, content)
    window = {"from": str(from_ms), "to": str(to_ms)}
    net = await _net(clickhouse, window)
    totals = await _totals(clickhouse, window)
    projection = await _projection_differs(clickhouse, from_ms, to_ms)
    booked = [event for event, where in evidence.ended.items() if where == "booked"]
    missing = sorted(to_text(event) for event in booked if event not in net)
    not_one = sorted(to_text(event) for event, requests in net.items() if requests != 1)
    ledger_only = sum(
        1 for event in net if event not in evidence.ended and event not in evidence.admitted
    )
    gaps = evidence.gaps()
    return Findings(
        from_ms=from_ms,
        to_ms=to_ms,
        is_right=not (missing or not_one or gaps or projection or (ledger_only and not is_purged)),
        evidence_events=len(evidence.ended.keys() | evidence.admitted.keys()),
        ledger_events=len(net),
        ledger_requests=sum(net.values()),
        ledger_rows=totals.rows,
        by_outcome=totals.by_outcome,
        cost_usd=totals.cost_usd,
        unpriced=totals.unpriced,
        unknown=totals.unknown,
        waiting=sum(
            1 for event, where in evidence.ended.items() if where == "waiting" and event not in net
        ),
        open=evidence.open(net),
        ledger_only=ledger_only,
        is_purged=is_purged,
        missing=missing[:_NAMED_MAX],
        not_one=not_one[:_NAMED_MAX],
        gaps=gaps[:_NAMED_MAX],
        projection_differs=projection[:_NAMED_MAX],
        pending_partitions=pending,
        dead_letters=await _dead_letters(link),
        unreadable=evidence.unreadable,
        took_s=round(time.monotonic() - began, 3),
    )


async def _positions(
    link: NatsLink, partitions: list[int]
) -> tuple[dict[str, Position], list[int]]:
    with as_unavailable():
        bucket = await link.jetstream.key_value(subjects.CHECKPOINTS_BUCKET)
    positions: dict[str, Position] = {}
    pending = []
    for partition in partitions:
        checkpoint, _ = await NatsCheckpoints(link, bucket, partition).read()
        if checkpoint is not None:
            positions.update(checkpoint.incarnations)
            if checkpoint.pending is not None:
                pending.append(partition)
    return positions, pending


async def _read_stream(
    link: NatsLink, partitions: list[int], evidence: Evidence, put_aside: set[tuple[str, int]]
) -> bool:
    """Every parcel there is; whether the stream has been purged at its beginning."""
    reader = DirectReader(link)
    for partition in partitions:
        stream = NatsPartitionStream(link, reader, partition)
        seq = 1
        while messages := await stream.read(seq, _READ_BYTES):
            for message in messages:
                headers = message.headers
                if headers is None or (headers.incarnation.hex(), message.seq) in put_aside:
                    continue
                evidence.take(headers.incarnation.hex(), headers.offset, message.content)
            seq = messages[-1].seq + 1
    with as_unavailable():
        info = await link.jetstream.stream_info(subjects.EXCHANGES_STREAM)
    return info.state.first_seq > 1


async def _put_aside(link: NatsLink) -> set[tuple[str, int]]:
    """Parcels that were dead-lettered whole: (incarnation, sequence)."""
    found: set[tuple[str, int]] = set()
    with as_unavailable():
        try:
            info = await link.jetstream.stream_info(subjects.DEAD_LETTERS_STREAM)
        except NotFoundError:
            return found
        for seq in range(max(info.state.first_seq, 1), info.state.last_seq + 1):
            with contextlib.suppress(NotFoundError):
                letter = await link.jetstream.get_msg(
                    subjects.DEAD_LETTERS_STREAM, seq=seq, direct=True
                )
                headers = letter.headers or {}
                if headers.get("Tw-Reason", "").startswith("fork"):
                    found.add((headers.get("Tw-Incarnation", ""), int(headers["Tw-Sequence"])))
    return found


async def _dead_letters(link: NatsLink) -> int:
    with as_unavailable():
        try:
            info = await link.jetstream.stream_info(subjects.DEAD_LETTERS_STREAM)
        except NotFoundError:
            return 0
    return info.state.messages


def journal_ranges(journal_dir: Path) -> Iterator[tuple[str, int, bytes]]:
    """Incarnation, logical offset and records of every segment file below a directory."""
    for path in sorted(journal_dir.rglob("*")) if journal_dir.is_dir() else ():
        if not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                header = SegmentHeader.unpack(file.read(SEGMENT_HEADER_BYTES))
                content = file.read()
        except (OSError, BadSegment):
            continue
        yield header.incarnation.hex(), header.base_offset, content


async def _net(clickhouse: ClickHouse, window: dict[str, str]) -> dict[bytes, int]:
    rows = await clickhouse.rows(
        "SELECT event_id, sum(requests) FROM entries "  # noqa: S608 - constants
        f"WHERE {_WINDOW} AND run_id = toUUID('00000000-0000-0000-0000-000000000000') "
        "GROUP BY event_id",
        **window,
    )
    return {from_text(event): int(requests) for event, requests in rows}


class _Totals(msgspec.Struct, frozen=True):
    rows: int
    by_outcome: dict[str, int]
    cost_usd: str
    unpriced: int
    unknown: int


async def _totals(clickhouse: ClickHouse, window: dict[str, str]) -> _Totals:
    [[rows, cost_usd, unpriced, unknown]] = await clickhouse.rows(
        "SELECT count(), toString(sum(cost_usd)), "  # noqa: S608 - constants
        "sumIf(requests, rating_status = 'unpriced'), sumIf(requests, rating_status = 'unknown') "
        f"FROM entries WHERE {_WINDOW}",
        **window,
    )
    outcomes = await clickhouse.rows(
        "SELECT outcome, sum(requests) FROM entries "  # noqa: S608 - constants
        f"WHERE {_WINDOW} GROUP BY outcome ORDER BY outcome",
        **window,
    )
    return _Totals(
        int(rows),
        {outcome: int(requests) for outcome, requests in outcomes},
        cost_usd or "0",
        int(unpriced),
        int(unknown),
    )


async def _projection_differs(clickhouse: ClickHouse, from_ms: int, to_ms: int) -> list[str]:
    """Hours and keys whose projection says something else than the rows; whole hours only."""
    window = {
        "from": str(-(-from_ms // _HOUR_MS) * _HOUR_MS),
        "to": str(to_ms // _HOUR_MS * _HOUR_MS),
    }
    answers = []
    for use in ("1", "0"):
        rows = await clickhouse.rows(
            "SELECT toString(toStartOfHour(occurred_at) AS hour), "  # noqa: S608 - constants
            "key_id, sum(requests), "
            "toString(sum(cost_usd)), sum(input_tokens), sum(output_tokens) FROM entries "
            "WHERE hour >= fromUnixTimestamp64Milli({from:Int64}) "
            "AND hour < fromUnixTimestamp64Milli({to:Int64}) GROUP BY hour, key_id "
            f"SETTINGS optimize_use_projections = {use}",
            **window,
        )
        answers.append({(row[0], row[1]): tuple(row[2:]) for row in rows})
    projected, plain = answers
    return [
        f"{hour} {key}: projection {projected.get((hour, key))}, rows {plain.get((hour, key))}"
        for hour, key in sorted(projected.keys() | plain.keys())
        if projected.get((hour, key)) != plain.get((hour, key))
    ]


def as_text(findings: Findings) -> str:
    """For people."""
    lines = [
        f"{findings.ledger_requests} requests in {findings.ledger_rows} rows of the ledger, "
        f"{findings.evidence_events} events in stream and journals "
        f"({findings.waiting} waiting to be booked, {findings.open} still open)",
        "outcomes: "
        + (", ".join(f"{name} {n}" for name, n in findings.by_outcome.items()) or "none"),
        f"cost {findings.cost_usd} USD, unpriced {findings.unpriced}, unknown {findings.unknown}, "
        f"dead letters {findings.dead_letters}",
    ]
    for title, names in (
        ("booked, but not in the ledger", findings.missing),
        ("net effect is not one", findings.not_one),
        ("projection differs", findings.projection_differs),
        ("gap", [f"{g.incarnation} [{g.from_offset}, {g.to_offset})" for g in findings.gaps]),
    ):
        lines += [f"{title}: {name}" for name in names]
    if findings.ledger_only and not findings.is_purged:
        lines.append(f"{findings.ledger_only} events are in the ledger alone")
    lines.append("no difference" if findings.is_right else "DIFFERENT")
    return "\n".join(lines)
