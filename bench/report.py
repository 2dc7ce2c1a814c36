"""Tables of ratios out of rows, and the floors with met or not met."""

from collections.abc import Sequence
from statistics import median
from typing import Any

import msgspec

from bench.against import Change, changes
from bench.floors import Floor, floors
from bench.load import EVENTS, MODES
from bench.rows import Failed, Measured, Row, Started
from bench.summary import Summaries, Summary, summarise


def as_json(rows: Sequence[Row], earlier: Sequence[Row] = ()) -> dict[str, Any]:
    """Everything the tables hold. With earlier rows, what has changed since."""
    summaries = summarise(rows)
    return {
        "summaries": msgspec.to_builtins(list(summaries.values())),
        "floors": msgspec.to_builtins(floors(_cpu(summaries), _p50(summaries))),
        "changes": msgspec.to_builtins(changes(earlier, rows)),
        "failures": msgspec.to_builtins([row for row in rows if isinstance(row, Failed)]),
    }


def as_text(rows: Sequence[Row], earlier: Sequence[Row] = ()) -> str:
    """Markdown tables, aligned for a terminal. With earlier rows, one of what has changed since."""
    summaries = summarise(rows)
    targets = list(dict.fromkeys(target for target, _ in summaries))
    parts = [
        *(_json_table(summaries, targets, mode) for mode in ("c64", "c256", "c1024")),
        _latency_table(summaries, targets),
        *(_stream_table(summaries, targets, mode) for mode in ("burst", "paced", "paced1024")),
        _long_table(summaries, targets, "up1m", "Requests of 1 MB"),
        _long_table(summaries, targets, "down1m", "Answers of 1 MB"),
        _cost_table(rows, summaries, targets),
        _behind_table(rows, summaries),
        _floor_table(floors(_cpu(summaries), _p50(summaries))),
        _change_table(changes(earlier, rows)),
        _remarks(rows, summaries),
    ]
    return "\n".join(part for part in parts if part)


def _cpu(summaries: Summaries) -> dict[tuple[str, str], float]:
    return {key: summary.cpu_us for key, summary in summaries.items()}


def _p50(summaries: Summaries) -> dict[tuple[str, str], float]:
    return {key: summary.p50_ms for key, summary in summaries.items()}


def _json_table(summaries: Summaries, targets: Sequence[str], mode: str) -> str:
    rows = [
        [
            target,
            _rounds(summary),
            _number(summary.cpu_us),
            _number(summary.full_core_per_s),
            _number(summary.answers_per_s),
            *(_times(summaries, target, other, mode) for other in ("nginx", "litellm")),
            _times(summaries, target, "tensorzero", mode),
        ]
        for target in targets
        if (summary := summaries.get((target, mode))) is not None
    ]
    head = ["target", "rounds", "CPU us", "full core/s", "measured/s", "x nginx", "x LiteLLM"]
    return _table(f"JSON, {MODES[mode].connections} connections", [*head, "x TensorZero"], rows)


def _latency_table(summaries: Summaries, targets: Sequence[str]) -> str:
    measured = {mode for _, mode in summaries}
    modes = [name for name, mode in MODES.items() if mode.kind == "json" and name in measured]
    if not modes:
        return ""
    rows = []
    for target in targets:
        cells = [target]
        for mode in modes:
            summary = summaries.get((target, mode))
            cells += ["-", "-"] if summary is None else [_ms(summary.p50_ms), _ms(summary.p99_ms)]
        added = _added(summaries, target)
        rows.append([*cells, "-" if added is None else _ms(added)])
    columns = [f"{mode} {share}" for mode in modes for share in ("p50", "p99")]
    return _table("JSON, latency in ms", ["target", *columns, "c8 p50 over nginx"], rows)


def _added(summaries: Summaries, target: str) -> float | None:
    own, nginx = summaries.get((target, "c8")), summaries.get(("nginx", "c8"))
    return None if own is None or nginx is None else own.p50_ms - nginx.p50_ms


def _stream_table(summaries: Summaries, targets: Sequence[str], mode: str) -> str:
    rows = [
        [
            target,
            _rounds(summary),
            _number(summary.cpu_us),
            f"{summary.cpu_us / EVENTS:.1f}",
            _number(summary.full_core_per_s),
            _number(summary.answers_per_s),
            _number(summary.p50_ms),
            _number(summary.p99_ms),
            *(_times(summaries, target, other, mode) for other in ("nginx", "litellm")),
            _times(summaries, target, "tensorzero", mode),
        ]
        for target in targets
        if (summary := summaries.get((target, mode))) is not None
    ]
    head = ["target", "rounds", "CPU us", "CPU us/event", "full core/s", "measured/s", "p50 ms"]
    title = f"Streams of {EVENTS} events, {mode}, {MODES[mode].connections} connections"
    return _table(title, [*head, "p99 ms", "x nginx", "x LiteLLM", "x TensorZero"], rows)


def _long_table(summaries: Summaries, targets: Sequence[str], mode: str, title: str) -> str:
    rows = [
        [
            target,
            _rounds(summary),
            _number(summary.cpu_us),
            _number(summary.full_core_per_s),
            _number(summary.answers_per_s),
            _number(summary.p50_ms),
            _number(summary.p99_ms),
            _mb(summary.peak_mb),
            *(_times(summaries, target, other, mode) for other in ("nginx", "litellm")),
            _times(summaries, target, "tensorzero", mode),
        ]
        for target in targets
        if (summary := summaries.get((target, mode))) is not None
    ]
    head = ["target", "rounds", "CPU us", "full core/s", "measured/s", "p50 ms", "p99 ms"]
    title = f"{title}, {MODES[mode].connections} connections"
    return _table(title, [*head, "MB peak", "x nginx", "x LiteLLM", "x TensorZero"], rows)


def _cost_table(rows: Sequence[Row], summaries: Summaries, targets: Sequence[str]) -> str:
    lines = []
    for target in targets:
        started = [row for row in rows if isinstance(row, Started) and row.target == target]
        of = [summary for (name, _), summary in summaries.items() if name == target]
        lines.append(
            [
                target,
                started[0].version if started else "-",
                f"{median(row.pss_mb for row in started):.0f}" if started else "-",
                f"{max(summary.pss_mb for summary in of):.0f}",
                _mb(max((one.peak_mb for one in of if one.peak_mb is not None), default=None)),
                f"{median(row.cold_s for row in started):.1f}" if started else "-",
                str(sum(summary.errors for summary in of)),
                f"{max(summary.foreign_share for summary in of):.0%}",
            ]
        )
    head = ["target", "version", "MB idle", "MB loaded", "MB peak", "start s", "errors"]
    return _table("Memory (PSS), start, errors", [*head, "others on its core"], lines)


def _behind_table(every: Sequence[Row], summaries: Summaries) -> str:
    of = [summary for summary in summaries.values() if summary.parts_cpu_us]
    if not of:
        return ""
    names = list(of[0].parts_cpu_us)
    rows = [
        [
            summary.mode,
            *(f"{summary.parts_cpu_us.get(name, 0.0):.0f}" for name in names),
            "-" if summary.booked_after_s is None else f"{summary.booked_after_s:.1f}",
            "-" if summary.ledger_difference is None else str(summary.ledger_difference),
        ]
        for summary in of
    ]
    idle = [row.parts_pss_mb for row in every if isinstance(row, Started) and row.parts_pss_mb]
    if idle:
        rows.append(["MB idle", *(f"{idle[-1].get(name, 0.0):.0f}" for name in names), "-", "-"])
    title = "Behind Tollway's gateway, CPU us an exchange until all are booked"
    return _table(title, ["mode", *names, "booked after s", "ledger - answers"], rows)


def _floor_table(found: Sequence[Floor]) -> str:
    words = {True: "met", False: "NOT MET", None: "not measured"}
    rows = [
        [
            floor.name,
            floor.wanted,
            "-" if floor.reached is None else floor.reached,
            words[floor.is_met],
        ]
        for floor in found
    ]
    return _table("Floors", ["floor", "wanted", "reached", ""], rows)


def _change_table(found: Sequence[Change]) -> str:
    rows = [
        [
            change.mode,
            change.peer,
            _ratio(change.times_then),
            _ratio(change.times_now),
            f"{change.change:+.0%}",
            "-" if change.spread is None else f"{change.spread:.0%}",
            change.verdict,
            "" if change.versions[0] == change.versions[1] else " then ".join(change.versions),
        ]
        for change in found
    ]
    title = "Tollway's work per core as a multiple of a peer's, then and now"
    head = ["mode", "peer", "then", "now", "change", "rounds differ by", "", "peer's releases"]
    return _table(title, head, rows)


def _remarks(rows: Sequence[Row], summaries: Summaries) -> str:
    lines = [
        f"{row.target}, round {row.round_no}: failed: {row.reason}"
        for row in rows
        if isinstance(row, Failed)
    ]
    lines += [
        f"{summary.target} {summary.mode}: noisy, others took up to "
        f"{summary.foreign_share:.0%} of its core"
        for summary in summaries.values()
        if summary.is_noisy
    ]
    lines += [
        f"{row.target} {row.mode}, round {row.round_no}: of {row.sent} sent {row.answered} answered, "
        f"{row.status_errors} of them with an error; {row.socket_errors} broken, "
        f"{row.timeouts} timed out"
        for row in rows
        if isinstance(row, Measured) and row.errors
    ]
    lines += [
        f"{row.target} {row.mode}, round {row.round_no}: {row.booked} exchanges booked for "
        f"{row.answered} answers ({row.sent} sent, {row.errors} errors)"
        for row in rows
        if isinstance(row, Measured) and row.is_booked_exactly is False
    ]
    return "\n".join(lines)


def _times(summaries: Summaries, target: str, other: str, mode: str) -> str:
    """How many times the other's work per core, by CPU time: foreign load does not move it."""
    own, others = summaries.get((target, mode)), summaries.get((other, mode))
    if own is None or others is None or not own.cpu_us:
        return "-"
    return _ratio(others.cpu_us / own.cpu_us)


def _ratio(times: float) -> str:
    return f"{times:.3f}" if times < 1 else f"{times:.2f}" if times < 10 else f"{times:.0f}"


def _rounds(summary: Summary) -> str:
    return f"{summary.rounds_kept}/{summary.rounds}{'~' if summary.is_noisy else ''}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ms(value: float) -> str:
    return f"{value:.2f}"


def _mb(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([f"\n{title}\n", line(head), rule, *(line(row) for row in rows)])
