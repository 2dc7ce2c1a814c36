"""What a key may be: the table of refusals, in its order."""

from collections.abc import Iterable, Iterator
from typing import Final

from contracts.client_keys import is_shaped_as_client_key, public_id_of
from contracts.config.keys import BALANCINGS, HOLD_POLICIES
from gateway.administration.invalid import Invalid, holds_nul
from gateway.administration.keys_wire import KeyChange, KeysQuery, NewKey
from gateway.administration.limit_lists import LimitLists, wrong_limits
from gateway.administration.limit_rules import (
    COST_UNITS,
    INTEGER_MAX,
    RATE_UNITS,
    TEXT_BYTES_MAX,
    check_unit,
    check_unit_change,
    refuse_wrong,
    wrong_amount,
    wrong_count,
    wrong_duration,
    wrong_paths,
    wrong_tags,
    wrong_texts,
    wrong_time,
)

KIND: Final = "key-manager"
CREATION: Final = "key creation error"
UPDATE: Final = "update key error"
"""What errors of these two are called when they are not about the request's own members."""

KEY_BYTES_MAX: Final = 16_384
"""Of a key that a client chose: it travels in a header."""


def check(new: NewKey) -> None:
    """Raises Invalid."""
    if not new.setting_id and not new.setting_ids:
        raise Invalid(
            "settingId is not set in either setting_id or setting_ids field",
            kind=KIND,
            title=CREATION,
        )
    _check_one_form(new, CREATION)
    refuse_wrong(
        [
            *wrong_tags(new.tags),
            *([] if new.key is None or 0 < len(new.key.encode()) <= KEY_BYTES_MAX else ["key"]),
            *([] if 0 < len(new.name.encode()) <= TEXT_BYTES_MAX else ["name"]),
            *_wrong_setting_ids(new.setting_ids),
            *wrong_amount("costLimitInUsd", new.cost_limit_in_usd),
            *wrong_amount("costLimitInUsdOverTime", new.cost_limit_in_usd_over_time),
            *wrong_count("rateLimitOverTime", new.rate_limit_over_time),
            *wrong_duration("ttl", new.ttl),
            *wrong_paths(new.allowed_paths),
            *_wrong_additions(new),
        ]
    )
    limits = [
        ("rate limit", new.rate_limit_unit, bool(new.rate_limit_over_time), RATE_UNITS),
        (
            "cost limit",
            new.cost_limit_in_usd_unit,
            bool(new.cost_limit_in_usd_over_time),
            COST_UNITS,
        ),
    ]
    # Of two wrong limits, one with a unit and nothing else is told first.
    for name, unit, has_amount, units in sorted(limits, key=lambda one: not one[1] or one[2]):
        check_unit(name, unit, has_amount, units)
    _refuse_nul(new, [new.key or ""])
    if new.key and is_shaped_as_client_key(new.key) and public_id_of(new.key) is None:
        raise Invalid("key has the form of a generated one, but its checksum is wrong")


def check_change(sent: KeyChange) -> None:
    """Raises Invalid."""
    _check_one_form(sent, UPDATE)
    refuse_wrong(
        [
            *wrong_tags(sent.tags),
            *([] if len(sent.name.encode()) <= TEXT_BYTES_MAX else ["name"]),
            *([] if len(sent.revoked_reason.encode()) <= TEXT_BYTES_MAX else ["revokedReason"]),
            *wrong_amount("costLimitInUsd", sent.cost_limit_in_usd),
            *wrong_amount("costLimitInUsdOverTime", sent.cost_limit_in_usd_over_time),
            *wrong_count("rateLimitOverTime", sent.rate_limit_over_time),
            *_wrong_setting_ids(sent.setting_ids),
            *wrong_paths(sent.allowed_paths),
            *(["policyId"] if sent.policy_id == "" else []),
            *_wrong_additions(sent),
        ]
    )
    check_unit_change("rate limit", sent.rate_limit_unit, sent.rate_limit_over_time, RATE_UNITS)
    check_unit_change(
        "cost limit", sent.cost_limit_in_usd_unit, sent.cost_limit_in_usd_over_time, COST_UNITS
    )
    _refuse_nul(sent, [sent.revoked_reason])


def check_query(query: KeysQuery) -> None:
    """Raises Invalid."""
    if query.order not in ("", "asc", "desc"):
        raise Invalid(f"order is not valid {query.order[:40]}")
    # No more than what the database counts to, and not less than nothing.
    refuse_wrong(
        name
        for name, count in (("limit", query.limit), ("offset", query.offset))
        if not 0 <= count <= INTEGER_MAX
    )


def _check_one_form(sent: NewKey | KeyChange, title: str) -> None:
    if sent.setting_id and sent.setting_ids:
        raise Invalid("either settingId or settingIds", kind=KIND, title=title)


def _wrong_setting_ids(ids: list[str] | None) -> list[str]:
    empty = [f"settingIds[{i}]" for i, text in enumerate(ids or ()) if not text]
    return empty or wrong_texts("settingIds", ids)


def _wrong_additions(sent: NewKey | KeyChange) -> Iterator[str]:
    yield from wrong_time("expiresAt", sent.expires_at)
    yield from wrong_texts("allowedModels", sent.allowed_models)
    yield from wrong_limits(LimitLists(sent.rate_limits, sent.cost_limits, sent.token_limits))
    yield from wrong_count("concurrencyLimit", sent.concurrency_limit)
    if (sent.hold_policy or "") not in HOLD_POLICIES:
        yield "holdPolicy"
    if (sent.balancing or "") not in BALANCINGS:
        yield "balancing"


def _refuse_nul(sent: NewKey | KeyChange, others: Iterable[str]) -> None:
    paths = [text for path in sent.allowed_paths or () for text in (path.path, path.method)]
    ids = [sent.policy_id or "", sent.setting_id, *(sent.setting_ids or ())]
    texts = [sent.name, *ids, *(sent.tags or ()), *paths, *(sent.allowed_models or ()), *others]
    if holds_nul(texts):
        raise Invalid("NUL is not allowed")
