"""Members that are written into a JSON body: a route's model and parameters, nothing else touched."""

from collections.abc import Iterable

import msgspec

from gateway.endpoints.json_text import NotAnObject, insert_first, member_span, replace_span
from gateway.values import Refusal

Members = tuple[tuple[str, bytes], ...]
"""Names and values, the values as JSON text."""

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def members_of(text: str) -> Members:
    """The members of a JSON object, their values as they are written. Raises ValueError."""
    if not text:
        return ()
    try:
        return tuple((name, bytes(value)) for name, value in _decode(text).items())
    except msgspec.DecodeError as error:
        raise ValueError(f"no JSON object: {error}") from None


def check_writable(body: bytes, names: Iterable[str]) -> None:
    """Raises Refusal (400) when the body is no JSON object, or one of the names is written in it so
    that replacing it would not reach every reader.
    """
    try:
        held = _decode(body)
        wanted = {name.casefold(): name for name in names}
        ambiguous = [
            name
            for name in held
            if (ours := wanted.get(name.casefold())) is not None
            # Readers that are blind to case would take it for ours, and the last one counts.
            and (name != ours or member_span(body, _quoted(name)) is None)
        ]
    except (NotAnObject, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refusal(
            400, "invalid_request_error", "invalid_json", "the request body is not a JSON object"
        ) from None
    if ambiguous:
        raise Refusal(
            400,
            "invalid_request_error",
            "invalid_body",
            f"the {ambiguous[0]} parameter is written in an ambiguous way",
            param=ambiguous[0],
        )


def with_members(body: bytes, members: Members) -> bytes:
    """The body with these members, in the place of those it has. Raises NotAnObject."""
    for name, value in members:
        span = member_span(body, _quoted(name))
        if span is None:
            body = insert_first(body, msgspec.json.encode(name) + b":" + value)
        else:
            body = replace_span(body, span, value)
    return body


def _quoted(name: str) -> bytes:
    """A name as it is most likely written, without its quotes."""
    return msgspec.json.encode(name)[1:-1]
