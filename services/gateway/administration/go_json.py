"""Reads JSON into structs the way Go does: unknown members ignored, null absent, names in any case."""

from types import NoneType
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec

Body = TypeVar("Body", bound=msgspec.Struct)


def read_struct(text: bytes, kind: type[Body]) -> Body:
    """An object. Raises DecodeError, UnicodeDecodeError, RecursionError, and TypeError for a member
    that `kind` cannot do without.
    """
    members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    fields = {field.encode_name.lower(): field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for name, raw in members.items():
        field = fields.get(name.lower())
        if field is None or bytes(raw) == b"null":
            continue
        try:
            values[field.name] = _value(bytes(raw), field.type)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(f"{field.encode_name}: {error}") from None
    return kind(**values)


def _value(text: bytes, annotated: Any) -> Any:
    kinds = [kind for kind in get_args(annotated) if kind not in (NoneType, msgspec.UnsetType)]
    # A list's argument is its element; of a union with None, or with UNSET, one kind is left.
    kind = annotated if get_origin(annotated) in (list, dict) or not kinds else kinds[0]
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if kind is msgspec.Raw:
        return msgspec.Raw(text)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return read_struct(text, kind)
    element = (get_args(kind) or (None,))[0]
    if isinstance(element, type) and issubclass(element, msgspec.Struct):
        return [
            element() if bytes(one) == b"null" else read_struct(bytes(one), element)
            for one in msgspec.json.decode(text, type=list[msgspec.Raw])
        ]
    return msgspec.json.decode(text, type=annotated)
