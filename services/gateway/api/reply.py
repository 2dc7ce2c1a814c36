"""The way back to the client, over ASGI."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from litestar.types import Receive, Send

from gateway.ports import HeaderPairs
from gateway.values import ClientLeft, too_large

_LINGER_S: Final = 5.0
_LINGER_IDLE_S: Final = 0.3
"""A client that sends nothing for so long has stopped, and waits for the answer."""
_LINGER_BYTES: Final = 64 * 1024 * 1024
_ANY_ORIGIN: Final[HeaderPairs] = [(b"access-control-allow-origin", b"*")]


class AsgiReply:
    """Implements Reply for one request."""

    __slots__ = ("_allowed", "_is_read", "_receive", "_send", "_watching")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._watching: asyncio.Future[Any] | None = None
        self._is_read = True
        self._allowed: HeaderPairs = _ANY_ORIGIN

    def for_origin(self, origin: bytes) -> None:
        """The answer is for a page of this origin."""
        self._allowed = [(b"access-control-allow-origin", origin), (b"vary", b"origin")]

    async def whole(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        """Status, headers and the body in one go."""
        send = self._send
        headers += self._allowed
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if not self._is_read and body:
            # With its last byte the server would close the connection on a client that still
            # sends, which resets it, and the answer would be lost.
            await send({"type": "http.response.body", "body": body[:-1], "more_body": True})
            await self._linger()
            body = body[-1:]
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def start(self, status: int, headers: HeaderPairs) -> None:
        """Status and headers; pieces follow."""
        headers += self._allowed
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, body: bytes) -> None:
        """One piece of the body."""
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self) -> None:
        """The last byte."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def watch(self) -> None:
        """The server's next message after the body can only be that the client has left."""
        # While the body is still coming, a message says nothing of that.
        if self._watching is None and self._is_read:
            self._watching = asyncio.ensure_future(self._gone())

    @property
    def is_gone(self) -> bool:
        """Whether the client has left."""
        return self._watching is not None and self._watching.done()

    def unwatch(self) -> None:
        """Stop noticing."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _gone(self) -> None:
        """Returns when the client has left."""
        # First there may be the end of a body of which the bytes have all been read.
        while (await self._receive())["type"] == "http.request":
            pass

    async def read_body(self, bytes_max: int, length: int | None) -> bytes:
        """The request body. Raises Refusal (413) past the limit, ClientLeft when it is cut."""
        if not length and length is not None:
            return b""
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientLeft
        body = message["body"]
        total = len(body)
        # The server tells the end of a body apart from its last bytes. Every message comes through
        # two other threads, so what the length says already is not waited for.
        if total == length or not message["more_body"]:
            return bytes(_checked(body, bytes_max))
        parts = [body]
        while message["more_body"] and total != length:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientLeft
            total += len(message["body"])
            if total > bytes_max:
                break
            parts.append(message["body"])
        return _checked(b"".join(parts), bytes_max, total)

    def pieces(self, bytes_max: int) -> AsyncIterator[bytes]:
        """The request body as it comes. Raises Refusal (413) past the limit, ClientLeft when cut.

        Reading slowly stops the client (back-pressure).
        """
        self._is_read = False
        return self._coming(bytes_max)

    async def _coming(self, bytes_max: int) -> AsyncIterator[bytes]:
        total = 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                self._is_read = True
                raise ClientLeft
            piece = message["body"]
            total += len(piece)
            if total > bytes_max:
                raise too_large(bytes_max)
            if not message["more_body"]:
                self._is_read = True
            if piece:
                yield piece
            if self._is_read:
                return

    async def _linger(self) -> None:
        """Takes in what the client still sends, for a while."""
        left = _LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while left > 0:
                    async with asyncio.timeout(_LINGER_IDLE_S):
                        message = await self._receive()
                    if message["type"] != "http.request" or not message["more_body"]:
                        return
                    left -= len(message["body"])


def _checked(body: bytes, bytes_max: int, total: int | None = None) -> bytes:
    if (len(body) if total is None else total) > bytes_max:
        raise too_large(bytes_max)
    return body
