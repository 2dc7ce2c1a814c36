"""ClickHouse's Native format by columns: the cheapest way to hand rows over, for both sides.

A block is: number of columns, number of rows, then name, type and values of each column. Columns
of LowCardinality are sent as plain String, which the server converts. Pure.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import accumulate
from sys import byteorder
from typing import Any, Final

import msgspec

from contracts.ledger import Entry, EntryKind, RatingStatus
from contracts.meters import Evidence
from metering.ports import Body

assert byteorder == "little", "column packers copy machine words"

Packer = Callable[[Sequence[Any]], bytes]
_WORD_MAX: Final = (1 << 63) - 1


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class _Texts(dict[str, bytes]):
    """Each distinct text packed once: length and UTF-8."""

    def __missing__(self, text: str) -> bytes:
        encoded = text.encode("utf-8", "surrogatepass")
        packed = self[text] = _varint(len(encoded)) + encoded
        return packed


def _repeated(values: Sequence[str]) -> bytes:
    """Texts of few distinct values."""
    return b"".join(map(_Texts().__getitem__, values))


def _texts(values: Iterable[str]) -> bytes:
    """Texts that are mostly distinct."""
    pieces = []
    for value in values:
        encoded = value.encode("utf-8", "surrogatepass")
        length = len(encoded)
        pieces.append(bytes((length,)) if length < 0x80 else _varint(length))
        pieces.append(encoded)
    return b"".join(pieces)


def _contents(values: Iterable[bytes]) -> bytes:
    pieces = []
    for value in values:
        pieces.append(_varint(len(value)))
        pieces.append(value)
    return b"".join(pieces)


def _ids(values: Sequence[bytes]) -> bytes:
    """A UUID is two machine words, the higher one first."""
    words = array("Q", b"".join(values))
    words.byteswap()
    return words.tobytes()


def _fitted(kind: str, values: Sequence[int]) -> bytes:
    """Machine words. A number beyond its column becomes the nearest that fits: one event with an
    absurd duration must not keep its whole batch out of the ledger for ever."""
    try:
        return array(kind, values).tobytes()
    except OverflowError:
        bits = 8 * array(kind).itemsize
        most = (1 << bits) - 1 if kind.isupper() else (1 << (bits - 1)) - 1
        least = 0 if kind.isupper() else -most
        return array(kind, [min(max(value, least), most) for value in values]).tobytes()


def _words(kind: str) -> Packer:
    return lambda values: _fitted(kind, values)


def _flags(values: Sequence[bool]) -> bytes:
    return bytes(values)


def _nullable(kind: str) -> Packer:
    def pack(values: Sequence[Any]) -> bytes:
        if None not in values:
            return bytes(len(values)) + _fitted(kind, values)
        return bytes([value is None for value in values]) + _fitted(
            kind, [value or 0 for value in values]
        )

    return pack


def _decimals(values: Sequence[int]) -> bytes:
    """Decimal(38, 12) is its unscaled value as a 128-bit integer: pico-dollars."""
    if any(not -_WORD_MAX <= value <= _WORD_MAX for value in values):
        return b"".join(value.to_bytes(16, "little", signed=True) for value in values)
    words = array("q", bytes(16 * len(values)))
    words[0::2] = array("q", values)
    words[1::2] = array("q", [value >> 63 for value in values])
    return words.tobytes()


def _nullable_decimals(values: Sequence[Any]) -> bytes:
    if None not in values:
        return bytes(len(values)) + _decimals(values)
    nulls = bytes([value is None for value in values])
    if 0 not in nulls:
        return nulls + bytes(16 * len(values))
    return nulls + _decimals([value or 0 for value in values])


def _text_arrays(values: Sequence[tuple[str, ...]]) -> bytes:
    ends = array("Q", accumulate(map(len, values))).tobytes()
    return ends + _repeated([text for texts in values for text in texts])


def _maps(pack_values: Packer) -> Packer:
    def pack(values: Sequence[dict[str, int]]) -> bytes:
        if not any(values):
            return bytes(8 * len(values))
        ends = array("Q", accumulate(map(len, values))).tobytes()
        keys = _repeated([key for each in values for key in each])
        return ends + keys + pack_values([number for each in values for number in each.values()])

    return pack


def _enum(numbers: dict[Any, int]) -> tuple[str, Packer]:
    names = ", ".join(f"'{name.value}' = {number}" for name, number in numbers.items())
    return f"Enum8({names})", lambda values: bytes(map(numbers.__getitem__, values))


_TIME: Final = ("DateTime64(3, 'UTC')", _words("q"))
_ID: Final = ("UUID", _ids)
_FEW: Final = ("String", _repeated)
_MANY: Final = ("String", _texts)
_COUNT: Final = ("UInt64", _words("Q"))
_QUANTITY: Final = ("Nullable(Int64)", _nullable("q"))
_DURATION: Final = ("Nullable(UInt64)", _nullable("Q"))
_AMOUNT: Final = ("Nullable(Decimal(38, 12))", _nullable_decimals)

_KIND_BY_FIELD: Final[dict[str, tuple[str, Packer]]] = {
    "kind": _enum({EntryKind.CHARGE: 1, EntryKind.REVERSAL: 2, EntryKind.REPLACEMENT: 3}),
    "requests": ("Int8", _words("b")),
    "attempt_no": ("UInt8", _words("B")),
    "partition": ("UInt16", _words("H")),
    "segment_no": ("UInt32", _words("I")),
    "journal_offset": _COUNT,
    "setting_revision": _COUNT,
    "user_id": _MANY,
    "custom_id": _MANY,
    "correlation_id": _MANY,
    "response_id": _MANY,
    "tags": ("Array(String)", _text_arrays),
    "is_streaming": ("Bool", _flags),
    "status": ("UInt16", _words("H")),
    "attempts": ("UInt8", _words("B")),
    "duration_us": _DURATION,
    "first_byte_us": _DURATION,
    "request_bytes": _COUNT,
    "response_bytes": _COUNT,
    "rare_quantities": ("Map(String, Int64)", _maps(_words("q"))),
    "rare_picousd": ("Map(String, Decimal(38, 12))", _maps(_decimals)),
    "evidence": _enum(
        {Evidence.NONE: 0, Evidence.ESTIMATED: 1, Evidence.COUNTED: 2, Evidence.REPORTED: 3}
    ),
    "rating_status": _enum(
        {
            RatingStatus.RATED: 1,
            RatingStatus.UNPRICED: 2,
            RatingStatus.UNKNOWN: 3,
            RatingStatus.NOT_BILLABLE: 4,
        }
    ),
    "incarnation": _ID,
}


def _kind_of(field: str) -> tuple[str, Packer]:
    if field in _KIND_BY_FIELD:
        return _KIND_BY_FIELD[field]
    for suffix, kind in (
        ("at_ms", _TIME), ("by_ms", _TIME), ("_tokens", _QUANTITY), ("_picousd", _AMOUNT),
    ):  # fmt: skip
        if field.endswith(suffix):
            return kind
    return _ID if field in ("entry_id", "event_id", "run_id", "batch_id") else _FEW


def _column_of(field: str) -> str:
    if field.endswith("_picousd"):
        return field.removesuffix("_picousd") + "_usd"
    return field.removesuffix("_ms")


def _head(column: str, kind: str) -> bytes:
    return b"".join(_varint(len(text)) + text.encode() for text in (column, kind))


def _packed(column: Sequence[Any], kind: str, pack: Packer) -> bytes:
    """Most columns of a batch hold one value: the same key, the same book, no audio."""
    first, rows = column[0], len(column)
    if column[-1] != first or column.count(first) != rows or kind.startswith(("Array", "Map")):
        return pack(column)
    one = pack((first,))
    flag = 1 if kind.startswith("Nullable") else 0
    return one[:flag] * rows + one[flag:] * rows


_FIELDS: Final = tuple(Entry.__struct_fields__)
_DEADLINE_AT: Final = _FIELDS.index("insert_by_ms")
_KINDS: Final = tuple(map(_kind_of, _FIELDS))
_HEADS: Final = tuple(
    _head(_column_of(field), kind) for field, (kind, _) in zip(_FIELDS, _KINDS, strict=True)
)
ENTRY_COLUMNS: Final = tuple(map(_column_of, _FIELDS))
BODY_COLUMNS: Final = tuple(name.removesuffix("_ms") for name in Body.__struct_fields__)
_BODY_PACKERS: Final[tuple[tuple[str, Packer], ...]] = (
    _ID, _TIME, _FEW, ("String", _contents), ("String", _contents), _MANY,
    ("Bool", _flags), ("Bool", _flags),
)  # fmt: skip


class EntryBlock:
    """Entries packed once; the deadline is put in when the block is sent."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.rows = len(entries)
        columns = zip(*map(msgspec.structs.astuple, entries), strict=True)
        self._packed = [
            b"" if at == _DEADLINE_AT else _packed(column, *_KINDS[at])
            for at, column in enumerate(columns)
        ] or [b""] * len(_KINDS)
        digest = blake2b(digest_size=16)
        for packed in self._packed:
            digest.update(packed)
        self.sha = digest.hexdigest()

    def native(self, insert_by_ms: int) -> bytes:
        """The block as it goes on the wire."""
        parts = [_varint(len(_HEADS)), _varint(self.rows)]
        for at, head in enumerate(_HEADS):
            parts.append(head)
            parts.append(
                insert_by_ms.to_bytes(8, "little") * self.rows
                if at == _DEADLINE_AT
                else self._packed[at]
            )
        return b"".join(parts)


def body_block(bodies: Sequence[Body]) -> bytes:
    """Rows of `bodies` as one block."""
    columns = list(zip(*map(msgspec.structs.astuple, bodies), strict=True))
    parts = [_varint(len(BODY_COLUMNS)), _varint(len(bodies))]
    for column, (kind, pack), values in zip(BODY_COLUMNS, _BODY_PACKERS, columns, strict=True):
        parts.append(_head(column, kind))
        parts.append(pack(values))
    return b"".join(parts)
