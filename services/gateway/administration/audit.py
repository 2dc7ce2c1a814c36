"""The audit log: who changed what, when, from what to what."""

import re
from collections.abc import Mapping

import msgspec

from contracts.config.kinds import STRUCT_BY_KIND
from gateway.administration.invalid import Invalid, holds_nul
from gateway.administration.store import AuditAction, AuditEntry, AuditQuery, Store

ENTRIES_MAX = 1000
_ENTRIES_DEFAULT = 100
_SECONDS_MAX = 253_402_300_799
_ID_MAX = 2**63 - 1
_DIGITS = re.compile(r"[0-9]{1,19}")


class AuditEntryWire(msgspec.Struct, frozen=True, rename="camel"):
    """One change. `at` is Unix seconds, `atMs` milliseconds; `before` is null for what was
    created, `after` for what was deleted. What is secret shows as `***` and a mark that tells
    whether it changed.
    """

    id: str
    at: int
    at_ms: int
    actor: str
    action: AuditAction
    kind: str
    item_id: str
    revision: int
    before: msgspec.Raw | None
    after: msgspec.Raw | None


class AuditLogWire(msgspec.Struct, frozen=True):
    """Newest first. `next` is what `before` must be to read on; null at the end."""

    entries: list[AuditEntryWire]
    next: str | None


def to_query(given: Mapping[str, str]) -> AuditQuery:
    """The texts of a URL's query as a question. Raises Invalid."""
    texts = {name: given.get(name, "") for name in ("kind", "itemId", "actor")}
    if holds_nul(texts.values()):
        raise Invalid("NUL is not allowed")
    if texts["kind"] and texts["kind"] not in STRUCT_BY_KIND:
        raise Invalid(f"kind must be one of {', '.join(sorted(STRUCT_BY_KIND))}")
    start_s, end_s = (_number(given, name, _SECONDS_MAX) for name in ("start", "end"))
    if start_s is not None and end_s is not None and start_s >= end_s:
        raise Invalid(f"start {start_s} cannot be larger than end {end_s}")
    limit = _number(given, "limit", ENTRIES_MAX)
    return AuditQuery(
        kind=texts["kind"],
        item_id=texts["itemId"],
        actor=texts["actor"],
        start_ms=None if start_s is None else start_s * 1000,
        end_ms=None if end_s is None else end_s * 1000,
        before_id=_number(given, "before", _ID_MAX),
        limit=limit or _ENTRIES_DEFAULT,
    )


def _number(given: Mapping[str, str], name: str, maximum: int) -> int | None:
    text = given.get(name, "")
    if not text:
        return None
    if not _DIGITS.fullmatch(text) or int(text) > maximum:
        raise Invalid(f"{name} must be a whole number from 0 to {maximum}")
    return int(text)


async def read_log(query: AuditQuery, store: Store) -> AuditLogWire:
    """One page. Raises StoreUnavailable."""
    # One more than asked for says whether there is another page.
    found = await store.audit_log(msgspec.structs.replace(query, limit=query.limit + 1))
    page = found[: query.limit]
    has_more = len(found) > query.limit
    return AuditLogWire([_to_wire(entry) for entry in page], str(page[-1].id) if has_more else None)


def _to_wire(entry: AuditEntry) -> AuditEntryWire:
    return AuditEntryWire(
        id=str(entry.id),
        at=entry.at_ms // 1000,
        at_ms=entry.at_ms,
        actor=entry.actor,
        action=entry.action,
        kind=entry.kind,
        item_id=entry.item_id,
        revision=entry.revision,
        before=entry.before,
        after=entry.after,
    )
