"""Single exchanges: a page of ids, then in pieces what the ledger and the bodies say of them."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from reporting.answers.limits import check_filters, check_rows, check_values, check_window
from reporting.errors import QuestionTooLarge
from reporting.ports import Ledger
from reporting.queries.events import bodies, count, facts, page
from reporting.questions import EventsQuestion
from reporting.settings import ReportingSettings

PIECE_EVENTS: Final = 500
"""How many events one query reads, so that no single query holds every body."""

EMPTY_OBJECT: Final = "e30="
"""`{}` in base64: what stands for a body that is not stored."""


class ReportedEvent(msgspec.Struct, frozen=True):
    """One exchange as it stands now, corrections included. Bodies are base64.

    Cost and tokens are None when the ledger does not know them.
    """

    event_id: str
    occurred_at_ms: int
    tags: tuple[str, ...]
    key_id: str
    provider: str
    model: str
    status: int
    path: str
    method: str
    custom_id: str
    user_id: str
    policy_action: str
    policy_id: str
    route_id: str
    correlation_id: str
    rating_status: str
    evidence: str
    cost_usd: Decimal | None
    input_tokens: int | None
    output_tokens: int | None
    latency_ms: int | None
    request: str
    response: str
    metadata: str


_STANDING_FIELDS: Final = (
    "key_id",
    "provider",
    "model",
    "status",
    "path",
    "method",
    "custom_id",
    "user_id",
    "policy_action",
    "policy_id",
    "route_id",
    "correlation_id",
    "rating_status",
    "evidence",
)
"""What is read from the standing entry, in the order of the query's tuple after the tags."""


class Events(msgspec.Struct, frozen=True):
    """One page, and how many there are in all (None: nobody asked)."""

    events: list[ReportedEvent]
    count: int | None


async def ask_events(
    question: EventsQuestion, ledger: Ledger, settings: ReportingSettings, *, is_counted: bool
) -> Events:
    """Raises BadQuestion, QuestionTooLarge, and what the ledger raises."""
    if question.window is not None:
        check_window(question.window, settings)
    check_filters(question.filters, settings)
    check_values("policyIds", question.policy_ids, settings)
    rows = await ledger.rows(page(question, settings.report_events_max))
    check_rows(rows, settings.report_events_max, "REPORT_EVENTS_MAX", "set limit and offset")
    events: list[ReportedEvent] = []
    body_bytes = 0
    for start in range(0, len(rows), PIECE_EVENTS):
        piece = await _read(rows[start : start + PIECE_EVENTS], ledger)
        body_bytes += sum(len(event.request) + len(event.response) for event in piece)
        if body_bytes > settings.report_response_bytes_max:
            raise QuestionTooLarge(
                f"the bodies are more than {settings.report_response_bytes_max} bytes"
                " (REPORT_RESPONSE_BYTES_MAX); set a smaller limit"
            )
        events += piece
    total = None
    if is_counted:
        [[total]] = await ledger.rows(count(question))
    return Events(events, total)


async def _read(rows: Sequence[Sequence[Any]], ledger: Ledger) -> list[ReportedEvent]:
    """The events of some rows of a page, in their order."""
    ids = tuple(row[0] for row in rows)
    key_ids = tuple(sorted({row[2] for row in rows}))
    first_ms, last_ms = min(row[1] for row in rows), max(row[1] for row in rows)
    known, stored = await asyncio.gather(
        ledger.rows(facts(ids, key_ids, first_ms, last_ms)),
        ledger.rows(bodies(ids, first_ms, last_ms)),
    )
    facts_by_id = {row[0]: row[1:] for row in known}
    bodies_by_id = {row[0]: row[1:] for row in stored}
    # An exchange that a correction took away between two queries is not there any more.
    return [
        _event(event_id, facts_by_id[event_id], bodies_by_id.get(event_id, ("", "", "")))
        for event_id in ids
        if event_id in facts_by_id
    ]


def _event(event_id: str, row: Sequence[Any], body: Sequence[str]) -> ReportedEvent:
    occurred_at_ms, cost, inputs, outputs, latency_ms, standing = row
    tags, *names = standing
    fields = dict(zip(_STANDING_FIELDS, names, strict=True))
    request, response, metadata = (text or EMPTY_OBJECT for text in body)
    return ReportedEvent(
        event_id=event_id,
        occurred_at_ms=occurred_at_ms,
        tags=tuple(tags),
        cost_usd=cost,
        input_tokens=inputs,
        output_tokens=outputs,
        latency_ms=latency_ms,
        request=request,
        response=response,
        metadata=metadata,
        **fields,
    )
