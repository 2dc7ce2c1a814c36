"""The median and the 99th percentile of latency, over the same entries as the sums."""
# ruff: noqa: S608 - only constants of this package become text; values are bound by the server.

from reporting.queries.conditions import FIRST_CHARGE, conditions, where
from reporting.queries.query import Query
from reporting.questions import Filters, Window


def percentiles(window: Window, filters: Filters, *, is_exact: bool) -> Query:
    """One row: an array of two, microseconds.

    Exact is the continuous percentile (linear between neighbours), and keeps every duration in
    memory; a t-digest does not, and is for windows with too many.
    """
    terms, parameters = conditions(window, filters)
    function = "quantilesExactInclusive" if is_exact else "quantilesTDigest"
    text = f"""\
SELECT {function}(0.5, 0.99)(assumeNotNull(duration_us))
FROM entries
{where([*terms, FIRST_CHARGE])}"""
    return Query(text, parameters)
