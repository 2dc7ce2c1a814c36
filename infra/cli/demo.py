"""`tollway demo`: a handful of requests, and what they cost."""

import asyncio
import json
import sys
import time
from typing import Annotated, Any

import httpx
from cyclopts import Parameter

from infra.cli.parameters import DATA_DIR_DEFAULT, AsJson, DataDir
from infra.cli.problems import Problem
from infra.cli.reports import Reports
from infra.cli.settings import admin_pass
from infra.embedded.instance import read_addresses, read_demo

REQUEST_TIMEOUT_S = 30.0
ASKS: tuple[tuple[str, str, bool], ...] = (
    ("gpt-4o-mini", "prompt=24,completion=12", False),
    ("gpt-4o", "prompt=374,completion=44", False),
    ("gpt-4o", "prompt=1200,completion=80,cached=1024", False),
    ("gpt-4o-mini", "prompt=374,completion=44", True),
    ("gpt-4o", "prompt=3180,completion=8", True),
)


def demo(
    *,
    wait: Annotated[float, Parameter(help="Seconds to wait until all is metered.")] = 120.0,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    as_json: AsJson = False,
) -> int:
    """Send a handful of requests with the demo key and show the bill."""
    return asyncio.run(_demo(data_dir.resolve(), wait, as_json=as_json))


async def _demo(data_dir: Any, wait_s: float, *, as_json: bool) -> int:
    addresses = read_addresses(data_dir)
    kept = read_demo(data_dir)
    if kept is None:
        raise Problem("the running instance has no demo key: start it without --no-demo")
    start = int(time.time())
    run = f"demo-{time.time_ns():x}"
    reports = Reports(addresses.reporting_url, admin_pass())
    try:
        custom_ids = [f"{run}/{number}" for number in range(1, len(ASKS) + 1)]
        await _send(addresses.proxy_url, kept.key, custom_ids)
        mine = await reports.until_booked(custom_ids, start, wait_s)
        if len(mine) < len(ASKS):
            raise Problem(
                f"after {wait_s:g} s only {len(mine)} of {len(ASKS)} "
                "requests are metered; see `tollway status` and `tollway logs metering`"
            )
    finally:
        await reports.close()
    mine.sort(key=lambda event: str(event["custom_id"]))
    if as_json:
        sys.stdout.write(json.dumps({"events": mine}) + "\n")
    else:
        _show(mine)
    return 0


async def _send(url: str, key: str, custom_ids: list[str]) -> None:
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=REQUEST_TIMEOUT_S, trust_env=False
    ) as client:
        for custom_id, (model, usage, stream) in zip(custom_ids, ASKS, strict=True):
            number = custom_id.rpartition("/")[2]
            try:
                response = await client.post(
                    "/v1/chat/completions",
                    json={
                        "model": model,
                        "messages": [{"role": "user", "content": f"demo request {number}"}],
                        "stream": stream,
                    },
                    headers={"x-demo-usage": usage, "x-custom-event-id": custom_id},
                )
            except httpx.HTTPError as error:
                raise Problem(f"request {number} to {url} failed: {error!r}") from error
            if response.status_code != 200:
                raise Problem(
                    f"request {number} answered {response.status_code}: {response.text[:500]}"
                )


def _show(events: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("request", "model", "prompt", "completion", "ms", "USD", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    total = 0.0
    for event in events:
        # What has no price is a number on the wire too: 0.
        has_price = event["rating_status"] not in ("unpriced", "unknown")
        total += event["cost_in_usd"]
        table.add_row(
            str(event["custom_id"]).rsplit("/", 1)[-1],
            str(event["model"]),
            f"{event['prompt_token_count']:,}",
            f"{event['completion_token_count']:,}",
            str(event["latency_in_ms"]),
            f"{event['cost_in_usd']:.8f}" if has_price else event["rating_status"],
        )
    table.add_section()
    table.add_row("", "", "", "", "total", f"{total:.8f}")
    Console().print(table)
