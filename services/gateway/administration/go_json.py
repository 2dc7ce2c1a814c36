"""Reads JSON into structs the way Go does: unknown members ignored, null absent, names in any case.

What looks like a misspelt member is refused, and so is every unknown one of a struct that is told
to forbid them, and what a struct's own `check_places` says of members that stand elsewhere: a limit
that was given and ignored would look like a limit.
"""

import re
from collections.abc import Iterable
from types import NoneType
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

import msgspec

Body = TypeVar("Body", bound=msgspec.Struct)

_NAME_CHARS_SHOWN: Final = 100
_NO_LETTERS: Final = re.compile(r"[^a-z0-9]+")


class Placed(msgspec.Struct):
    """A struct that knows which of its members are sent in a wrong place."""

    @classmethod
    def check_places(cls, members: dict[str, msgspec.Raw]) -> None:
        """Raises ValidationError, saying where a member belongs."""
        raise NotImplementedError


def read_struct(text: bytes, kind: type[Body]) -> Body:
    """An object. Raises DecodeError, UnicodeDecodeError, RecursionError, and TypeError for a member
    that `kind` cannot do without.
    """
    members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    if issubclass(kind, Placed):
        kind.check_places(members)
    fields = {field.encode_name.lower(): field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for name, raw in members.items():
        field = fields.get(name.lower())
        if bytes(raw) == b"null":
            continue
        if field is None:
            _check_unknown(name, kind, (one.encode_name for one in fields.values()))
            continue
        try:
            values[field.name] = _value(bytes(raw), field.type)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(f"{field.encode_name}: {error}") from None
    return kind(**values)


def _check_unknown(name: str, kind: type[msgspec.Struct], known: Iterable[str]) -> None:
    """Raises ValidationError for a member that its sender must not believe to be in force."""
    shown = name[:_NAME_CHARS_SHOWN]
    bare = bare_name(shown)
    for one in known:
        if bare_name(one) == bare:
            raise msgspec.ValidationError(f"unknown member {shown}: is {one} meant?")
    if kind.__struct_config__.forbid_unknown_fields:
        raise msgspec.ValidationError(f"unknown member {shown}")


def bare_name(name: str) -> str:
    """`expires_at`, `expires-at` and `expiresAt` are one, and so are singular and plural."""
    return _NO_LETTERS.sub("", name.lower()).removesuffix("s")


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
