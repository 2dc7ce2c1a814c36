"""Keys: which spend most, what one spent in all, and whom it was used for."""

from decimal import Decimal
from typing import Literal

import msgspec

from reporting.answers.limits import check_filters, check_rows, check_values, check_window
from reporting.errors import NotFound
from reporting.ports import Ledger
from reporting.queries.keys import distinct_ids, spend
from reporting.queries.top_keys import top_keys
from reporting.questions import TopKeysQuestion
from reporting.settings import ReportingSettings


class KeySpend(msgspec.Struct, frozen=True):
    """What one key spent. Unpriced and unknown requests are not in the cost, and counted."""

    key_id: str
    cost_usd: Decimal
    unpriced_requests: int
    unknown_requests: int


async def ask_top_keys(
    question: TopKeysQuestion, ledger: Ledger, settings: ReportingSettings
) -> list[KeySpend]:
    """Sorted by cost, ties by key id. Raises BadQuestion, QuestionTooLarge, the ledger's errors."""
    check_window(question.window, settings)
    check_filters(question.filters, settings)
    rows = await ledger.rows(top_keys(question, settings.report_rows_max))
    check_rows(rows, settings.report_rows_max, "REPORT_ROWS_MAX", "set limit and offset")
    return [KeySpend(*row) for row in rows]


async def ask_key_spend(key_id: str, ledger: Ledger, settings: ReportingSettings) -> KeySpend:
    """All time. Raises NotFound for a key without entries, and the ledger's errors."""
    check_values("keyId", [key_id], settings)
    [[entries, cost, unpriced, unknown]] = await ledger.rows(spend(key_id))
    if entries == 0:
        raise NotFound(f"the ledger has no entry of key {key_id}")
    return KeySpend(key_id, Decimal(cost or 0), unpriced, unknown)


async def ask_distinct_ids(
    key_id: str, of: Literal["userId", "customId"], ledger: Ledger, settings: ReportingSettings
) -> list[str]:
    """Sorted, never empty, all time. Raises QuestionTooLarge, and the ledger's errors."""
    check_values("keyId", [key_id], settings)
    rows = await ledger.rows(distinct_ids(key_id, of, settings.report_rows_max))
    check_rows(rows, settings.report_rows_max, "REPORT_ROWS_MAX", f"the key has too many {of}s")
    return [row[0] for row in rows]
