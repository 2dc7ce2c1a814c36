"""Keys: which spend most, what one spent in all, and whom it was used for."""

from decimal import Decimal
from typing import Literal

import msgspec

from reporting.answers.limits import check_filters, check_rows, check_values, check_window
from reporting.errors import BadQuestion, NotFound
from reporting.ports import KeyDirectory, KeyFilter, Ledger
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
    question: TopKeysQuestion,
    ledger: Ledger,
    directory: KeyDirectory | None,
    settings: ReportingSettings,
) -> list[KeySpend]:
    """Sorted by cost, ties by key id.

    With a directory, keys made in the window and never used are there too, with nothing spent.
    Raises BadQuestion, QuestionTooLarge, what the ledger and the directory raise.
    """
    check_window(question.window, settings)
    check_filters(question.filters, settings)
    check_values("name", [question.name], settings)
    rows_max = settings.report_rows_max
    if directory is None:
        if question.name or question.revoked is not None:
            # Answering as if these were not there would show keys that were filtered out.
            raise BadQuestion("name and revoked need the configured keys: POSTGRES_URL is not set")
        rows = await ledger.rows(top_keys(question, rows_max, is_paged=True))
        check_rows(rows, rows_max, "REPORT_ROWS_MAX", "set limit and offset")
        return [KeySpend(*row) for row in rows]
    rows = await ledger.rows(top_keys(question, rows_max, is_paged=False))
    check_rows(rows, rows_max, "REPORT_ROWS_MAX", "narrow the window")
    spends = [KeySpend(*row) for row in rows]
    return _page(question, await _merged(question, spends, directory, rows_max))


async def _merged(
    question: TopKeysQuestion, spends: list[KeySpend], directory: KeyDirectory, rows_max: int
) -> list[KeySpend]:
    """The spends that the configured keys allow, and the keys that were made but not used."""
    if question.name or question.revoked is not None:
        matching = await directory.key_ids(
            KeyFilter(name=question.name, revoked=question.revoked), rows_max
        )
        check_rows(matching, rows_max, "REPORT_ROWS_MAX", "use keyIds or tags")
        allowed = set(matching)
        spends = [spend for spend in spends if spend.key_id in allowed]
    made = await directory.key_ids(
        KeyFilter(
            question.filters.key_ids,
            question.filters.tags,
            question.name,
            question.revoked,
            question.window,
        ),
        rows_max,
    )
    check_rows(made, rows_max, "REPORT_ROWS_MAX", "narrow the window")
    used = {spend.key_id for spend in spends}
    return spends + [KeySpend(key_id, Decimal(0), 0, 0) for key_id in made if key_id not in used]


def _page(question: TopKeysQuestion, spends: list[KeySpend]) -> list[KeySpend]:
    sign = -1 if question.is_descending else 1
    ranked = sorted(spends, key=lambda spend: (sign * spend.cost_usd, spend.key_id))
    end = None if question.limit is None else question.offset + question.limit
    return ranked[question.offset : end]


async def ask_key_spend(
    key_id: str, ledger: Ledger, directory: KeyDirectory | None, settings: ReportingSettings
) -> KeySpend:
    """All time. Raises NotFound for a key that is neither used nor configured."""
    check_values("keyId", [key_id], settings)
    [[entries, cost, unpriced, unknown]] = await ledger.rows(spend(key_id))
    if entries == 0:
        configured = directory is not None and await directory.key_ids(KeyFilter((key_id,)), 1)
        if not configured:
            raise NotFound(f"there is no key {key_id}")
    return KeySpend(key_id, Decimal(cost or 0), unpriced, unknown)


async def ask_distinct_ids(
    key_id: str, of: Literal["userId", "customId"], ledger: Ledger, settings: ReportingSettings
) -> list[str]:
    """Sorted, never empty, all time. Raises QuestionTooLarge, and the ledger's errors."""
    check_values("keyId", [key_id], settings)
    rows = await ledger.rows(distinct_ids(key_id, of, settings.report_rows_max))
    check_rows(rows, settings.report_rows_max, "REPORT_ROWS_MAX", f"the key has too many {of}s")
    return [row[0] for row in rows]
