"""Paths into JSON as gjson writes them, as far as they name one place in every element.

A location is parsed once and then looked up in decoded JSON, or in JSON text, of which only what
lies on the way is decoded. What there is:

- `model`, `metadata.user_id`: members by name, parted by dots;
- `choices.0.text`: elements by number (a member of that name where there is an object);
- `choices.#.delta.content`: the rest, looked up in every element; those without it are left out;
- `messages.#`: how many elements;
- `a\\.b`: a character that would mean something else, as itself.

Queries `#(...)`, modifiers `@`, pipes `|`, wildcards `*` and `?`, literals `!` and multipaths `{`
and `[` are refused. Of two members with one name the last counts, as it does for JSON readers.
"""

import re
from functools import lru_cache
from typing import Any, Final

import msgspec

LOCATION_BYTES_MAX: Final = 1024
STEPS_MAX: Final = 32
COMMAS_MAX: Final = 500_000
"""In an array's text: one small object is made for each element, a hundred bytes or less."""
WHOLE_BYTES_MAX: Final = 16_384
"""A text up to this is decoded whole: cheaper than to look what to leave out."""

MISSING: Final = msgspec.UNSET
"""What a location finds where there is nothing."""

_TOKEN: Final = re.compile(r"\\(.)|([^\\])", re.DOTALL)
_INDEX: Final = re.compile(r"[0-9]{1,9}").fullmatch
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_REFUSED_ANYWHERE: Final = {"*": "a wildcard", "?": "a wildcard", "|": "a pipe"}
_REFUSED_FIRST: Final = {
    "@": "a modifier",
    "!": "a literal",
    "{": "a multipath",
    "[": "a multipath",
}


class BadLocation(ValueError):
    """The text is no location that we can look up; the message says why."""


class NotReadable(ValueError):
    """The JSON text is malformed, too deep, or has an array that is too long, on the way."""


class Step(msgspec.Struct, frozen=True):
    """One part of a location. `is_each` is `#`; `index` is set where the name is a number."""

    name: str
    is_each: bool = False
    index: int | None = None


class Location(msgspec.Struct, frozen=True):
    """A parsed location."""

    steps: tuple[Step, ...]

    def find(self, value: Any) -> Any:
        """What lies there in decoded JSON, MISSING when nothing does."""
        return _find(value, self.steps, 0)

    def find_in(self, text: bytes | msgspec.Raw) -> Any:
        """What lies there in JSON text, decoded, MISSING when nothing does. Raises NotReadable."""
        try:
            return _find_in(bytes(text), self.steps, 0)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotReadable(f"not valid JSON: {error}") from None
        except RecursionError:
            raise NotReadable("nested too deeply") from None


def parse_location(text: str) -> Location:
    """Raises BadLocation."""
    if not text:
        raise BadLocation("a location must not be empty")
    if len(text.encode()) > LOCATION_BYTES_MAX:
        raise BadLocation(f"a location must not be longer than {LOCATION_BYTES_MAX} bytes")
    steps: list[Step] = []
    name = ""
    is_plain = True
    position = 0
    for token in _TOKEN.finditer(text):
        escaped, plain = token.groups()
        position = token.end()
        if plain == ".":
            steps.append(_step(name, is_plain))
            name, is_plain = "", True
            continue
        if plain in _REFUSED_ANYWHERE:
            raise BadLocation(f"{plain!r} ({_REFUSED_ANYWHERE[plain]}) is not supported")
        if plain in _REFUSED_FIRST and not name:
            raise BadLocation(f"{plain!r} ({_REFUSED_FIRST[plain]}) is not supported")
        is_plain = is_plain and escaped is None
        name += escaped or plain
    if position != len(text):
        raise BadLocation("a location must not end in a backslash")
    steps.append(_step(name, is_plain))
    if len(steps) > STEPS_MAX:
        raise BadLocation(f"a location must not have more than {STEPS_MAX} parts")
    return Location(tuple(steps))


def _step(name: str, is_plain: bool) -> Step:
    if not name:
        raise BadLocation("a location must not have an empty part")
    if is_plain and name.startswith("#") and len(name) > 1:
        raise BadLocation("'#' (a query) is not supported but as a part of its own")
    return Step(
        name=name,
        is_each=is_plain and name == "#",
        index=int(name) if _INDEX(name) else None,
    )


def text_of(found: Any) -> str | None:
    """The text in what was found: a string, or the strings of an array at any depth, joined.

    None when there is neither.
    """
    if isinstance(found, str):
        return found
    if not isinstance(found, list):
        return None
    texts: list[str] = []
    left = [iter(found)]
    while left:
        for value in left[-1]:
            if isinstance(value, str):
                texts.append(value)
            elif isinstance(value, list):
                left.append(iter(value))
                break
        else:
            left.pop()
    return "".join(texts)


def _find(value: Any, steps: tuple[Step, ...], at: int) -> Any:
    for number in range(at, len(steps)):
        step = steps[number]
        if isinstance(value, dict):
            value = value.get(step.name, MISSING)
        elif not isinstance(value, list):
            return MISSING
        elif step.is_each:
            if number == len(steps) - 1:
                return len(value)
            found = (_find(element, steps, number + 1) for element in value)
            return [one for one in found if one is not MISSING]
        elif step.index is not None and step.index < len(value):
            value = value[step.index]
        else:
            return MISSING
    return value


def _find_in(text: bytes, steps: tuple[Step, ...], at: int) -> Any:
    for number in range(at, len(steps)):
        if len(text) <= WHOLE_BYTES_MAX:
            return _find(msgspec.json.decode(text), steps, number)
        step = steps[number]
        first = _first(text)
        if first == b"{":
            member = _member(text, step.name)
            if member is None:
                return MISSING
            text = member
        elif first != b"[":
            return MISSING
        elif step.is_each:
            elements = _elements(text)
            if number == len(steps) - 1:
                return len(elements)
            found = (_find_in(bytes(element), steps, number + 1) for element in elements)
            return [one for one in found if one is not MISSING]
        elif step.index is not None:
            elements = _elements(text)
            if step.index >= len(elements):
                return MISSING
            text = bytes(elements[step.index])
        else:
            return MISSING
    return msgspec.json.decode(text)


def _first(text: bytes) -> bytes:
    space = _SPACE.match(text)
    assert space is not None
    return text[space.end() : space.end() + 1]


def _elements(text: bytes) -> list[msgspec.Raw]:
    if text.count(b",") > COMMAS_MAX:
        raise NotReadable("an array is too long to look into")
    return msgspec.json.decode(text, type=list[msgspec.Raw])


def _member(text: bytes, name: str) -> bytes | None:
    """The text of a member of an object, None when it has none of that name."""
    decoder = _member_decoder(name)
    if decoder is None:
        found = msgspec.json.decode(text, type=dict[str, msgspec.Raw]).get(name)
    else:
        found = decoder.decode(text).value
    return None if found is None else bytes(found) or None


@lru_cache(maxsize=1024)
def _member_decoder(name: str) -> msgspec.json.Decoder[Any] | None:
    """Decodes objects to the one member of that name; None for a name that no struct may have.

    So the other members, however many, are passed over without an object for each.
    """
    try:
        kind = msgspec.defstruct(
            "Member", [("value", msgspec.Raw, msgspec.Raw())], rename={"value": name}
        )
    except ValueError:
        return None
    return msgspec.json.Decoder(kind)
