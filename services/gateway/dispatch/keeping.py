"""Answers that are kept for those who ask the same: what is whole, and how they are told."""

import re
from typing import Final, Protocol

import msgspec

CACHE_HIT: Final = (b"x-tollway-cache", b"hit")
CACHE_MISS: Final = (b"x-tollway-cache", b"miss")

_END_BYTES: Final = 1024
# At the beginning of a line: a text that speaks of an end has its line ends escaped.
_END: Final = re.compile(
    rb'^(?:data:[ ]?\[DONE\][ ]*\r?$|data:[ ]?\{[^\n]*"type"[ ]*:[ ]*"message_stop")', re.MULTILINE
)
"""What the last event of a stream says when nothing went wrong."""
_ERROR_EVENT: Final = re.compile(rb"^event:[ ]?error[ ]*\r?$", re.MULTILINE)
_ERROR_MEMBER: Final = b'"error"'


class _Answer(msgspec.Struct):
    """Of an object that may be an error, in whatever dialect."""

    error: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Answer).decode


class Keeper(Protocol):
    """Keeps the answer of a provider."""

    bytes_max: int

    def keep(
        self, content_type: str, content: bytes, model: str | None, *, is_stream: bool
    ) -> None:
        """A whole answer of status 200, of the model that was asked. Returns at once."""
        ...


class Gathered:
    """A stream as it went to the client, as long as it is not over the limit."""

    __slots__ = ("_bytes_max", "_length", "_parts")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._length = 0
        self._parts: list[bytes] = []

    def add(self, content: bytes) -> None:
        """One more piece."""
        self._length += len(content)
        if self._length > self._bytes_max:
            self._parts.clear()
        else:
            self._parts.append(content)

    def whole(self) -> bytes | None:
        """All of it; None when it was too long, or does not end as a stream ends that is whole."""
        content = b"".join(self._parts)
        if self._length > self._bytes_max:
            return None
        if _END.search(content, max(len(content) - _END_BYTES, 0)) is None:
            return None
        return None if _holds_error(content) else content


def is_good(content: bytes) -> bool:
    """Whether an answer of status 200 is a JSON object, and no error under a good status."""
    try:
        return bytes(_decode(content).error) == b"null"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _holds_error(stream: bytes) -> bool:
    """Whether one of the events tells of an error, and not a text in it."""
    if _ERROR_EVENT.search(stream) is not None:
        return True
    found = stream.find(_ERROR_MEMBER)
    while found >= 0:
        start = stream.rfind(b"\n", 0, found) + 1
        end = stream.find(b"\n", found)
        end = len(stream) if end < 0 else end
        line = stream[start:end]
        if line.startswith(b"data:") and not is_good(line[5:]):
            return True
        found = stream.find(_ERROR_MEMBER, end)
    return False
