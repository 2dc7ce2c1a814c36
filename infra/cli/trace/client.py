"""A lean HTTP/1.1 client: one request at a time a connection, kept alive, callbacks only.

A request costs about 30 us here; a general client costs ten times that and would be measured
instead of the gateway.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

import httptools

ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024

OnAnswer = Callable[["Connection", int, bytes], None]
OnFailure = Callable[["Connection", str], None]


class Connection(asyncio.Protocol):
    """`on_answer` gets status and body; `on_failure` why there is none. Exactly one a request."""

    def __init__(self, on_answer: OnAnswer, on_failure: OnFailure) -> None:
        self._on_answer = on_answer
        self._on_failure = on_failure
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._waits = False
        self._is_usable = True
        self.number = 0
        self.sent_at = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent."""
        return self._is_usable and self._transport is not None

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is due."""
        return self._waits

    def send(self, request: bytes) -> None:
        """One whole request; the answer comes by callback."""
        assert self._transport is not None
        assert not self._waits
        self._waits = True
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)

    def fail(self, reason: str) -> None:
        """End the connection; a request under way has failed for this reason."""
        self._is_usable = False
        if self._transport is not None:
            self._transport.abort()
        self._settle_failure(reason)

    def close(self) -> None:
        """No more requests."""
        self._is_usable = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer is gone."""
        self._is_usable = False
        self._transport = None
        self._settle_failure(f"connection lost: {exc}" if exc else "connection closed")

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        if not self._waits:
            self.fail("data without a request")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(f"malformed answer: {error}")

    def on_body(self, body: bytes) -> None:
        """A part of the answer."""
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > ANSWER_BYTES_MAX:
            self.fail("answer too large")

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if not self._waits:
            return
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self._is_usable = False
        body = b"".join(self._body)
        self._reset()
        self._on_answer(self, status, body)

    def _reset(self) -> None:
        self._waits = False
        self._body = []
        self._body_bytes = 0

    def _settle_failure(self, reason: str) -> None:
        if self._waits:
            self._reset()
            self._on_failure(self, reason)


async def connect(host: str, port: int, on_answer: OnAnswer, on_failure: OnFailure) -> Connection:
    """A new connection. Raises OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        _, connection = await loop.create_connection(
            lambda: Connection(on_answer, on_failure), host, port
        )
    return connection
