"""HTTP/1.1 for the demo provider: one protocol object a connection, answers in request order."""

import asyncio
import socket
import struct
from collections import deque
from http import HTTPStatus
from typing import Any, Final, cast

import httptools

from infra.demo_upstream.record import Answered, Record
from infra.demo_upstream.routes import Head, Plan, plan

BODY_BYTES_MAX: Final = 64 * 1024 * 1024
HEAD_BYTES_MAX: Final = 64 * 1024
REQUESTS_QUEUED_MAX: Final = 64
_LAST_CHUNK: Final = b"0\r\n\r\n"
_RESET: Final = struct.pack("ii", 1, 0)
_DEMO: Final = b"x-demo-"
_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key", b"api-key"})


class Connection(asyncio.Protocol):
    """Parses requests, answers each in turn; immediate answers without a task."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._queue: deque[tuple[Head, bytes, bool]] = deque()
        self._busy: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._body = bytearray()
        self._head_bytes = 0
        self._said: dict[str, str] = {}
        self._custom_id: str | None = None
        self._has_credential = False

    # The transport's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports do not descend from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Whoever waits for us is gone: stop the answer under way."""
        self._writable.set()
        if self._busy is not None:
            self._busy.cancel()

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The peer caught up."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what is no HTTP ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._transport.close()
        except httptools.HttpParserError:
            self._refuse(400)

    # The parser's calls.

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what shapes the answer."""
        self._count_head(len(name) + len(value))
        name = name.lower()
        if name.startswith(_DEMO):
            self._said[name[len(_DEMO) :].decode("latin-1")] = value.decode("latin-1").strip()
        elif name in _CREDENTIALS:
            self._has_credential = bool(value.strip())
        elif name == b"x-custom-event-id":
            self._custom_id = value.decode("latin-1")
        elif name == b"expect":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(431)

    def on_body(self, body: bytes) -> None:
        """Collect, within the limit."""
        self._body += body
        if len(self._body) > BODY_BYTES_MAX:
            self._refuse(413)

    def on_message_complete(self) -> None:
        """Answer now, or after those before it."""
        if self._transport.is_closing():
            return
        head = Head(
            self._parser.get_method().decode("ascii"),
            self._url.decode("latin-1"),
            self._said,
            self._custom_id,
            self._has_credential,
        )
        request = (head, bytes(self._body), self._parser.should_keep_alive())
        self._begin()
        if self._busy is None:
            self._serve(request)
        elif len(self._queue) < REQUESTS_QUEUED_MAX:
            self._queue.append(request)
        else:
            self._transport.abort()

    def _refuse(self, status: int) -> None:
        phrase = HTTPStatus(status).phrase.encode()
        head = b"HTTP/1.1 %d %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self._transport.write(head % (status, phrase))
        self._transport.close()

    # Answers.

    def _serve(self, request: tuple[Head, bytes, bool]) -> None:
        head, body, keep_alive = request
        answer = plan(head, body, self._record)
        asked, events = answer.asked, answer.events
        if asked.is_immediate and asked.cut is None and asked.error_after is None:
            if events is None:
                self._transport.write(
                    _head(answer, len(answer.body), keep_alive=keep_alive) + answer.body
                )
            else:
                self._transport.write(_head(answer, None, keep_alive=keep_alive))
                for event in (*events.opening, *events.content, *events.closing):
                    self._transport.write(_chunk(event))
                self._transport.write(_LAST_CHUNK)
            self._note(head, answer, is_complete=True)
            if not keep_alive:
                self._transport.close()
            return
        work = self._answer(head, answer, keep_alive=keep_alive)
        self._busy = asyncio.get_running_loop().create_task(work, name="answer")
        self._busy.add_done_callback(self._on_answered)

    def _on_answered(self, task: asyncio.Task[None]) -> None:
        self._busy = None
        if not task.cancelled() and task.exception() is not None:
            self._transport.abort()
            raise task.exception()  # type: ignore[misc]
        while self._queue and self._busy is None and not self._transport.is_closing():
            self._serve(self._queue.popleft())

    async def _answer(self, head: Head, answer: Plan, *, keep_alive: bool) -> None:
        is_complete = False
        try:
            await _pause(answer.asked.latency_ms)
            if answer.asked.cut == "head":
                self._reset()
            elif answer.events is None:
                is_complete = await self._send_body(answer, keep_alive=keep_alive)
            else:
                is_complete = await self._send_events(answer, keep_alive=keep_alive)
            if not keep_alive:
                self._transport.close()
        finally:
            self._note(head, answer, is_complete=is_complete)

    async def _send_body(self, answer: Plan, *, keep_alive: bool) -> bool:
        self._transport.write(_head(answer, len(answer.body), keep_alive=keep_alive))
        await _pause(answer.asked.first_chunk_ms)
        cut = answer.asked.cut
        if isinstance(cut, int):
            self._transport.write(answer.body[:cut])
            await self._reset_when_sent()
            return False
        return await self._send(answer.body)

    async def _send_events(self, answer: Plan, *, keep_alive: bool) -> bool:
        events, asked = answer.events, answer.asked
        assert events is not None
        self._transport.write(_head(answer, None, keep_alive=keep_alive))
        await _pause(asked.first_chunk_ms)
        for event in events.opening:
            await self._send(_chunk(event))
        for sent, event in enumerate(events.content):
            if asked.cut == sent:
                await self._reset_when_sent()
                return False
            if asked.error_after == sent:
                return await self._fail(answer)
            if sent:
                await _pause(asked.chunk_delay_ms)
            await self._send(_chunk(event))
        if isinstance(asked.cut, int):
            await self._reset_when_sent()
            return False
        if asked.error_after is not None:
            return await self._fail(answer)
        for event in events.closing:
            await self._send(_chunk(event))
        return await self._send(_LAST_CHUNK)

    async def _fail(self, answer: Plan) -> bool:
        await self._send(_chunk(answer.error_event) + _LAST_CHUNK)
        return False

    async def _send(self, data: bytes) -> bool:
        if self._transport.is_closing():
            raise asyncio.CancelledError
        self._transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()
        return True

    async def _reset_when_sent(self) -> None:
        # What was written must reach the peer before the reset discards our buffers.
        while self._transport.get_write_buffer_size() and not self._transport.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        self._reset()

    def _reset(self) -> None:
        peer: Any = self._transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _note(self, head: Head, answer: Plan, *, is_complete: bool) -> None:
        if not answer.is_recorded:
            return
        made = answer.made
        self._record.add(
            Answered(
                id=made.id if made else "",
                custom_id=head.custom_id,
                path=head.path,
                status=answer.status,
                model=made.model if made else "",
                stream=answer.events is not None,
                is_complete=is_complete,
                usage=made.usage if made else None,
            )
        )


def _chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def _head(answer: Plan, length: int | None, *, keep_alive: bool) -> bytes:
    framing = b"transfer-encoding: chunked\r\n" if length is None else b"content-length: %d\r\n"
    if length is not None:
        framing %= length
    return b"".join(
        (
            _STATUS_LINES.get(answer.status, b"HTTP/1.1 %d Error\r\n" % answer.status),
            b"content-type: ",
            answer.content_type.encode(),
            b"\r\n",
            framing,
            answer.headers,
            b"\r\n" if keep_alive else b"connection: close\r\n\r\n",
        )
    )


_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}


async def _pause(milliseconds: int) -> None:
    if milliseconds:
        await asyncio.sleep(milliseconds / 1_000)


async def listen(port: int, record: Record) -> asyncio.Server:
    """Accept on loopback; port 0 picks one. Raises OSError when the port is taken."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(record), "127.0.0.1", port, backlog=1_024)
