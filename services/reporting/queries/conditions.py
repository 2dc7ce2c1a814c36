"""Which entries count: the runs that are visible, the window, whose they are."""

from typing import Final

from reporting.queries.query import Parameter
from reporting.questions import Filters, Window

VISIBLE_RUNS: Final = "run_id = toUUID('00000000-0000-0000-0000-000000000000')"
"""The one place that says which runs reports see: metering's own. A rerate or a replay writes
under its own run and is seen only when promoted, which is decided here and nowhere else."""

FIRST_CHARGE: Final = "kind = 'charge' AND requests > 0 AND duration_us IS NOT NULL"
"""Latency is read from these: a correction repeats amounts, not the time that passed."""

Conditions = tuple[list[str], dict[str, Parameter]]


def conditions(window: Window | None, filters: Filters, time: str = "occurred_at") -> Conditions:
    """The terms of a WHERE, and their parameters; `time` is what the window is asked of."""
    terms = [VISIBLE_RUNS]
    parameters: dict[str, Parameter] = {}
    if window is not None:
        # The bounds are constants of the column's own type, so that the sort key is used.
        terms.append(f"{time} >= fromUnixTimestamp64Milli({{start_ms:Int64}}, 'UTC')")
        terms.append(f"{time} < fromUnixTimestamp64Milli({{end_ms:Int64}}, 'UTC')")
        parameters["start_ms"] = window.start_ms
        parameters["end_ms"] = window.end_ms
    for column, values in (
        ("key_id", filters.key_ids),
        ("custom_id", filters.custom_ids),
        ("user_id", filters.user_ids),
    ):
        if values:
            terms.append(f"{column} IN {{{column}s:Array(String)}}")
            parameters[f"{column}s"] = values
    if filters.tags:
        terms.append("hasAll(tags, {tags:Array(String)})")
        parameters["tags"] = filters.tags
    return terms, parameters


def where(terms: list[str]) -> str:
    """A WHERE, one term a line."""
    return "WHERE " + "\n  AND ".join(terms)
