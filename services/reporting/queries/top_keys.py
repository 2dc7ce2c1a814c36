"""Keys by what they spent."""
# ruff: noqa: S608 - only constants of this package become text; values are bound by the server.

from reporting.queries.conditions import conditions, where
from reporting.queries.query import Query
from reporting.questions import Filters, TopKeysQuestion


def top_keys(question: TopKeysQuestion, rows_max: int, *, is_paged: bool) -> Query:
    """Rows of key id, cost, unpriced and unknown requests, sorted; at most rows_max + 1.

    A key whose every entry is unpriced ranks as nothing spent; ties go by key id. Not paged: the
    keys of the configuration are yet to be merged in, and the page is cut after that.
    """
    window, filters = question.window, question.filters
    # Whole hours of keys are kept ready by the projection by_key_hour, which knows only hours.
    is_kept = window.is_whole_hours and filters == Filters(key_ids=filters.key_ids)
    time = "toStartOfHour(occurred_at)" if is_kept else "occurred_at"
    terms, parameters = conditions(window, filters, time)
    direction = "DESC" if question.is_descending else "ASC"
    limit, offset = rows_max + 1, 0
    if is_paged:
        limit, offset = min(question.limit or limit, limit), question.offset
    text = f"""\
SELECT
    key_id,
    ifNull(sum(cost_usd), 0) AS spend,
    sumIf(requests, rating_status = 'unpriced'),
    sumIf(requests, rating_status = 'unknown')
FROM entries
{where([*terms, "key_id != ''"])}
GROUP BY key_id
ORDER BY spend {direction}, key_id
LIMIT {{row_limit:UInt64}} OFFSET {{row_offset:UInt64}}"""
    return Query(text, parameters | {"row_limit": limit, "row_offset": offset})
