"""The order of a run: rounds of all targets in turn, each started afresh, each mode measured."""

import contextlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from bench.load import LONG_BYTES, Counted, LoadFailed, Mode, request_body, run_wrk
from bench.machine import PeakMemory, core_time, cpu_s, pss_mb, wait_until_quiet
from bench.programs import NotReady, Program
from bench.rows import Failed, Measured, Row, Started
from bench.targets import Place, Running, Target, check_stream, post


class NotBooked(RuntimeError):
    """The ledger is wrong before anything was measured."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does. `window_s` overrides the modes' own; `work` is an empty directory."""

    targets: Sequence[Target]
    modes: Sequence[Mode]
    rounds: int
    proxy_core: int
    load_cores: frozenset[int]
    quiet_wait_s: float
    window_s: float | None = None
    home: Path
    work: Path


def run(plan: Plan, on_row: Callable[[Row], None]) -> None:
    """Measures everything; rows come as they are made. What was started is stopped at the end."""
    with _upstream(plan) as (url, pid):
        for round_no in range(1, plan.rounds + 1):
            for target in plan.targets:
                with tempfile.TemporaryDirectory(dir=plan.work, prefix=f"{target.name}-") as name:
                    directory = Path(name)
                    # A server that gives up root must still reach its files.
                    directory.chmod(0o755)
                    place = Place(
                        home=plan.home,
                        directory=directory,
                        proxy_core=plan.proxy_core,
                        load_cores=plan.load_cores,
                        upstream_url=url,
                        upstream_pid=pid,
                    )
                    try:
                        _measure_target(plan, target, place, round_no, on_row)
                    except (
                        NotReady,
                        LoadFailed,
                        NotBooked,
                        OSError,
                        ValueError,
                        KeyError,
                    ) as error:
                        kept = _keep_logs(plan.home, directory)
                        reason = f"{type(error).__name__}: {error} (logs in {kept})"
                        on_row(Failed(target=target.name, round_no=round_no, reason=reason))


@contextlib.contextmanager
def _upstream(plan: Plan) -> Iterator[tuple[str, int]]:
    argv = [str(plan.home / "fake_upstream"), "0"]
    log = plan.home / "fake_upstream.log"
    with Program(argv, cores=set(plan.load_cores), log=log, pipes_output=True) as program:
        port = program.output.readline().decode().strip()
        if not port:
            raise program.failed("the fake upstream did not listen")
        yield f"http://127.0.0.1:{port}", program.pid


def _measure_target(
    plan: Plan, target: Target, place: Place, round_no: int, on_row: Callable[[Row], None]
) -> None:
    version = target.version or _nginx_version()
    with target.start(place) as running:
        on_row(
            Started(
                target=target.name,
                version=version,
                round_no=round_no,
                cold_s=running.cold_s,
                pss_mb=pss_mb(running.proxy_pids()),
                parts_pss_mb={name: pss_mb(pids) for name, pids in running.parts().items()},
            )
        )
        check_stream(running.url, running.headers, running.model)
        answered = running.answered_at_start + 1
        # Pools fill, lazy imports happen, compilers warm up: none of it is measured. A slow stream
        # goes the way of a paced one, and takes longer.
        kinds = ("paced" if mode.kind == "slow" else mode.kind for mode in plan.modes)
        for kind in dict.fromkeys(kinds):
            if kind == "down":
                _check_long_answer(running)
                answered += 1
            warm_up = Mode("warm-up", kind, 16, 1)
            answered += _load(running, warm_up, plan).answered
        booked = running.count_booked(answered)
        if booked is not None and booked[0] != answered:
            raise NotBooked(f"{booked[0]} exchanges booked after {answered} answers")
        for mode in plan.modes:
            window_s = plan.window_s or mode.window_s
            measured = msgspec.structs.replace(mode, window_s=window_s)
            row = _measure(plan, target, version, running, measured, round_no, answered)
            answered += row.answered if row.booked is None else row.booked
            on_row(row)


def _load(running: Running, mode: Mode, plan: Plan) -> Counted:
    body = request_body(running.model, mode.kind)
    log = plan.home / "wrk.log"
    return run_wrk(running.url, running.headers, body, mode, set(plan.load_cores), log)


def _measure(
    plan: Plan,
    target: Target,
    version: str,
    running: Running,
    mode: Mode,
    round_no: int,
    booked_before: int,
) -> Measured:
    wait_until_quiet({plan.proxy_core, *plan.load_cores}, plan.quiet_wait_s)
    proxy, pinned, parts = running.proxy_pids(), running.pinned_pids(), running.parts()
    pss_before_mb, peak = pss_mb(proxy), PeakMemory(proxy)
    parts_before = {name: cpu_s(pids) for name, pids in parts.items()}
    core_before, pinned_before = core_time(plan.proxy_core).busy_s, cpu_s(pinned)
    cpu_before, began = cpu_s(proxy), time.monotonic()
    counted = _load(running, mode, plan)
    elapsed_s, proxy_s = time.monotonic() - began, cpu_s(proxy) - cpu_before
    pinned_s = cpu_s(pinned) - pinned_before
    rise_mb = peak.rise_mb()
    foreign_s = core_time(plan.proxy_core).busy_s - core_before - pinned_s
    booked = running.count_booked(booked_before + counted.answered)
    answers = max(1, counted.answered)
    return Measured(
        target=target.name,
        version=version,
        round_no=round_no,
        mode=mode.name,
        at=time.time(),
        window_s=mode.window_s,
        sent=counted.sent,
        answered=counted.answered,
        status_errors=counted.status_errors,
        socket_errors=counted.socket_errors,
        timeouts=counted.timeouts,
        answers_per_s=_rate(counted, mode, elapsed_s),
        answer_bytes=counted.bytes / answers,
        p50_ms=counted.p50_us / 1e3,
        p99_ms=counted.p99_us / 1e3,
        cpu_us=proxy_s / answers * 1e6,
        core_share=pinned_s / elapsed_s,
        foreign_share=max(0.0, foreign_s) / elapsed_s,
        pss_mb=pss_mb(proxy),
        parts_cpu_us={
            name: (cpu_s(pids) - parts_before[name]) / answers * 1e6 for name, pids in parts.items()
        },
        peak_mb=None if rise_mb is None else pss_before_mb + rise_mb,
        booked=None if booked is None else booked[0] - booked_before,
        booked_after_s=None if booked is None else booked[1],
    )


def _check_long_answer(running: Running) -> None:
    """One, so that what is measured is what was asked. Raises ValueError, OSError."""
    content = post(running.url, running.headers, request_body(running.model, "down"), 60.0)
    if len(content) < LONG_BYTES * 0.99:
        raise ValueError(f"a long answer of {len(content)} bytes")


def _rate(counted: Counted, mode: Mode, elapsed_s: float) -> float:
    """All connections have one under way when the window ends, so the others were answered in it.

    Where not every connection had one, only the time until all were says something: what is
    worked on side by side is answered in waves.
    """
    in_window = counted.sent - mode.connections
    is_enough = in_window >= mode.connections
    return in_window / mode.window_s if is_enough else counted.answered / elapsed_s


def _nginx_version() -> str:
    done = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
    found = re.search(r"nginx/(\S+)", done.stderr)
    return found[1] if found else "unknown"


def _keep_logs(home: Path, directory: Path) -> Path:
    kept = home / "failed"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for path in directory.rglob("*.log"):
        shutil.copy(path, kept / path.name)
    return kept
