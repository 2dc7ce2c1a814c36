"""Sums by bucket and group. Only buckets that hold entries come back; the rest are known."""
# ruff: noqa: S608 - only constants of this package become text; values are bound by the server.

from typing import Final

from reporting.queries.conditions import FIRST_CHARGE, conditions, where
from reporting.queries.query import Query
from reporting.questions import Dimension, TimeseriesQuestion

MODEL: Final = (
    "multiIf(model_served != '', model_served, model_sent != '', model_sent, model_asked)"
)
"""The model that answered; where nobody said, the one sent, else the one asked for."""
# ruff: noqa: S608 - only constants of this package become text; values are bound by the server.

_EXPRESSIONS: Final = {
    Dimension.MODEL: MODEL,
    Dimension.KEY_ID: "key_id",
    Dimension.CUSTOM_ID: "custom_id",
    Dimension.USER_ID: "user_id",
}

SUMS: Final = f"""\
sum(requests),
    sum(cost_usd),
    intDiv(sumIf(duration_us, {FIRST_CHARGE}) + 500, 1000),
    sum(input_tokens),
    sum(output_tokens),
    sumIf(requests, status = 200),
    sumIf(requests, rating_status = 'unpriced'),
    sumIf(requests, rating_status = 'unknown'),
    countIf({FIRST_CHARGE})"""
"""Every additive column is signed and summed, never counted; latency is rounded once, at the end.
The last is how many durations there are, for the choice of how percentiles are computed."""


def timeseries(question: TimeseriesQuestion, rows_max: int) -> Query:
    """Rows of bucket number, one column a dimension, then the nine SUMS; at most rows_max + 1."""
    terms, parameters = conditions(question.window, question.filters)
    groups = [f"group_{number}" for number in range(len(question.group_by))]
    columns = "".join(
        f"\n    {_EXPRESSIONS[dimension]} AS {group},"
        for dimension, group in zip(question.group_by, groups, strict=True)
    )
    by = ", ".join(["bucket", *groups])
    text = f"""\
SELECT
    intDiv(toUnixTimestamp64Milli(occurred_at) - {{start_ms:Int64}}, {{increment_ms:Int64}}) AS bucket,{columns}
    {SUMS}
FROM entries
{where(terms)}
GROUP BY {by}
ORDER BY {by}
LIMIT {{row_limit:UInt64}}"""
    return Query(
        text,
        parameters | {"increment_ms": question.increment_s * 1000, "row_limit": rows_max + 1},
    )
