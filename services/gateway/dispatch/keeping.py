"""Answers that are kept for those who ask the same: what is whole, and how they are told."""

from typing import Final, Protocol

CACHE_HIT: Final = (b"x-tollway-cache", b"hit")
CACHE_MISS: Final = (b"x-tollway-cache", b"miss")

_END_BYTES: Final = 1024
_ENDS: Final = (b"data: [DONE]", b'"message_stop"')
"""What the last event of a stream says when nothing went wrong."""


class Keeper(Protocol):
    """Keeps the answer of a provider."""

    bytes_max: int

    def keep(self, content_type: str, content: bytes, *, is_stream: bool) -> None:
        """A whole answer of status 200. Returns at once."""
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
        end = content[-_END_BYTES:]
        return content if any(mark in end for mark in _ENDS) else None
