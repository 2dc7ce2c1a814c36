"""`make bench`: measures Tollway beside nginx, LiteLLM's proxy and TensorZero's gateway."""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import msgspec

from bench.against import changes, has_regressed
from bench.home import AlreadyMeasuring, SetupFailed, bench_home, only_one, set_up
from bench.load import DEFAULT_MODES, MODES
from bench.machine import raise_descriptor_limit
from bench.peers import DIRECT, LITELLM, NGINX, TENSORZERO
from bench.report import as_json, as_text
from bench.rounds import Plan, run
from bench.rows import Failed, Measured, Row, Started, append, read
from bench.tollway import TOLLWAY

TARGETS: Final = {target.name: target for target in (NGINX, TOLLWAY, TENSORZERO, LITELLM, DIRECT)}
ALL: Final = "all"
QUICK_TARGETS: Final = ("nginx", "tollway", "tensorzero", "litellm")
QUICK_MODES: Final = ("c8", "c64", "burst")
REGRESSED_STATUS: Final = 3
INTERRUPTED_STATUS: Final = 130

_EXAMPLES: Final = """examples:
  make bench                                       the whole comparison, ten minutes
  make bench ARGS=--quick                          a first look in about a minute
  make bench ARGS="--targets nginx,tollway --modes c64 --rounds 5"
  make bench ARGS="--modes all"                    many connections, long bodies: 25 minutes
  make bench ARGS="--against bench/results/2026-11-22.jsonl"
  make bench ARGS="--show .tollway/bench/results/FILE.jsonl"
"""


def _names(known: Sequence[str], what: str) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        if names == (ALL,):
            return tuple(known)
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown) or 'nothing'} is no {what}; there are {', '.join(known)}"
            )
        return names

    return parse


def _cores(text: str) -> frozenset[int]:
    return frozenset(int(core) for core in text.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make bench",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="one short round; noisy")
    targets = f"of {', '.join(TARGETS)}; all but direct when left out"
    add("--targets", type=_names(list(TARGETS), "target"), metavar="A,B", help=targets)
    modes = f"of {', '.join(MODES)}, or {ALL}; when left out {', '.join(DEFAULT_MODES)}"
    add("--modes", type=_names(list(MODES), "mode"), metavar="A,B", help=modes)
    add("--rounds", type=int, metavar="N", help="rounds of all targets in turn (3)")
    add("--seconds", type=float, metavar="S", help="how long each mode sends (its own time)")
    add("--proxy-core", type=int, default=0, metavar="N", help="the target's core (0)")
    load = "cores of load, provider, broker, metering and stores, comma separated (1)"
    add("--load-cores", type=_cores, default=frozenset({1}), metavar="N", help=load)
    quiet = "seconds to wait for a quiet machine before each mode (60)"
    add("--quiet-wait", type=float, metavar="S", help=quiet)
    add("--out", type=Path, metavar="FILE", help="rows go here, one JSON object a line")
    add("--json", action="store_true", help="the summary as JSON in place of tables")
    show = "tables of earlier rows; measures nothing"
    against = "earlier rows: shows where a ratio fell since, and ends with status 3 if one did"
    add("--against", type=Path, nargs="+", metavar="FILE", default=[], help=against)
    add("--show", type=Path, nargs="+", metavar="FILE", help=show)
    return parser


def _plan(asked: argparse.Namespace, home: Path, work: Path) -> Plan:
    targets = asked.targets or QUICK_TARGETS
    modes = asked.modes or (QUICK_MODES if asked.quick else DEFAULT_MODES)
    quiet_wait_s: float = 2.0 if asked.quick else 60.0
    if asked.quiet_wait is not None:
        quiet_wait_s = asked.quiet_wait
    window_s: float | None = 2.0 if asked.quick else None
    if asked.seconds is not None:
        window_s = asked.seconds
    return Plan(
        targets=[TARGETS[name] for name in targets],
        modes=[MODES[name] for name in modes],
        rounds=asked.rounds or (1 if asked.quick else 3),
        proxy_core=asked.proxy_core,
        load_cores=asked.load_cores,
        quiet_wait_s=quiet_wait_s,
        window_s=window_s,
        home=home,
        work=work,
    )


def _progress(row: Row) -> None:
    if isinstance(row, Failed):
        text = f"failed: {row.reason}"
    elif isinstance(row, Started):
        text = f"answers after {row.cold_s:.1f} s"
    else:
        text = _progress_of(row)
    sys.stderr.write(f"round {row.round_no}  {row.target:11s} {text}\n")


def _progress_of(row: Measured) -> str:
    booked = "" if row.booked is None else f"  booked {row.booked}/{row.answered}"
    return (
        f"{row.mode:9s} {row.answers_per_s:9,.0f}/s  p50 {row.p50_ms:8.2f} ms  "
        f"CPU {row.cpu_us:8,.0f} us  core {row.core_share:4.0%}  others {row.foreign_share:4.0%}  "
        f"errors {row.errors}{booked}"
    )


def _problem(plan: Plan) -> str | None:
    available = os.sched_getaffinity(0)
    wanted = {plan.proxy_core, *plan.load_cores}
    if not wanted <= available:
        return f"cores {sorted(wanted - available)} are not there; there are {sorted(available)}"
    if plan.proxy_core in plan.load_cores:
        return "the proxy core must not carry the load"
    # A proxy has two for every connection, and some of its own.
    descriptors = 2 * max(mode.connections for mode in plan.modes) + 256
    if raise_descriptor_limit() < descriptors:
        return f"a process may not open {descriptors} files here (ulimit -Hn)"
    return None


def _on_terminate(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _show(rows: Sequence[Row], earlier: Sequence[Row], *, is_json: bool) -> int:
    print(json.dumps(as_json(rows, earlier)) if is_json else as_text(rows, earlier))
    return REGRESSED_STATUS if has_regressed(changes(earlier, rows)) else 0


def _rows_of(paths: Iterable[Path]) -> list[Row]:
    return [row for path in paths for row in read(path)]


def _measure(asked: argparse.Namespace) -> int:
    # Before anything is measured: a wrong name should not cost ten minutes.
    earlier = _rows_of(asked.against)
    home = bench_home()
    with only_one(home) as work:
        plan = _plan(asked, home, work)
        problem = _problem(plan)
        if problem is not None:
            sys.stderr.write(f"bench: {problem}\n")
            return 2
        set_up(home, (target.name for target in plan.targets))
        out: Path = asked.out or home / "results" / f"{time.strftime('%Y%m%dT%H%M%S')}.jsonl"
        out.parent.mkdir(parents=True, exist_ok=True)
        rows, status = _run(plan, out)
    regressed = 0
    if rows:
        regressed = _show(rows, earlier, is_json=asked.json)
        sys.stdout.flush()
        sys.stderr.write(f"\nrows: {out}\n")
    return status or int(any(isinstance(row, Failed) for row in rows)) or regressed


def _run(plan: Plan, out: Path) -> tuple[list[Row], int]:
    rows: list[Row] = []

    def on_row(row: Row) -> None:
        rows.append(row)
        append(out, row)
        _progress(row)

    try:
        run(plan, on_row)
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted, all stopped\n")
        return rows, INTERRUPTED_STATUS
    return rows, 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 measured (however slow), 1 a target failed, 2 bad wishes, 130 interrupted.

    3 only with `--against`: a ratio fell.
    """
    asked = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _on_terminate)
    try:
        if asked.show:
            return _show(_rows_of(asked.show), _rows_of(asked.against), is_json=asked.json)
        return _measure(asked)
    except (AlreadyMeasuring, SetupFailed, OSError, msgspec.DecodeError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS


if __name__ == "__main__":
    sys.exit(main())
