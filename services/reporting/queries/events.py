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

_AND: Final = "\n   AND "

_IS_FURTHER: Final = "(kind != 'charge' OR attempt_no > 0)"
"""A row beside the one that most exchanges have."""

_ORDERS: Final = {
    EventOrder.NEWEST: "happened_at DESC, id DESC",
    EventOrder.OLDEST: "happened_at ASC, id ASC",
    EventOrder.DEAREST: "cost DESC, happened_at DESC, id DESC",
    EventOrder.CHEAPEST: "cost ASC, happened_at DESC, id DESC",
}


def _selected(question: EventsQuestion) -> tuple[str, dict[str, Parameter]]:
    """The exchanges that are asked for, as a table of id, happened_at, key and cost.

    Nearly every exchange is one row, and is taken as it is; only those with more (attempts,
    corrections) are grouped, so that a page of a long window does not group all of it. What a
    further attempt or a correction may state otherwise is compared on the standing entry.
    """
    terms, parameters = conditions(question.window, question.filters)
    plain, grouped = ["requests > 0"], ["sum(requests) > 0"]
    if question.status is not None:
        plain.append("status = {status:UInt16}")
        grouped.append(f"argMaxIf(status, {_STANDING}) = {{status:UInt16}}")
        parameters["status"] = question.status
    for column, name, values in (
        ("policy_id", "policy_ids", question.policy_ids),
        ("policy_action", "actions", question.actions),
    ):
        if values:
            plain.append(f"{column} IN {{{name}:Array(String)}}")
            grouped.append(f"argMaxIf({column}, {_STANDING}) IN {{{name}:Array(String)}}")
            parameters[name] = values
    many = f"(\nSELECT event_id\nFROM entries\n{where([*terms, _IS_FURTHER])}\n)"
    text = f"""\
SELECT
    event_id AS id,
    occurred_at AS happened_at,
    toString(key_id) AS key,
    ifNull(cost_usd, 0) AS cost
FROM entries
{where([*terms, *plain, f"event_id NOT IN {many}"])}
UNION ALL
SELECT event_id, max(occurred_at), toString(any(key_id)), ifNull(sum(cost_usd), 0)
FROM entries
{where([*terms, f"event_id IN {many}"])}
GROUP BY event_id
HAVING {_AND.join(grouped)}"""
    return text, parameters


def page(question: EventsQuestion, events_max: int) -> Query:
    """Rows of event id (text), milliseconds and key id, sorted; at most events_max + 1."""
    selected, parameters = _selected(question)
    limit = events_max + 1 if question.limit is None else min(question.limit, events_max + 1)
    text = f"""\
SELECT toString(id), toUnixTimestamp64Milli(happened_at), key
FROM
(
{selected}
)
ORDER BY {_ORDERS[question.order]}
LIMIT {{row_limit:UInt64}} OFFSET {{row_offset:UInt64}}"""
    return Query(text, parameters | {"row_limit": limit, "row_offset": question.offset})


def count(question: EventsQuestion) -> Query:
    """One row: how many exchanges there are, without limit and offset."""
    selected, parameters = _selected(question)
    return Query(f"SELECT count()\nFROM\n(\n{selected}\n)", parameters)


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
