"""Relays a stream as it comes, and keeps what the bill needs of it."""

from hashlib import sha256
from typing import Final

from contracts.exchange import Body
from gateway.dispatch import sse

OPENING_BYTES: Final = 16_384
"""Anthropic's first event is looked for in this much of such a stream's beginning."""
TAIL_BYTES: Final = 65_536
"""The usage event is looked for in this much of the end of a stream that was cut in the event."""
USAGE_DOCUMENT_BYTES_MAX: Final = 262_144
"""A longer one is no usage that anybody bills by, and must not keep its event out of the journal."""


class Transcript:
    """The body of a stream as it is recorded: whole up to a limit, then its head and its tail."""

    __slots__ = ("_bytes_max", "_digest", "_length", "_opening", "_parts", "_tail", "document")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._parts: list[bytes] = []
        self._length = 0
        self._digest = None if bytes_max else sha256()
        self._opening = b""
        self._tail = b""
        self.document: bytes | None = None

    def add(self, content: bytes) -> None:
        """One more piece, as the provider sent it."""
        self._length += len(content)
        digest = self._digest
        if digest is None:
            self._parts.append(content)
            if self._length > self._bytes_max:
                whole = b"".join(self._parts)
                self._digest = sha256(whole)
                self._parts = [whole[: self._bytes_max]]
                self._opening = whole[:OPENING_BYTES]
                self._tail = whole[-TAIL_BYTES:]
        else:
            digest.update(content)
            if len(self._opening) < OPENING_BYTES:
                self._opening = (self._opening + content)[:OPENING_BYTES]
            self._tail = (self._tail + content)[-TAIL_BYTES:]

    def body(self) -> Body:
        """The body as it travels in the event."""
        head = b"".join(self._parts)
        self._parts = [head]
        digest = self._digest
        return Body(head, self._length, None if digest is None else digest.digest())

    def usage_document(self) -> bytes | None:
        """The data of the last event that reports usage, None also when it is absurdly long.

        Anthropic's last event comes with the message of the first one.
        """
        # What was stripped is in here too; another that was not may have come after it.
        document = self._found() or self.document
        if document is None or len(document) > USAGE_DOCUMENT_BYTES_MAX:
            return None
        opening = self._opening or (self._parts[0] if self._parts else b"")
        return sse.with_first_message(document, opening)

    def _found(self) -> bytes | None:
        if self._digest is not None:
            return sse.usage_document(self._tail)
        parts = self._parts
        if len(parts) > 1:
            parts[:] = [b"".join(parts)]
        return sse.usage_document(parts[0]) if parts else None


class UsageStripper:
    """Holds back the event that we asked for and the client did not; passes on all else at once.

    Only an unfinished event is ever held, and at most `hold_bytes_max` of it.
    """

    __slots__ = ("_held", "_hold_bytes_max", "document")

    def __init__(self, hold_bytes_max: int) -> None:
        self._held = b""
        self._hold_bytes_max = hold_bytes_max
        self.document: bytes | None = None

    def feed(self, content: bytes) -> bytes:
        """What may go on to the client now; may be empty."""
        if self._held:
            content = self._held + content
            self._held = b""
        end = sse.last_event_end(content)
        if end < len(content):
            if len(content) - end > self._hold_bytes_max:
                return content
            self._held = content[end:]
            content = content[:end]
        if not content:
            return content
        passed, document = sse.without_usage_event(content)
        if document is not None:
            self.document = document
        return passed

    def finish(self) -> bytes:
        """What was held when the stream ended, without the usage event."""
        passed, document = sse.without_usage_event(self._held)
        self._held = b""
        if document is not None:
            self.document = document
        return passed
