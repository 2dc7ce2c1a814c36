"""Columns of the Native format: the short way of a column that holds one value."""

import pytest
from metering_events import make_completed

from contracts.ledger import Entry
from metering.adapters.native_block import _KINDS, EntryBlock, _packed
from metering.pipeline import Pipeline
from metering.ports import Chargeable, Manifest
from rating.price_book import PriceBook

BOOK = PriceBook.from_json(b'{"format":1,"source":"t","units":{},"providers":{}}')


def entries(count: int) -> list[Entry]:
    manifest = Manifest(3, bytes(range(16)), 1_790_000_000_000, "book", "build")
    charges = [Chargeable(make_completed(), bytes(16), 0, 100 * n) for n in range(1, count + 1)]
    return Pipeline(BOOK).rows(charges, [], manifest).entries


@pytest.mark.parametrize("at", range(len(_KINDS)))
def test_a_column_of_one_value_is_packed_as_any_other(at: int) -> None:
    """Byte for byte, for every column of an entry and for what is missing."""
    kind, pack = _KINDS[at]
    value = getattr(entries(1)[0], Entry.__struct_fields__[at])
    column = (value,) * 7
    assert _packed(column, kind, pack) == pack(column)
    if kind.startswith("Nullable"):
        for column in ((None,) * 7, (0,) * 7, (None, 0, None), (5, None, 5), (5, 6, 5)):
            assert _packed(column, kind, pack) == pack(column)


def test_a_block_without_rows_has_every_column() -> None:
    """A batch of which nothing is left to insert."""
    assert EntryBlock([]).rows == 0
    assert EntryBlock([]).native(0) != EntryBlock(entries(1)).native(0)
