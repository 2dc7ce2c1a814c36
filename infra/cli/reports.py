"""What commands ask of reporting: totals of a key in a window, and its events."""

import asyncio
import time
from typing import Any, Final

import httpx
import msgspec

from infra.cli.problems import Problem

REPORT_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.25
WINDOW_MARGIN_S: Final = 2


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Of a time series: what the ledger says a key has used.

    Cost in USD, as reports give it: of the requests that have a price. `without_price` counts the
    others, whose models no price is known for, or of whose use nothing is.
    """

    requests: int
    succeeded: int
    prompt_tokens: int
    completion_tokens: int
    cost_in_usd: float
    without_price: int


class Reports:
    """Asks reporting on behalf of a command. Raises Problem."""

    def __init__(self, url: str, admin_pass: str) -> None:
        headers = {"x-api-key": admin_pass} if admin_pass else {}
        self._client = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=REPORT_TIMEOUT_S, trust_env=False
        )

    async def close(self) -> None:
        """No more questions."""
        await self._client.aclose()

    async def totals(self, key_id: str, start: int, end: int) -> Totals:
        """Of [start, end), Unix seconds."""
        question = {
            "keyIds": [key_id],
            "start": start,
            "end": end,
            "increment": max(1, end - start),
            "filters": [],
        }
        points = (await self._ask("/api/reporting/events", question))["dataPoints"]
        return Totals(
            requests=sum(point["numberOfRequests"] for point in points),
            succeeded=sum(point["successCount"] for point in points),
            prompt_tokens=sum(point["promptTokenCount"] for point in points),
            completion_tokens=sum(point["completionTokenCount"] for point in points),
            cost_in_usd=sum(point["costInUsd"] for point in points),
            without_price=sum(
                point["unpricedRequests"] + point["unknownRequests"] for point in points
            ),
        )

    async def until_booked(
        self, custom_ids: list[str], start: int, timeout_s: float
    ) -> list[dict[str, Any]]:
        """The events of these custom ids since `start` once all are there, or when time is up."""
        deadline = time.monotonic() + timeout_s
        while True:
            end = int(time.time()) + WINDOW_MARGIN_S
            question = {"customIds": custom_ids, "start": start, "end": end, "dateOrder": "asc"}
            events: list[dict[str, Any]] = (await self._ask("/api/v2/events", question))["events"]
            if len(events) >= len(custom_ids) or time.monotonic() > deadline:
                return events
            await asyncio.sleep(POLL_S)

    async def _ask(self, path: str, question: dict[str, Any]) -> dict[str, Any]:
        try:
            response = await self._client.post(path, json=question)
        except httpx.HTTPError as error:
            raise Problem(f"reporting at {self._client.base_url}: {error!r}") from error
        if response.status_code == 401:
            raise Problem("reporting wants the admin password: set ADMIN_PASS as the instance has")
        if response.status_code != 200:
            raise Problem(f"{path} answered {response.status_code}: {response.text[:500]}")
        answer: dict[str, Any] = response.json()
        return answer

    async def until_metered(
        self, key_id: str, start: int, requests: int, timeout_s: float
    ) -> Totals:
        """The totals since `start` once they hold so many requests, or when time is up."""
        deadline = time.monotonic() + timeout_s
        while True:
            totals = await self.totals(key_id, start, int(time.time()) + WINDOW_MARGIN_S)
            if totals.requests >= requests or time.monotonic() > deadline:
                return totals
            await asyncio.sleep(POLL_S)
