"""Request bodies that are not held in memory: passed on as they come, or spooled and then sent."""

from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from typing import Final

from contracts.exchange import Body
from gateway.dispatch.spool import Spool
from gateway.ports import HeaderPairs

WHOLE_BYTES_MAX: Final = 262_144
"""A body that says it is no longer than this is read whole, whatever it is."""
HEAD_BYTES: Final = 65_536
"""Of a body that is too long for its event, so much of its beginning is kept."""


def content_type_of(headers: HeaderPairs) -> bytes:
    """The Content-Type, empty when there is none or more than one."""
    found = [value for name, value in headers if name == b"content-type"]
    return found[0] if len(found) == 1 else b""


def is_json(content_type: bytes) -> bool:
    """Whether a body of this type is JSON, as one without a type is taken to be."""
    media_type = content_type.partition(b";")[0].strip().lower()
    return not media_type or media_type == b"application/json" or media_type.endswith(b"+json")


class Kept:
    """A body as its event will have it: whole up to `bytes_max`, else its head, length and hash."""

    __slots__ = ("_bytes_max", "_digest", "_head", "length_bytes")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._digest = sha256()
        self._head = bytearray()
        self.length_bytes = 0

    def add(self, piece: bytes) -> None:
        """One more piece."""
        self._digest.update(piece)
        self.length_bytes += len(piece)
        if self.length_bytes <= self._bytes_max:
            self._head += piece
        elif len(self._head) < HEAD_BYTES:
            self._head += piece[: HEAD_BYTES - len(self._head)]
        if self.length_bytes > self._bytes_max and len(self._head) > HEAD_BYTES:
            del self._head[HEAD_BYTES:]

    def body(self, *, keeps_content: bool = True) -> Body:
        """What has come so far, as it travels; without content only its length and hash."""
        if not keeps_content:
            return Body(b"", self.length_bytes, self._digest.digest())
        if self.length_bytes <= self._bytes_max:
            return Body(bytes(self._head), self.length_bytes, None)
        return Body(bytes(self._head[: self._bytes_max]), self.length_bytes, self._digest.digest())


class Upload:
    """A request body that is sent as it comes in, once; or from a spool, any number of times.

    `content_length` is None when only its end tells how long it is. `tell` is given every piece
    that comes in. Where `swap` is set, the bytes [start, end) go out as others.
    """

    __slots__ = ("_source", "_spool", "_tell", "content_length", "kept", "swap")

    def __init__(
        self,
        source: AsyncIterator[bytes],
        content_length: int | None,
        kept: Kept,
        tell: Callable[[bytes], None] | None,
    ) -> None:
        self._source = source
        self._spool: Spool | None = None
        self._tell = tell
        self.content_length = content_length
        self.kept = kept
        self.swap: tuple[int, int, bytes] | None = None

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent again."""
        return self._spool is not None

    async def settle(self, spool: Spool) -> None:
        """Reads it to its end into a spool, from where it is sent.

        Raises Refusal (413, 503), ClientLeft.
        """
        self._spool = spool
        async for piece in self._coming():
            await spool.add(piece)
        await spool.flush()
        self.content_length = spool.length_bytes

    @property
    def sent_length(self) -> int | None:
        """How many bytes `pieces` yields, None when that is not known before."""
        if self.swap is None or self.content_length is None:
            return self.content_length
        start, end, other = self.swap
        return self.content_length - (end - start) + len(other)

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it is sent. Raises Refusal (413), ClientLeft when it is not spooled."""
        return self._coming() if self._spool is None else self._spooled(self._spool)

    def close(self) -> None:
        """No longer needed. Idempotent."""
        if self._spool is not None:
            self._spool.close()

    async def _coming(self) -> AsyncIterator[bytes]:
        kept, tell = self.kept, self._tell
        async for piece in self._source:
            kept.add(piece)
            if tell is not None:
                tell(piece)
            yield piece

    async def _spooled(self, spool: Spool) -> AsyncIterator[bytes]:
        if self.swap is None:
            async for piece in spool.pieces():
                yield piece
            return
        start, end, other = self.swap
        async for piece in spool.pieces(0, start):
            yield piece
        if other:
            yield other
        async for piece in spool.pieces(end):
            yield piece
