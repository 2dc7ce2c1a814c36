"""Builders of ledger entries, and the way to put them into a ledger without the metering service.

Only what a test is about is named; the rest is a plain answered and priced chat completion.
"""

import datetime as dt
import itertools
import time
import uuid
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec
from clickhouse_connect.driver.client import Client

from contracts.ids import entry_id, new_id
from contracts.ledger import Entry, EntryKind, RatingStatus
from contracts.meters import Evidence

NO_RUN = bytes(16)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

_offsets = itertools.count()


def make_entry(**facts: Any) -> Entry:
    """One charge of one answered exchange; `facts` are fields of Entry.

    Ids follow from the facts: an event id is made up unless it is given, and the entry id is the
    deterministic one.
    """
    event_id = facts.get("event_id") or new_id()
    occurred_at_ms = facts.get("occurred_at_ms", 1_700_000_000_000)
    kind = facts.get("kind", EntryKind.CHARGE)
    attempt_no = facts.get("attempt_no", 0)
    run_id = facts.get("run_id", NO_RUN)
    # Several charges of one event occur beside a reversal; tests may book them at will.
    identity = entry_id(event_id, attempt_no, kind, run_id)
    if facts.get("is_rebooked"):
        identity = uuid.uuid5(identity, "again")
    defaults: dict[str, Any] = {
        "entry_id": identity.bytes,
        "event_id": event_id,
        "run_id": run_id,
        "kind": kind,
        "requests": 1 if attempt_no == 0 else 0,
        "attempt_no": attempt_no,
        "partition": 0,
        "batch_id": new_id(),
        "insert_by_ms": int(time.time() * 1000) + 600_000,
        "incarnation": bytes(16),
        "segment_no": 0,
        "journal_offset": next(_offsets),
        "occurred_at_ms": occurred_at_ms,
        "booked_at_ms": occurred_at_ms + 2_000,
        "key_id": "key-1",
        "user_id": "",
        "custom_id": "",
        "tags": (),
        "provider": "openai",
        "setting_id": "setting-1",
        "setting_revision": 1,
        "endpoint": "chat_completions",
        "operation": "chat",
        "method": "POST",
        "path": "/api/providers/openai/v1/chat/completions",
        "model_asked": "gpt-4o",
        "model_sent": "gpt-4o",
        "model_served": "gpt-4o-2024-08-06",
        "is_streaming": False,
        "status": 200,
        "outcome": "answered",
        "error": "",
        "policy_action": "",
        "policy_id": "",
        "route_id": "",
        "correlation_id": "",
        "attempts": 1,
        "response_id": "",
        "service_tier": "",
        "duration_us": 250_000,
        "first_byte_us": 90_000,
        "request_bytes": 100,
        "response_bytes": 400,
        "input_tokens": 10,
        "output_tokens": 5,
        "input_uncached_tokens": 10,
        "cache_read_tokens": 0,
        "cache_write_5m_tokens": None,
        "cache_write_1h_tokens": None,
        "audio_input_tokens": None,
        "image_input_tokens": None,
        "output_text_tokens": 5,
        "reasoning_tokens": 0,
        "audio_output_tokens": None,
        "rare_quantities": {},
        "cost_picousd": 75_000_000,
        "input_uncached_picousd": 25_000_000,
        "cache_read_picousd": 0,
        "cache_write_5m_picousd": None,
        "cache_write_1h_picousd": None,
        "audio_input_picousd": None,
        "image_input_picousd": None,
        "output_text_picousd": 50_000_000,
        "reasoning_picousd": 0,
        "audio_output_picousd": None,
        "rare_picousd": {},
        "evidence": Evidence.REPORTED,
        "rating_status": RatingStatus.RATED,
        "price_book": "book-1",
        "price_source": "catalogue",
        "build": "test",
    }
    given = {name: value for name, value in facts.items() if name != "is_rebooked"}
    return Entry(**(defaults | given | {"event_id": event_id}))


def reversal_of(entry: Entry, **facts: Any) -> Entry:
    """The exact negative: every additive field with its sign turned."""
    kind = EntryKind.REVERSAL
    negated = {
        name: None if value is None else -value
        for name in Entry.__struct_fields__
        if name.endswith(("_tokens", "_picousd")) and name != "rare_picousd"
        for value in [getattr(entry, name)]
    }
    changes: dict[str, Any] = {
        "kind": kind,
        "entry_id": entry_id(entry.event_id, entry.attempt_no, kind, entry.run_id).bytes,
        "requests": -entry.requests,
        "booked_at_ms": entry.booked_at_ms + 60_000,
        "rare_quantities": {name: -value for name, value in entry.rare_quantities.items()},
        "rare_picousd": {name: -value for name, value in entry.rare_picousd.items()},
        **negated,
    }
    return msgspec.structs.replace(entry, **(changes | facts))


def replacement_of(entry: Entry, **facts: Any) -> Entry:
    """What stands in the reversed entry's place."""
    kind = EntryKind.REPLACEMENT
    changes: dict[str, Any] = {
        "kind": kind,
        "entry_id": entry_id(entry.event_id, entry.attempt_no, kind, entry.run_id).bytes,
        "booked_at_ms": entry.booked_at_ms + 60_000,
    }
    return msgspec.structs.replace(entry, **(changes | facts))


def _column(name: str) -> str:
    if name in ("insert_by_ms", "occurred_at_ms", "booked_at_ms"):
        return name.removesuffix("_ms")
    return name.replace("_picousd", "_usd")


def _cell(name: str, value: Any) -> Any:
    if name in ("entry_id", "event_id", "run_id", "batch_id", "incarnation"):
        return uuid.UUID(bytes=value)
    if name in ("insert_by_ms", "occurred_at_ms", "booked_at_ms"):
        return EPOCH + dt.timedelta(milliseconds=value)
    if name == "rare_picousd":
        return {meter: Decimal(amount).scaleb(-12) for meter, amount in value.items()}
    if name.endswith("_picousd") and value is not None:
        return Decimal(value).scaleb(-12)
    if name == "tags":
        return list(value)
    return value


def insert_entries(client: Client, entries: Iterable[Entry]) -> None:
    """Into the client's database, in one block."""
    names = Entry.__struct_fields__
    rows = [[_cell(name, getattr(entry, name)) for name in names] for entry in entries]
    client.insert(
        "entries",
        rows,
        column_names=[_column(name) for name in names],
        settings={"insert_deduplication_token": uuid.UUID(bytes=new_id()).hex},
    )


def insert_body(
    client: Client,
    entry: Entry,
    *,
    request: bytes = b"",
    response: bytes = b"",
    metadata: str = "",
    stores_request: bool = True,
    stores_response: bool = True,
) -> None:
    """The bodies of one exchange."""
    client.insert(
        "bodies",
        [
            [
                uuid.UUID(bytes=entry.event_id),
                EPOCH + dt.timedelta(milliseconds=entry.occurred_at_ms),
                entry.key_id,
                request,
                response,
                metadata,
                stores_request,
                stores_response,
            ]
        ],
        column_names=[
            "event_id",
            "occurred_at",
            "key_id",
            "request",
            "response",
            "metadata",
            "stores_request",
            "stores_response",
        ],
    )
