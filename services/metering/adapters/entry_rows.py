"""An entry read back from the ledger: the select list and its decoding from JSON values. Pure."""

from decimal import Decimal
from typing import Any, Final

import msgspec

from contracts.ids import from_text
from contracts.ledger import Entry
from contracts.money import picousd_from_decimal

_IDS: Final = frozenset({"entry_id", "event_id", "run_id", "batch_id", "incarnation"})


def _selected(field: str) -> str:
    if field.endswith(("at_ms", "by_ms")):
        return f"toUnixTimestamp64Milli({field.removesuffix('_ms')})"
    if field == "rare_picousd":
        return "mapApply((k, v) -> (k, toString(v)), rare_usd)"
    if field.endswith("_picousd"):
        return f"toString({field.removesuffix('_picousd')}_usd)"
    return field


ENTRY_SELECT: Final = ", ".join(map(_selected, Entry.__struct_fields__))


def entry_from_row(row: list[Any]) -> Entry:
    """One row of `SELECT {ENTRY_SELECT}` as an entry."""
    facts: dict[str, Any] = {}
    for field, value in zip(Entry.__struct_fields__, row, strict=True):
        if field in _IDS:
            facts[field] = from_text(value)
        elif field == "rare_picousd":
            facts[field] = {k: picousd_from_decimal(Decimal(v)) for k, v in value.items()}
        elif field == "rare_quantities":
            facts[field] = {k: int(v) for k, v in value.items()}
        elif field.endswith("_picousd") and value is not None:
            facts[field] = picousd_from_decimal(Decimal(value))
        else:
            facts[field] = value
    return msgspec.convert(facts, Entry, strict=False)
