"""Whether two bodies ask the same: JSON without what has no meaning, numbers as they are written."""

import json
from hashlib import sha256
from typing import Any, Final

BYTES_MAX: Final = 1024 * 1024
"""A longer request is not looked up: reading it would cost more than the answer is worth."""
_DEPTH_MAX: Final = 100


class _Number(str):
    __slots__ = ()


class _Unclear(ValueError):
    pass


def canonical_digest(body: bytes, *parts: bytes) -> bytes:
    """SHA-256 of the parts and of what the body means; empty when that is not clear.

    The order of members and space between tokens have no meaning. `1` and `1.0` differ, for some
    provider may see a difference. Not clear: no JSON, a member twice, too long or too deep.
    """
    if len(body) > BYTES_MAX:
        return b""
    try:
        value = json.loads(
            body,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_no_constant,
            object_pairs_hook=_members,
        )
        text = "".join(_texts(value, 0))
        meaning = text.encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return b""
    digest = sha256()
    for part in (*parts, meaning):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def _texts(value: Any, depth: int) -> list[str]:
    if depth > _DEPTH_MAX:
        raise _Unclear
    if isinstance(value, _Number):
        return [str(value)]
    if isinstance(value, dict):
        parts = ["{"]
        for name in sorted(value):
            parts += [json.dumps(name), ":", *_texts(value[name], depth + 1), ","]
        return [*parts, "}"]
    if isinstance(value, list):
        parts = ["["]
        for one in value:
            parts += [*_texts(one, depth + 1), ","]
        return [*parts, "]"]
    return [json.dumps(value)]


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Unclear
    return members


def _no_constant(_: str) -> Any:
    raise _Unclear
