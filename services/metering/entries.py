"""Entries made from entries: the exact negative of a row. Pure."""

from typing import Final

import msgspec

from contracts.ids import entry_id
from contracts.ledger import Entry, EntryKind

_ADDITIVE_MAPS: Final = ("rare_quantities", "rare_picousd")
_ADDITIVE: Final = tuple(
    name
    for name in Entry.__struct_fields__
    if name not in _ADDITIVE_MAPS and (name == "requests" or name.endswith(("_tokens", "_picousd")))
)


def reversal_of(entry: Entry) -> Entry:
    """The row that takes `entry` back: every dimension the same, every additive column negative."""
    changes: dict[str, object] = {
        name: -value for name in _ADDITIVE if (value := getattr(entry, name)) is not None
    }
    for name in _ADDITIVE_MAPS:
        changes[name] = {meter: -amount for meter, amount in getattr(entry, name).items()}
    changes["kind"] = EntryKind.REVERSAL
    changes["entry_id"] = entry_id(
        entry.event_id, entry.attempt_no, EntryKind.REVERSAL, entry.run_id
    ).bytes
    return msgspec.structs.replace(entry, **changes)


def copy_reversal_of(entry: Entry) -> Entry:
    """The row that takes a second copy of `entry` back; an identity of its own, so it is told from
    the reversal of the exchange."""
    identity = entry_id(entry.event_id, entry.attempt_no, f"{entry.kind}.copy", entry.run_id)
    return msgspec.structs.replace(reversal_of(entry), entry_id=identity.bytes)
