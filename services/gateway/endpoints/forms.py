"""Reads the few fields of a multipart form that matter here, in one pass over any pieces of it.

Whoever reads the form after us must find the same model in it. So what another reader could take
for something else (a field twice, a delimiter out of place, a name written in an unusual way) makes
the whole form unclear, and an unclear form hides its model.
"""

import re
from typing import Final, NamedTuple

import msgspec

from gateway.endpoints.bodies import HIDING, MODEL_CHARS_MAX, user_in_books
from gateway.values import Call, Refusal

WANTED: Final = frozenset({b"model", b"user", b"stream"})
VALUE_BYTES_MAX: Final = 4 * MODEL_CHARS_MAX
PART_HEAD_BYTES_MAX: Final = 8_192
_BOUNDARY_CHARS_MAX: Final = 200
_NEWLINE: Final = b"\r\n"

_MULTIPART: Final = re.compile(
    rb'multipart/form-data[ \t]*;[ \t]*boundary=(?:"([^"\\\r\n]+)"|([^\s";,=]+))[ \t]*',
    re.IGNORECASE,
)
_DISPOSITION: Final = re.compile(rb"^content-disposition[ \t]*:(.*)$", re.IGNORECASE | re.MULTILINE)
_USUAL: Final = re.compile(
    rb'[ \t]*form-data[ \t]*;[ \t]*name=(?:"([^"\\]*)"|([^\s";,=]+))'
    rb'(?:[ \t]*;[ \t]*(filename\*?)=(?:"(?:[^"\\]|\\.)*"|[^\s";]+))*[ \t]*\r?',
    re.IGNORECASE,
)
_ODD_LINE: Final = re.compile(rb"\n[ \t]|(?<!\r)\n|\r(?!\n)")
_ENCODED: Final = re.compile(
    rb"^content-transfer-encoding|charset=(?!\"?utf-?8\b)", re.IGNORECASE | re.MULTILINE
)
"""A value that is written in another way than it is to be read."""


class Field(NamedTuple):
    """A field's value, and where it lies in the body: [start, end)."""

    value: bytes
    start: int
    end: int


def is_form(content_type: bytes) -> bool:
    """Whether a body of this type is a multipart form."""
    return content_type[:19].lower() == b"multipart/form-data"


def boundary_of(content_type: bytes) -> bytes | None:
    """The boundary of a form, None for any other type and for one that could be read two ways."""
    found = _MULTIPART.fullmatch(content_type.strip())
    if found is None:
        return None
    boundary: bytes = found.group(1) or found.group(2)
    return boundary if len(boundary) <= _BOUNDARY_CHARS_MAX else None


class FormReader:
    """Is fed the body in pieces. `fields` are the wanted ones, `is_clear` whether to trust them.

    Holds back no more than a part's head or a short value.
    """

    __slots__ = (
        "_at",
        "_delimiter",
        "_held",
        "_in_head",
        "_is_closed",
        "_name",
        "_start",
        "_value",
        "fields",
        "is_clear",
    )

    def __init__(self, boundary: bytes | None) -> None:
        self.fields: dict[bytes, Field] = {}
        self.is_clear = boundary is not None
        self._delimiter = b"--" + (boundary or b"")
        self._held = b""
        self._at = 0
        """Where `_held` begins in the body."""
        self._in_head = False
        self._is_closed = False
        self._name: bytes | None = None
        self._value = b""
        self._start = 0

    def feed(self, piece: bytes) -> None:
        """The next bytes of the body."""
        if not self.is_clear:
            return
        content = self._held + piece if self._held else piece
        place = 0
        while self.is_clear:
            step = self._head(content, place) if self._in_head else self._part(content, place)
            if step is None:
                return
            place = step
        self._held = b""

    def finish(self) -> None:
        """The body has ended: without its last delimiter it is not clear."""
        if not self._is_closed or self._in_head or self._delimiter in self._held:
            self.is_clear = False
        if not self.is_clear:
            self.fields = {}

    def _hold(self, content: bytes, place: int) -> None:
        self._held = content[place:]
        self._at += place

    def _head(self, content: bytes, place: int) -> int | None:
        """A part's head, which begins with the line end of its delimiter."""
        end = content.find(_NEWLINE * 2, place)
        if end < 0:
            if len(content) - place > PART_HEAD_BYTES_MAX:
                self.is_clear = False
            self._hold(content, place)
            return None
        head = content[place + 2 : end]
        if self._delimiter in head or end - place > PART_HEAD_BYTES_MAX:
            self.is_clear = False
            return None
        self._in_head = False
        self._name, self._value = self._wanted(head), b""
        place = end + 4
        self._start = self._at + place
        return place

    def _wanted(self, head: bytes) -> bytes | None:
        """The name of a field whose value is to be kept."""
        found = _DISPOSITION.findall(head)
        usual = _USUAL.fullmatch(found[0]) if len(found) == 1 else None
        if usual is None or _ODD_LINE.search(head) is not None:
            self.is_clear = False
            return None
        name: bytes = usual.group(2) if usual.group(1) is None else usual.group(1)
        if name.lower().strip() not in WANTED:
            # Some readers undo percent signs in names.
            self.is_clear = b"%" not in name
            return None
        is_odd = usual.group(3) is not None or _ENCODED.search(head) is not None
        if name not in WANTED or name in self.fields or is_odd:
            self.is_clear = False
            return None
        return name

    def _part(self, content: bytes, place: int) -> int | None:
        """What lies before, in and behind the parts, up to the next delimiter."""
        delimiter = self._delimiter
        found = content.find(delimiter, place)
        behind = found + len(delimiter)
        if found < 0 or len(content) < behind + 2:
            # Of a delimiter, with the line end before it, all but the last byte may be here.
            keep = found - 2 if found >= 0 else len(content) - len(delimiter) - 1
            keep = max(place, keep)
            self._take(content[place:keep])
            self._hold(content, keep)
            return None
        is_first = self._at + found == 0
        if self._is_closed or not (
            is_first or (found - 2 >= place and content.startswith(_NEWLINE, found - 2))
        ):
            self.is_clear = False
            return None
        self._take(content[place : max(found - 2, place)])
        self._end_field()
        after = content[behind : behind + 2]
        if after == _NEWLINE:
            self._in_head = True
        elif after == b"--":
            self._is_closed = True
        else:
            self.is_clear = False
        return behind

    def _take(self, value: bytes) -> None:
        if self._name is None or not value:
            return
        self._value += value
        if len(self._value) > VALUE_BYTES_MAX:
            self.is_clear = False

    def _end_field(self) -> None:
        name, self._name = self._name, None
        if name is not None:
            value = self._value
            self.fields[name] = Field(value, self._start, self._start + len(value))


def call_of_form(form: FormReader) -> Call:
    """The call that a form makes; one that names no model, or not clearly, hides it.

    Raises Refusal (400) for an absurd model.
    """
    fields = form.fields
    model = _text(fields.get(b"model"))
    if not form.is_clear:
        return HIDING
    if model is not None and len(model) > MODEL_CHARS_MAX:
        raise Refusal(
            400,
            "invalid_request_error",
            "invalid_model",
            f"model is longer than {MODEL_CHARS_MAX} characters",
            param="model",
        )
    stream = fields.get(b"stream")
    return Call(
        model or None,
        stream is not None and stream.value.lower() in (b"true", b"1"),
        user_in_books(_text(fields.get(b"user"))),
        asks_usage=False,
        hides_model=not model,
    )


def form_of(content_type: bytes, body: bytes) -> FormReader:
    """A form that is here whole, read."""
    form = FormReader(boundary_of(content_type))
    form.feed(body)
    form.finish()
    return form


def known_so_far(form: FormReader, call: Call) -> Call:
    """A call with what its form has told by now, for the record."""
    model = _text(form.fields.get(b"model")) if form.is_clear else None
    if not model or len(model) > MODEL_CHARS_MAX:
        return call
    user = user_in_books(_text(form.fields.get(b"user")))
    return msgspec.structs.replace(
        call, model=model, user_id=user or call.user_id, hides_model=False
    )


def _text(field: Field | None) -> str | None:
    if field is None:
        return None
    try:
        return field.value.decode("utf-8")
    except UnicodeDecodeError:
        return None
