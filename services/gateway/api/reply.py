"""The way back to the client, over ASGI."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from litestar.types import Receive, Send

from gateway.ports import HeaderPairs
from gateway.values import ClientLeft, too_large

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
            self._watching = asyncio.ensure_future(self._receive())

    @property
    def is_gone(self) -> bool:
        """Whether the client has left."""
        return self._watching is not None and self._watching.done()

    def unwatch(self) -> None:
        """Stop noticing."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def read_body(self, bytes_max: int) -> bytes:
        """The request body. Raises Refusal (413) past the limit, ClientLeft when it is cut."""
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientLeft
        body = message["body"]
        if not message["more_body"]:
            return bytes(_checked(body, bytes_max))
        parts = [body]
        total = len(body)
        while message["more_body"]:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientLeft
            total += len(message["body"])
            if total > bytes_max:
                break
            parts.append(message["body"])
        return _checked(b"".join(parts), bytes_max, total)

    async def pieces(self, bytes_max: int) -> AsyncIterator[bytes]:
        """The request body as it comes. Raises Refusal (413) past the limit, ClientLeft when cut.

        Reading slowly stops the client (back-pressure).
        """
        self._is_read = False
        total = 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
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


def _checked(body: bytes, bytes_max: int, total: int | None = None) -> bytes:
    if (len(body) if total is None else total) > bytes_max:
        raise too_large(bytes_max)
    return body
