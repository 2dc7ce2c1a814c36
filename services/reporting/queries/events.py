"""Single exchanges: which of them, how many, and what the ledger and the bodies say of each.

An exchange is all its entries together: amounts are summed over charges, further attempts and
corrections, and the facts are those of the newest entry that stands for it (requests > 0).
"""
# ruff: noqa: S608 - only constants of this package become text; values are bound by the server.

from typing import Final

from reporting.queries.conditions import FIRST_CHARGE, conditions, where
from reporting.queries.query import Parameter, Query
from reporting.queries.timeseries import MODEL
from reporting.questions import EventOrder, EventsQuestion, Filters

_STANDING: Final = "(booked_at, kind, journal_offset), requests > 0"

_ORDERS: Final = {
    EventOrder.NEWEST: ("", "happened_at DESC, event_id DESC"),
    EventOrder.OLDEST: ("", "happened_at ASC, event_id ASC"),
    EventOrder.DEAREST: (
        ",\n    ifNull(sum(cost_usd), 0) AS cost",
        "cost DESC, happened_at DESC, event_id DESC",
    ),
    EventOrder.CHEAPEST: (
        ",\n    ifNull(sum(cost_usd), 0) AS cost",
        "cost ASC, happened_at DESC, event_id DESC",
    ),
}


def _selected(question: EventsQuestion) -> tuple[str, dict[str, Parameter]]:
    """WHERE, GROUP BY and HAVING of the exchanges that are asked for.

    What a further attempt or a correction may state otherwise is compared on the standing entry.
    """
    terms, parameters = conditions(question.window, question.filters)
    having = ["sum(requests) > 0"]
    if question.status is not None:
        having.append(f"argMaxIf(status, {_STANDING}) = {{status:UInt16}}")
        parameters["status"] = question.status
    if question.policy_ids:
        having.append(f"argMaxIf(policy_id, {_STANDING}) IN {{policy_ids:Array(String)}}")
        parameters["policy_ids"] = question.policy_ids
    if question.actions:
        having.append(f"argMaxIf(policy_action, {_STANDING}) IN {{actions:Array(String)}}")
        parameters["actions"] = question.actions
    text = f"{where(terms)}\nGROUP BY event_id\nHAVING " + "\n   AND ".join(having)
    return text, parameters


def page(question: EventsQuestion, events_max: int) -> Query:
    """Rows of event id (text), milliseconds, key id (and cost if it sorts); at most events_max + 1."""
    selected, parameters = _selected(question)
    cost, order = _ORDERS[question.order]
    limit = events_max + 1 if question.limit is None else min(question.limit, events_max + 1)
    text = f"""\
SELECT
    toString(event_id),
    toUnixTimestamp64Milli(max(occurred_at) AS happened_at),
    any(key_id){cost}
FROM entries
{selected}
ORDER BY {order}
LIMIT {{row_limit:UInt64}} OFFSET {{row_offset:UInt64}}"""
    return Query(text, parameters | {"row_limit": limit, "row_offset": question.offset})


def count(question: EventsQuestion) -> Query:
    """One row: how many exchanges there are, without limit and offset."""
    selected, parameters = _selected(question)
    text = f"SELECT count()\nFROM\n(\nSELECT event_id\nFROM entries\n{selected}\n)"
    return Query(text, parameters)


_FACTS: Final = (
    "tags",
    "key_id",
    "provider",
    MODEL,
    "status",
    "path",
    "method",
    "custom_id",
    "user_id",
    "policy_action",
    "policy_id",
    "route_id",
    "correlation_id",
    "toString(rating_status)",
    "toString(evidence)",
)


def facts(
    event_ids: tuple[str, ...], key_ids: tuple[str, ...], first_ms: int, last_ms: int
) -> Query:
    """Rows of event id (text), milliseconds, cost, input and output tokens, latency in
    milliseconds, and a tuple of the FACTS. Key ids and times only narrow what is read.
    """
    terms, _ = conditions(None, Filters())
    terms += [
        "key_id IN {key_ids:Array(String)}",
        "occurred_at >= fromUnixTimestamp64Milli({first_ms:Int64}, 'UTC')",
        "occurred_at <= fromUnixTimestamp64Milli({last_ms:Int64}, 'UTC')",
        "event_id IN {event_ids:Array(UUID)}",
    ]
    columns = ",\n        ".join(_FACTS)
    text = f"""\
SELECT
    toString(event_id),
    toUnixTimestamp64Milli(max(occurred_at)),
    sum(cost_usd),
    sum(input_tokens),
    sum(output_tokens),
    intDiv(argMaxIf(duration_us, booked_at, {FIRST_CHARGE}) + 500, 1000),
    argMaxIf((
        {columns}
    ), {_STANDING})
FROM entries
{where(terms)}
GROUP BY event_id"""
    return Query(
        text,
        {
            "key_ids": key_ids,
            "first_ms": first_ms,
            "last_ms": last_ms,
            "event_ids": event_ids,
        },
    )


def bodies(event_ids: tuple[str, ...], first_ms: int, last_ms: int) -> Query:
    """Rows of event id (text), request, response and metadata in base64, empty when not stored.

    A body may be there more than once until its table is merged: any of the copies will do.
    """
    text = """\
SELECT
    toString(event_id),
    if(stores_request, base64Encode(request), ''),
    if(stores_response, base64Encode(response), ''),
    base64Encode(metadata)
FROM bodies
WHERE event_id IN {event_ids:Array(UUID)}
  AND occurred_at >= fromUnixTimestamp64Milli({first_ms:Int64}, 'UTC')
  AND occurred_at <= fromUnixTimestamp64Milli({last_ms:Int64}, 'UTC')
LIMIT 1 BY event_id"""
    return Query(text, {"event_ids": event_ids, "first_ms": first_ms, "last_ms": last_ms})
