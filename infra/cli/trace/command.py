"""`tollway trace replay`: the files' requests, played, then compared with the ledger."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import uvloop
from cyclopts import Parameter

from infra.cli.parameters import DATA_DIR_DEFAULT, AsJson, DataDir
from infra.cli.problems import Problem
from infra.cli.reports import Reports, Totals
from infra.cli.settings import admin_pass
from infra.cli.trace.player import Plan, Player
from infra.cli.trace.rows import Row, merged, model_for, read_rows
from infra.embedded.instance import Addresses, Demo, read_addresses, read_demo

FAILED_STATUS = 1
BOOKS_DIFFER_STATUS = 4
LABEL_CHARACTERS = 13


def replay(
    files: Annotated[list[Path], Parameter(help="TIMESTAMP,ContextTokens,GeneratedTokens")],
    /,
    *,
    speed: Annotated[
        str, Parameter(help="max, or how many times the recorded pace (1 is as recorded).")
    ] = "max",
    model: Annotated[
        str | None,
        Parameter(help="Model asked; else gpt-4o for conv, gpt-4o-mini for code, by file name."),
    ] = None,
    limit: Annotated[int | None, Parameter(help="Only so many requests.")] = None,
    concurrency: Annotated[int, Parameter(help="Requests at once.")] = 64,
    verify: Annotated[bool, Parameter(help="Wait for metering and compare the ledger.")] = True,
    verify_timeout: Annotated[float, Parameter(help="Seconds to wait for metering.")] = 120.0,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    as_json: AsJson = False,
) -> int:
    """Play Azure LLM trace files through the running gateway against the demo provider.

    Exit status 1 when a request failed, 4 when the ledger does not say what was played.
    """
    pace = _pace(speed)
    if concurrency < 1 or (limit is not None and limit < 0):
        raise Problem("--concurrency is at least 1, --limit not negative")
    rows = merged([read_rows(path, model_for(path, model)) for path in files], limit)
    addresses, demo = _instance(data_dir.resolve())
    plan = Plan(
        url=addresses.proxy_url,
        key=demo.key,
        concurrency=concurrency,
        speed=pace,
        run=f"replay-{time.time_ns() // 1_000_000:x}",
    )
    return uvloop.run(
        _replay(
            plan, rows, addresses, demo, verify_s=verify_timeout if verify else 0, as_json=as_json
        )
    )


def _pace(speed: str) -> float | None:
    if speed == "max":
        return None
    try:
        pace = float(speed)
    except ValueError:
        pace = 0.0
    if not 0.0 < pace < 1e9:
        raise Problem(f"--speed {speed}: write max, or a number above 0")
    return pace


def _instance(data_dir: Path) -> tuple[Addresses, Demo]:
    addresses = read_addresses(data_dir)
    demo = read_demo(data_dir)
    if demo is None:
        raise Problem("the running instance has no demo key: start it without --no-demo")
    return addresses, demo


async def _replay(
    plan: Plan, rows: list[Row], addresses: Addresses, demo: Demo, *, verify_s: float, as_json: bool
) -> int:
    player = Player(plan, rows)
    start = int(time.time())
    reports = Reports(addresses.reporting_url, admin_pass())
    try:
        before = await reports.totals(demo.key_id, start, start + 3_600) if verify_s else None
        began = time.perf_counter()
        with _progress(player, len(rows)):
            await player.play()
        summary = player.account.summary(time.perf_counter() - began)
        if before is not None:
            wanted = before.requests + len(rows)
            after = await reports.until_metered(demo.key_id, start, wanted, verify_s)
            summary["ledger"] = gained(before, after)
    finally:
        await reports.close()
    books_agree = "ledger" not in summary or _agrees(summary)
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        show(summary, books_agree=books_agree)
    if summary["failed"]:
        return FAILED_STATUS
    return 0 if books_agree else BOOKS_DIFFER_STATUS


def gained(before: Totals, after: Totals) -> dict[str, Any]:
    """What was added in between. The cost is None when no request of it has a price."""
    first, last = msgspec.to_builtins(before), msgspec.to_builtins(after)
    more = {name: last[name] - first[name] for name in last}
    if 0 < more["requests"] <= more["without_price"]:
        more["cost_in_usd"] = None
    return more


def _agrees(summary: dict[str, Any]) -> bool:
    ledger = summary["ledger"]
    return bool(
        ledger["requests"] == summary["requests"]
        and ledger["succeeded"] == summary["succeeded"]
        and ledger["prompt_tokens"] == summary["prompt_tokens"]
        and ledger["completion_tokens"] == summary["completion_tokens"]
    )


@contextlib.contextmanager
def _progress(player: Player, total: int) -> Iterator[None]:
    """A bar with rate and time left on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False)
    with bar:
        task = bar.add_task("replay", total=total, rate=0.0)
        began = time.perf_counter()

        async def refresh() -> None:
            while True:
                done = player.account.done
                rate = done / max(1e-3, time.perf_counter() - began)
                bar.update(task, completed=done, rate=rate)
                bar.refresh()
                await asyncio.sleep(0.2)

        refreshing = asyncio.ensure_future(refresh())
        try:
            yield
        finally:
            refreshing.cancel()
            bar.update(task, completed=player.account.done)
            bar.refresh()


def show(summary: dict[str, Any], *, books_agree: bool) -> None:
    """A table for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("", "requests", "succeeded", "prompt", "completion", "USD", box=None)
    for name in ("requests", "succeeded", "prompt", "completion", "USD"):
        column = next(column for column in table.columns if column.header == name)
        column.justify = "right"
    for file in summary["files"]:
        stem = Path(file["file"]).stem
        name = stem if len(stem) <= LABEL_CHARACTERS else f"…{stem[1 - LABEL_CHARACTERS :]}"
        label = f"{name} as {file['model']}"
        table.add_row(label, *_cells(file, file["sent"]), "")
    table.add_row("played", *_cells(summary, summary["requests"]), "")
    if "ledger" in summary:
        ledger = summary["ledger"]
        cost = "" if ledger["cost_in_usd"] is None else f"{ledger['cost_in_usd']:.6f}"
        table.add_row("ledger", *_cells(ledger, ledger["requests"]), cost)
    console.print(table)
    console.print(
        f"{summary['seconds']:.1f} s, {summary['requests_per_second']:,.0f} requests/s, "
        f"median {summary['latency_ms_median']} ms, 99th {summary['latency_ms_99th']} ms"
    )
    without_price = summary.get("ledger", {}).get("without_price")
    if without_price:
        console.print(f"{without_price:,} requests have no price: they are not in the USD")
    for reason, count in summary["failures"].items():
        console.print(f"failed {count}: {reason}", markup=False)
    if not books_agree:
        console.print("the ledger does not say what was played")


def _cells(counts: dict[str, Any], requests: int) -> list[str]:
    numbers = (
        requests,
        counts["succeeded"],
        counts["prompt_tokens"],
        counts["completion_tokens"],
    )
    return [f"{number:,}" for number in numbers]
