"""What one key spent in all, and whom it was used for."""
# ruff: noqa: S608 - only constants of this package become text; values are bound by the server.

from typing import Final, Literal

from reporting.queries.conditions import VISIBLE_RUNS, where
from reporting.queries.query import Query

_COLUMNS: Final = {"userId": "user_id", "customId": "custom_id"}


def spend(key_id: str) -> Query:
    """One row: entries, cost, unpriced and unknown requests of a key, all time."""
    text = f"""\
SELECT
    count(),
    sum(cost_usd),
    sumIf(requests, rating_status = 'unpriced'),
    sumIf(requests, rating_status = 'unknown')
FROM entries
{where([VISIBLE_RUNS, "key_id = {key_id:String}"])}"""
    return Query(text, {"key_id": key_id})


def distinct_ids(key_id: str, of: Literal["userId", "customId"], rows_max: int) -> Query:
    """Rows of one id each, sorted, never empty; at most rows_max + 1."""
    column = _COLUMNS[of]
    text = f"""\
SELECT DISTINCT {column}
FROM entries
{where([VISIBLE_RUNS, "key_id = {key_id:String}", f"{column} != ''"])}
ORDER BY {column}
LIMIT {{row_limit:UInt64}}"""
    return Query(text, {"key_id": key_id, "row_limit": rows_max + 1})
