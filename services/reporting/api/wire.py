"""Requests as the ancestor's clients send them: decoded with Go's leniency.

Unknown fields are ignored, null is absent, field names are matched whatever their case, and a null
inside a list is the empty value. A field of another type, or no JSON at all, is a mistake.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec

from reporting.errors import BadJson, BadQuestion

Wire = TypeVar("Wire", bound=msgspec.Struct)

INT64_MAX: Final = 2**63 - 1
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")


def decode(body: bytes, shape: type[Wire]) -> Wire:
    """A JSON object as `shape`. Raises BadJson."""
    if not body:
        raise BadJson("unexpected end of JSON input")
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadJson(str(error)) from error
    if document is None:
        return shape()
    if not isinstance(document, dict):
        raise BadJson(f"a JSON object is expected, not {type(document).__name__}")
    return _convert(document, shape)


def decode_query(query: Mapping[str, Sequence[str]], shape: type[Wire]) -> Wire:
    """Query parameters as `shape`: lists are repeated parameters. Raises BadQuestion."""
    fields = {field.encode_name.lower(): field for field in msgspec.structs.fields(shape)}
    document: dict[str, Any] = {}
    for name, values in query.items():
        field = fields.get(name.lower())
        if field is None or not values:
            continue
        if isinstance(field.default, tuple):
            document[field.encode_name] = list(values)
        elif field.type is int:
            document[field.encode_name] = integer(field.encode_name, values[-1])
        elif field.type is bool:
            document[field.encode_name] = values[-1].lower() in ("1", "t", "true")
        else:
            document[field.encode_name] = values[-1]
    return _convert(document, shape)


def integer(name: str, text: str) -> int:
    """A whole number of 64 bits. Raises BadQuestion."""
    if not _INTEGER.fullmatch(text) or abs(int(text)) > INT64_MAX:
        raise BadQuestion(f"{name} must be int64")
    return int(text)


def _convert(document: dict[str, Any], shape: type[Wire]) -> Wire:
    fields = {field.encode_name.lower(): field for field in msgspec.structs.fields(shape)}
    known: dict[str, Any] = {}
    for name, value in document.items():
        field = fields.get(name.lower())
        if field is None or value is None:
            continue
        if isinstance(value, list):
            value = ["" if item is None else item for item in value]  # noqa: PLW2901
        if isinstance(value, int) and abs(value) > INT64_MAX:
            raise BadJson(f"{field.encode_name} does not fit into 64 bits")
        known[field.encode_name] = value
    try:
        return msgspec.convert(known, shape)
    except msgspec.ValidationError as error:
        raise BadJson(str(error)) from error


def number(amount: Decimal | None) -> msgspec.Raw:
    """An exact decimal as the text of a JSON number: no float on the way. None is 0 on the wire."""
    if not amount:
        return msgspec.Raw(b"0")
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return msgspec.Raw(text.encode())
