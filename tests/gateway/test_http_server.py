"""The HTTP server of the data plane, over raw sockets, in front of handlers that do one thing."""

import asyncio
import contextlib
import gc
import os
import re
import resource
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapters import client_connection
from gateway.adapters.client_connection import ClientConnection
from gateway.adapters.client_request import HELD_BYTES_MAX, ClientRequest
from gateway.adapters.http_server import HttpServer, ServerLimits, serve
from gateway.values import ClientLeft, Inbound, Refusal, Reply

HEAD_BYTES_MAX = 65_536
Answer = Callable[[Inbound, Reply], Awaitable[None]]
GET = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
MUCH = b"m" * 20_000_000
"""More than the sockets between two processes hold."""


class App:
    """Hands requests to a function; refusals are answered with their codes."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.begun: list[str] = []
        self.ended: list[str] = []

    async def handle(self, inbound: Inbound, reply: Reply) -> None:
        self.begun.append(inbound.path)
        try:
            await self.answer(inbound, reply)
        finally:
            self.ended.append(inbound.path)

    async def refuse(self, path: str, refusal: Refusal, reply: Reply) -> None:
        await reply.whole(refusal.status, [], refusal.code.encode())


async def echo(inbound: Inbound, reply: Reply) -> None:
    """The target, and the body behind it."""
    body = await reply.read_body(MUCH_BYTES_MAX)
    await reply.whole(200, [], inbound.path.encode() + b" " + body)


MUCH_BYTES_MAX = 64_000_000


class Served:
    """A server under test."""

    def __init__(self, house: HttpServer, app: App, address: tuple[str, int]) -> None:
        self.house = house
        self.app = app
        self.address = address

    @property
    def connections(self) -> set[ClientConnection]:
        """Those that the server counts."""
        return self.house._connections


@asynccontextmanager
async def serving(
    answer: Answer = echo,
    *,
    host: str = "127.0.0.1",
    connections_max: int = 10_000,
    head_s: float = 100.0,
    idle_s: float = 100.0,
) -> AsyncIterator[Served]:
    app = App(answer)
    house = HttpServer(app, ServerLimits(HEAD_BYTES_MAX, connections_max, head_s, idle_s))
    house.tick()
    server = await asyncio.get_running_loop().create_server(house.connection, host, 0, backlog=4096)
    try:
        yield Served(house, app, server.sockets[0].getsockname()[:2])
    finally:
        server.close()
        house.finish()
        await house.wait_closed(0.0)
        await until(lambda: not house._connections)


class Client:
    """A socket that sends what it is told to, as it is."""

    def __init__(self, raw: socket.socket) -> None:
        self.raw = raw
        self.loop = asyncio.get_running_loop()
        self.got = b""

    async def send(self, content: bytes) -> None:
        async with asyncio.timeout(60):
            await self.loop.sock_sendall(self.raw, content)

    async def more(self) -> bytes:
        """What comes next; empty at the end. Raises ConnectionError for a reset."""
        async with asyncio.timeout(60):
            piece = await self.loop.sock_recv(self.raw, 65_536)
        self.got += piece
        return piece

    async def rest(self) -> bytes:
        """Everything until the end."""
        pieces = [self.got]
        while piece := await self.more():
            pieces.append(piece)
        return b"".join(pieces)

    async def heard(self, content: bytes, times: int = 1) -> bytes:
        """Everything, once so many of `content` are in it."""
        while self.got.count(content) < times:
            assert await self.more(), self.got[-500:]
        return self.got

    async def has_ended(self) -> bool:
        """Whether the server closes, by an end or a reset."""
        try:
            await self.rest()
        except ConnectionError:
            return True
        return True

    def reset(self) -> None:
        """Leave without a word."""
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.raw.close()


@asynccontextmanager
async def client(served: Served, *, holds_bytes: int | None = None) -> AsyncIterator[Client]:
    family = socket.AF_INET6 if ":" in served.address[0] else socket.AF_INET
    raw = socket.socket(family)
    if holds_bytes is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, holds_bytes)
    raw.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(raw, served.address)
        yield Client(raw)
    finally:
        raw.close()


async def until(holds: Callable[[], object]) -> None:
    """Lets everybody go on until it holds."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - anything may be waited for
            await asyncio.sleep(0.001)


async def whole_talk(served: Served, content: bytes) -> bytes:
    """All that comes for `content`, until the server closes."""
    async with client(served) as one:
        await one.send(content)
        return await one.rest()


Answers = list[tuple[int, dict[bytes, bytes], bytes]]


def read(content: bytes, methods: list[str]) -> tuple[Answers, bytes]:
    """Answers as the standard frames them, and what is left over. Fails for a part of one."""
    answers: Answers = []
    at = 0
    for method in methods:
        end = content.find(b"\r\n\r\n", at)
        assert end >= 0, content[at:]
        first, *lines = content[at:end].split(b"\r\n")
        at = end + 4
        said = dict(line.split(b": ", 1) for line in lines)
        assert len(said) == len(lines), lines
        status = int(first.split(b" ")[1])
        if method == "HEAD" or status in (204, 304):
            body = b""
        elif said.get(b"transfer-encoding") == b"chunked":
            body, at = read_chunks(content, at)
        elif b"content-length" in said:
            length = int(said[b"content-length"])
            body, at = content[at : at + length], at + length
            assert len(body) == length, "a body that is not as long as it said"
        else:
            body, at = content[at:], len(content)
        answers.append((status, said, body))
    return answers, content[at:]


def read_chunks(content: bytes, at: int) -> tuple[bytes, int]:
    """A chunked body, and where it ends."""
    body = b""
    while True:
        end = content.find(b"\r\n", at)
        assert end >= 0, "a chunked body without its end"
        length, at = int(content[at:end], 16), end + 2
        piece = content[at : at + length]
        at += length + 2
        assert (len(piece), content[at - 2 : at]) == (length, b"\r\n")
        body += piece
        if not length:
            return body, at


# One request, and the next.


async def test_a_connection_serves_one_request_after_the_other():
    """HTTP/1.1 keeps it without a word, until the client says that it is the last."""
    async with serving() as served, client(served) as one:
        for number in range(3):
            await one.send(b"POST /%d HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi" % number)
            await one.heard(b"/%d hi" % number)
        await one.send(LAST)
        answers, rest = read(await one.rest(), ["POST"] * 3 + ["GET"])

    assert [body for _, _, body in answers] == [b"/0 hi", b"/1 hi", b"/2 hi", b"/last "]
    assert rest == b""
    assert [said.get(b"connection") for _, said, _ in answers] == [None, None, None, b"close"]
    assert all(re.fullmatch(rb"\w{3}, \d\d .* GMT", said[b"date"]) for _, said, _ in answers)


@pytest.mark.parametrize(
    ("line", "told"),
    [(b"", b"close"), (b"connection: keep-alive\r\n", b"keep-alive")],
)
async def test_http_1_0_is_kept_when_it_asks_to_be(line, told):
    """And it is told so, since it would not expect it."""
    first = b"GET /a HTTP/1.0\r\n" + line + b"\r\n"
    async with serving() as served, client(served) as one:
        await one.send(first)
        await one.heard(b"/a ")
        if told == b"keep-alive":
            await one.send(b"GET /b HTTP/1.0\r\n\r\n")
        answers, rest = read(await one.rest(), ["GET"] * (1 + (told == b"keep-alive")))

    assert (answers[0][1][b"connection"], answers[-1][1][b"connection"]) == (told, b"close")
    assert rest == b""


async def test_ten_thousand_requests_in_one_write_are_answered_in_order():
    """However long they are sent ahead of time; few of them are held as requests meanwhile."""
    number = 10_000
    held = 0

    async def answer(inbound: Inbound, reply: Reply) -> None:
        nonlocal held
        (connection,) = served.connections
        held = max(held, len(connection._waiting))
        await reply.whole(200, [], inbound.path.encode())

    asked = b"".join(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % each for each in range(number))
    async with serving(answer) as served, client(served) as one:
        sending = asyncio.create_task(one.send(asked + LAST))
        answers, rest = read(await one.rest(), ["GET"] * (number + 1))
        await sending

    assert [body for _, _, body in answers[:-1]] == [b"/%d" % each for each in range(number)]
    assert rest == b""
    assert held <= client_connection.FED_BYTES // len(GET) + 1


async def test_a_client_that_sends_ahead_and_never_reads_is_not_served_ahead():
    """What is written for it is bounded, and so is what is read of it."""

    async def answer(_: Inbound, reply: Reply) -> None:
        await reply.whole(200, [], b"x" * 100_000)

    async with serving(answer) as served, client(served, holds_bytes=4096) as one:
        sending = asyncio.create_task(one.send(GET * (len(MUCH) // len(GET))))
        (connection,) = await _connections(served)
        await until(lambda: connection._is_write_paused and connection._rest is not None)
        assert connection._transport.get_write_buffer_size() < 400_000
        assert len(connection._waiting) <= client_connection.FED_BYTES // len(GET) + 1
        assert not sending.done()
        begun = len(served.app.begun)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(served.app.begun) == begun
        sending.cancel()


async def _connections(served: Served, number: int = 1) -> list[ClientConnection]:
    await until(lambda: len(served.connections) == number)
    return list(served.connections)


async def test_a_client_that_takes_nothing_of_its_answer_is_let_go(monkeypatch):
    """As long as it takes some, it may be slow."""
    monkeypatch.setattr(client_connection, "STALL_S", 0.0)

    async def answer(_: Inbound, reply: Reply) -> None:
        await reply.whole(200, [], MUCH)

    async with serving(answer) as served, client(served) as one:
        await one.send(GET)
        (connection,) = await _connections(served)
        await until(lambda: connection._writable is not None)
        for _ in range(3):
            before = connection._transport.get_write_buffer_size()
            while connection._transport.get_write_buffer_size() == before:
                await one.more()
            served.house.tick()
            assert served.app.ended == []
        await until(lambda: _is_stuck(served, connection))
        await until(lambda: served.app.ended)
        assert await one.has_ended()


def _is_stuck(served: Served, connection: ClientConnection) -> bool:
    served.house.tick()
    return connection._transport is None


# How bytes may be cut.

BODIES = {
    "length": b"POST /l HTTP/1.1\r\nHost: x\r\nX-A:\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": b"POST /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: Chunked\r\n\r\n"
    b"2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nx-trailer: 1\r\n\r\n",
    "upgrade": b"POST /u HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, x-y\r\nupgrade: h2c\r\n"
    b"content-length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("framing", BODIES)
async def test_every_byte_may_come_alone(framing):
    """And the answers are those of a request that comes whole."""
    async with serving() as served, client(served) as one:
        one.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in BODIES[framing] * 2:
            await one.send(bytes([byte]))
            await asyncio.sleep(0)
        await one.heard(b" hello", times=2)


@pytest.mark.parametrize("framing", BODIES)
async def test_a_client_may_leave_after_any_byte(framing):
    """Its request is never half served, and nothing of its connection is left."""
    content = BODIES[framing]
    lengths: list[int] = []

    async def answer(_: Inbound, reply: Reply) -> None:
        try:
            lengths.append(len(await reply.read_body(1000)))
        except ClientLeft:
            lengths.append(-1)
            assert reply.is_gone

    async with serving(answer) as served:
        for at in range(len(content)):
            async with client(served) as one:
                await one.send(content[:at])
                await asyncio.sleep(0)
                if at % 2:
                    one.reset()
        await until(lambda: not served.connections)
        assert set(lengths) <= {-1}
        assert len(served.app.begun) == len(served.app.ended)


METHODS = st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "DELETE"])
TEXTS = st.text("abcdefghij-", min_size=1, max_size=8)


@st.composite
def requests(draw) -> tuple[str, str, bytes, bytes]:
    """A method, a path, a body, and how they are sent."""
    method, path, body = draw(METHODS), "/" + draw(TEXTS), draw(st.binary(max_size=300))
    lines = [f"{method} {path} HTTP/1.1", "hOsT:  x "]
    lines += [
        f"x-{name}:{value}\t"
        for name, value in draw(st.dictionaries(TEXTS, TEXTS, max_size=3)).items()
    ]
    if draw(st.booleans()):
        lines += [
            draw(
                st.sampled_from(
                    ["connection: keep-alive", "connection: upgrade , x", "expect: 100-CONTINUE"]
                )
            ),
            "upgrade: h2c",
        ]
    if draw(st.booleans()):
        lines.append("transfer-encoding: chunked")
        sent = b""
        left = body
        while left:
            size = draw(st.integers(1, len(left)))
            sent += b"%x\r\n%b\r\n" % (size, left[:size])
            left = left[size:]
        sent += (
            b"0\r\n" + draw(st.sampled_from([b"", b"x-t: 1\r\n", b"a:\r\nhost: y\r\n"])) + b"\r\n"
        )
    else:
        sent = body
        if body or draw(st.booleans()):
            lines.append(f"content-length: {len(body)}")
    return method, path, body, "\r\n".join(lines).encode() + b"\r\n\r\n" + sent


class Wire(asyncio.Transport):
    """What a connection writes to, and when it lets itself be told more."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_paused = False
        self.has_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.has_closed = True

    def close(self) -> None:
        self.has_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.has_closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


@settings(deadline=None, max_examples=150)
@given(st.lists(requests(), min_size=1, max_size=5), st.data())
def test_requests_are_the_same_however_their_bytes_are_split(sent, data):
    """Any valid requests, cut anywhere: the same requests, the same answers, in order."""
    content = b"".join(each[3] for each in sent)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(content) - 1), max_size=12)))
    parts = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    heard: list[tuple[str, str, bytes]] = []

    async def answer(inbound: Inbound, reply: Reply) -> None:
        body = await reply.read_body(1000)
        heard.append((inbound.method, inbound.path, body))
        if len(body) % 2:
            await reply.whole(200, [], body)
        else:
            await reply.start(200, [])
            await reply.piece(body)
            await reply.end()

    async def talk() -> bytes:
        house = HttpServer(App(answer), ServerLimits(HEAD_BYTES_MAX, 1, 1.0, 1.0))
        house.tick()
        connection, wire = house.connection(), Wire()
        connection.connection_made(wire)
        for part in parts:
            while wire.is_paused:  # noqa: ASYNC110 - the server decides
                await asyncio.sleep(0)
            connection.data_received(part)
            if data.draw(st.booleans()):
                await asyncio.sleep(0)
        await until(lambda: len(heard) == len(sent) and connection._serving is None)
        connection.connection_lost(None)
        return wire.written

    written = asyncio.run(talk()).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    assert heard == [each[:3] for each in sent]
    answers, rest = read(written, [each[0] for each in sent])
    expected = [b"" if method == "HEAD" else body for method, _, body, _ in sent]
    assert [body for _, _, body in answers] == expected
    assert rest == b""


async def test_a_body_of_any_length_arrives_as_it_is():
    """Longer than what is read at once, and than what is held of it."""
    body = os.urandom(3_000_000)
    async with serving() as served:
        length = b"POST /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        ((_, _, heard),), _ = read(await whole_talk(served, length % len(body) + body), ["POST"])
        chunked = (
            b"POST /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
            + b"".join(
                b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:1], body[1:200_000], body[200_000:])
            )
            + b"0\r\n\r\n"
        )
        ((_, _, also),), _ = read(await whole_talk(served, chunked), ["POST"])

    assert heard == also == b"/a " + body


async def test_a_body_that_is_read_slowly_stops_its_client():
    """What is held of it is bounded."""
    may_read = asyncio.Event()
    pieces: list[bytes] = []

    async def answer(_: Inbound, reply: Reply) -> None:
        await may_read.wait()
        pieces.extend([piece async for piece in reply.pieces(MUCH_BYTES_MAX)])
        await reply.whole(200, [], b"done")

    async with serving(answer) as served, client(served) as one:
        head = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(MUCH)
        sending = asyncio.create_task(one.send(head + MUCH))
        (connection,) = await _connections(served)
        await until(lambda: connection._is_reading_paused)
        assert connection._reading.held_bytes <= HELD_BYTES_MAX + client_connection.FED_BYTES
        may_read.set()
        await sending
        await one.heard(b"done")

    assert b"".join(pieces) == MUCH


async def test_a_request_is_served_as_if_it_had_not_asked_for_an_upgrade():
    """With its body, and the connection goes on (RFC 9110 7.8): some clients ask for h2c at first."""
    seen: list[tuple[str, list[tuple[bytes, bytes]], bytes]] = []

    async def answer(inbound: Inbound, reply: Reply) -> None:
        body = await reply.read_body(1000)
        seen.append((inbound.path, inbound.headers, body))
        await reply.whole(200, [], b"")

    asks = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMA\r\n"
    sized = b"POST /s HTTP/1.1\r\nhost: x\r\n" + asks + b"content-length: 3\r\n\r\nabc"
    chunked = (
        b"POST /c HTTP/1.1\r\nhost: x\r\n"
        + asks
        + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    async with serving(answer) as served:
        read(await whole_talk(served, (sized + chunked) * 300 + LAST), ["POST"] * 600 + ["GET"])

    assert [(path, body) for path, _, body in seen] == [("/s", b"abc"), ("/c", b"abc")] * 300 + [
        ("/last", b"")
    ]
    assert dict(seen[0][1])[b"upgrade"] == b"h2c"
    assert dict(seen[0][1])[b"connection"] == b"HTTP2-Settings"


# What is refused, and limits.

ODD = {
    "no method": b"\x00\x01\x02\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another version": b"GET / HTTP/1.2\r\nhost: x\r\n\r\n",
    "http/0.9": b"GET /\r\n\r\n",
    "a bad chunk": b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "a chunk too long": b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
    "a chunk of 2^64": b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n10000000000000001\r\n",
    "a length of 2^64": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 18446744073709551617\r\n\r\n",
    "a length with a sign": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\na",
    "a folded line": b"GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n",
    "a control in a header": b"GET / HTTP/1.1\r\nhost: x\r\na: \x00\r\n\r\n",
    "chunks in http/1.0": b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a fragment": b"GET /#a HTTP/1.1\r\nhost: x\r\n\r\n",
    "more after the last": LAST + b"GET",
}


@pytest.mark.parametrize("form", ODD)
async def test_what_is_no_request_is_refused_once_and_ends_the_connection(form):
    """400, the end, and nothing that stands behind it is served."""

    async def answer(inbound: Inbound, reply: Reply) -> None:
        try:
            await echo(inbound, reply)
        except ClientLeft:
            await reply.whole(400, [], b"bad_framing")

    async with serving(answer) as served:
        got = await whole_talk(served, ODD[form] + GET * 3)

    if form == "more after the last":
        answers, rest = read(got, ["GET"])
        assert (answers[0][0], rest) == (200, b"")
    else:
        answers, rest = read(got, ["POST"])
        assert (answers[0][0], answers[0][2], rest) == (400, b"bad_framing", b"")
        assert answers[0][1][b"connection"] == b"close"


async def test_what_is_wrong_is_told_after_the_answers_before_it():
    """In the order of what was sent."""
    async with serving() as served:
        got = await whole_talk(served, GET * 3 + b"GET nowhere HTTP/1.1\r\nhost: x\r\n\r\n" + GET)

    answers, rest = read(got, ["GET"] * 4)
    assert [status for status, _, _ in answers] == [200, 200, 200, 400]
    assert rest == b""


ENDLESS = {
    "a head": (b"GET /a HTTP/1.1\r\nhost: x\r\n", b"x-a: 0123456789\r\n"),
    "a header": (b"GET /a HTTP/1.1\r\nhost: x\r\nx-a: ", b"0123456789"),
    "a name": (b"GET /a HTTP/1.1\r\nhost: x\r\n", b"0123456789"),
    "a target": (b"GET /a", b"0123456789"),
    "empty lines": (b"", b"\r\n"),
    "trailers": (
        b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
        b"x-a: 0123456789\r\n",
    ),
    "an extension": (
        b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1;a=",
        b"0123456789",
    ),
}


@pytest.mark.parametrize("form", ENDLESS)
async def test_what_has_no_end_is_cut_off(form):
    """With 431 in the place of a request, and with what a handler makes of a body that is cut."""

    async def answer(_: Inbound, reply: Reply) -> None:
        with contextlib.suppress(ClientLeft):
            await reply.read_body(1000)
        await reply.whole(431, [], b"headers_too_large")

    begin, more = ENDLESS[form]
    async with serving(answer) as served:
        got = await whole_talk(served, begin + more * (2 * HEAD_BYTES_MAX // len(more)))

    answers, _ = read(got, ["GET"])
    assert (answers[0][0], answers[0][2]) == (431, b"headers_too_large")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x-a: b\r\n" * 300 + b"\r\n",
    ],
    ids=["a target of a megabyte", "a long header", "three hundred headers"],
)
async def test_a_head_over_its_limits_is_refused(head):
    """431, also when all of it is there at once."""
    async with serving() as served:
        ((status, _, body),), rest = read(await whole_talk(served, head), ["GET"])

    assert (status, body, rest) == (431, b"headers_too_large", b"")


async def test_chunks_of_one_byte_may_be_many():
    """They are a body, whatever they cost their sender."""
    many = b"1\r\na\r\n" * 50_000
    async with serving() as served:
        got = await whole_talk(
            served,
            b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
            + many
            + b"0\r\n\r\n",
        )

    assert read(got, ["POST"])[0][0][2] == b"/a " + b"a" * 50_000


@pytest.mark.parametrize("begin", [b"G", b"GET /a HTTP/1.1\r\nhost: x\r\nx-a", GET + GET[:-2]])
async def test_a_head_that_takes_too_long_is_refused(begin):
    """408, and the end; the request before it is answered."""
    async with serving(head_s=0.0) as served, client(served) as one:
        await one.send(begin)
        (connection,) = await _connections(served)
        await until(lambda: connection._is_in_head and connection._serving is None)
        served.house.tick()
        answers, _ = read(await one.rest(), ["GET"] * (1 + begin.startswith(GET)))

    assert (answers[-1][0], answers[-1][2]) == (408, b"request_timeout")


@pytest.mark.parametrize("asked", [b"", b"\r\n\r\n", GET])
async def test_a_connection_that_asks_for_nothing_is_closed(asked):
    """Without a word, before a request and after one."""
    async with serving(idle_s=0.0) as served, client(served) as one:
        await one.send(asked)
        (connection,) = await _connections(served)
        if asked == GET:
            await one.heard(b"/a ")
        # What it has not read would make its end a reset.
        await until(lambda: connection._overhead_bytes == len(asked.removeprefix(GET)))
        ticking = asyncio.create_task(_tick(served))
        got = await one.rest()
        ticking.cancel()

    assert got.count(b"HTTP/1.1 ") == (asked == GET)


async def _tick(served: Served) -> None:
    while True:
        await asyncio.sleep(0.01)
        served.house.tick()


async def test_nobody_is_cut_off_while_being_answered():
    """An exchange has limits of its own."""
    may_answer = asyncio.Event()

    async def answer(_: Inbound, reply: Reply) -> None:
        await may_answer.wait()
        await reply.whole(200, [], b"late")

    async with serving(answer, head_s=0.0, idle_s=100.0) as served, client(served) as one:
        await one.send(GET + GET[:10])
        await until(lambda: served.app.begun)
        served.house.tick()
        served.house.tick()
        may_answer.set()
        await one.heard(b"late")


async def test_connections_over_the_limit_are_turned_away():
    """At once; and there is room again when one has gone."""
    async with serving(connections_max=2) as served, contextlib.AsyncExitStack() as stack:
        first, second, third = [await stack.enter_async_context(client(served)) for _ in range(3)]
        assert await third.has_ended()
        for one in (first, second):
            await one.send(GET)
            await one.heard(b"/a ")
        assert len(served.connections) == 2
        first.raw.close()
        await until(lambda: len(served.connections) == 1)
        fourth = await stack.enter_async_context(client(served))
        await fourth.send(GET)
        await fourth.heard(b"/a ")


# 100-continue.


async def test_a_client_that_waits_is_told_to_go_on_when_its_body_is_wanted():
    """Once."""
    async with serving() as served, client(served) as one:
        await one.send(
            b"POST /a HTTP/1.1\r\nhost: x\r\nexpect: 100-Continue\r\ncontent-length: 4\r\n\r\n"
        )
        assert await one.heard(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await one.send(b"ab")
        await one.send(b"cd")
        got = await one.heard(b"abcd")

    assert got.count(b"100 Continue") == 1


@pytest.mark.parametrize(
    ("version", "expected", "body"),
    [
        (b"1.1", b"100-continue", b"abcd"),
        (b"1.1", b"something else", b""),
        (b"1.0", b"100-continue", b""),
    ],
    ids=["its body is there", "of something else", "of http/1.0"],
)
async def test_nothing_is_said_to_who_does_not_wait(version, expected, body):
    """RFC 9110 10.1.1."""
    async with serving() as served, client(served) as one:
        head = b"POST /a HTTP/%b\r\nhost: x\r\nexpect: %b\r\ncontent-length: 4\r\n\r\n"
        await one.send(head % (version, expected) + body)
        await until(lambda: served.app.begun)
        await one.send(b"abcd"[len(body) :])
        got = await one.heard(b"abcd")

    assert b"100 Continue" not in got


async def test_who_is_refused_before_its_body_is_not_told_to_send_it():
    """The answer is the last, since nobody knows whether a body follows."""

    async def answer(_: Inbound, reply: Reply) -> None:
        await reply.whole(401, [], b"no")

    async with serving(answer) as served, client(served) as one:
        await one.send(
            b"POST /a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
        )
        ((status, said, _),), rest = read(await one.rest(), ["POST"])

    assert (status, said[b"connection"], rest) == (401, b"close", b"")


# How answers are framed.

KINDS: dict[str, Answer] = {}


def kind(answer: Answer) -> Answer:
    KINDS[answer.__name__] = answer
    return answer


@kind
async def whole(_: Inbound, reply: Reply) -> None:
    await reply.whole(200, [(b"x-a", b"b")], b"hello")


@kind
async def empty(_: Inbound, reply: Reply) -> None:
    await reply.whole(200, [], b"")


@kind
async def in_pieces(_: Inbound, reply: Reply) -> None:
    await reply.start(200, [])
    for piece in (b"he", b"", b"llo"):
        await reply.piece(piece)
    await reply.end()


@kind
async def of_a_length(_: Inbound, reply: Reply) -> None:
    await reply.start(206, [(b"content-length", b"5")])
    await reply.piece(b"he")
    await reply.piece(b"llo")
    await reply.end()


@kind
async def nothing(_: Inbound, reply: Reply) -> None:
    await reply.whole(204, [(b"content-length", b"0")], b"")


@kind
async def not_modified(_: Inbound, reply: Reply) -> None:
    await reply.whole(304, [(b"content-length", b"5")], b"hello")


@kind
async def nothing_in_pieces(_: Inbound, reply: Reply) -> None:
    await reply.start(204, [])
    await reply.piece(b"what is not sent")
    await reply.end()


@kind
async def an_unknown_status(_: Inbound, reply: Reply) -> None:
    await reply.whole(799, [], b"hello")


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("name", KINDS)
async def test_an_answer_has_the_framing_of_its_kind(name, method, version):
    """And none that its kind must not have; the answer behind it begins where it ends."""
    async with serving(KINDS[name]) as served:
        asked = b"%b /a HTTP/%b\r\nhost: x\r\nconnection: keep-alive\r\n\r\n" % (
            method.encode(),
            version,
        )
        last = asked.replace(b"keep-alive", b"close")
        is_open = version == b"1.0" and name == "in_pieces"
        number = 1 if is_open else 2
        got = await whole_talk(served, asked + last if number == 2 else last)

    answers, rest = read(got, [method] * number)
    assert rest == b""
    for status, said, body in answers:
        has_none = method == "HEAD" or status in (204, 304) or name == "empty"
        assert body == (b"" if has_none else b"hello")
        framing = {
            key: said[key] for key in (b"content-length", b"transfer-encoding") if key in said
        }
        if status == 204 or is_open:
            assert framing == {}
        elif name == "in_pieces":
            assert framing == {b"transfer-encoding": b"chunked"}
        else:
            assert framing == {b"content-length": b"0" if name == "empty" else b"5"}


async def test_what_a_handler_says_of_framing_is_not_said_twice():
    """Length, date and connection are the server's; what is sent decides the length."""

    async def answer(_: Inbound, reply: Reply) -> None:
        headers = [
            (b"content-length", b"3"),
            (b"content-length", b"17"),
            (b"date", b"yesterday"),
            (b"connection", b"close"),
            (b"transfer-encoding", b"chunked"),
            (b"keep-alive", b"timeout=5"),
        ]
        await reply.whole(200, headers, b"hello")

    async with serving(answer) as served:
        answers, rest = read(await whole_talk(served, GET + LAST), ["GET", "GET"])

    assert rest == b""
    assert [body for _, _, body in answers] == [b"hello", b"hello"]
    assert set(answers[0][1]) == {b"content-length", b"date", b"access-control-allow-origin"}


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-a", b"b\r\nset-cookie: c")],
        [(b"x-a", b"b\nc")],
        [(b"x\r\na", b"b")],
        [(b"content-length", b"5, 5")],
        [(b"content-length", b"-1")],
    ],
)
@pytest.mark.parametrize("begins", ["whole", "start"])
async def test_headers_that_cannot_be_sent_leave_room_for_an_error(headers, begins):
    """Nothing of the answer was sent: another one can be, and the connection goes on."""
    raised: list[bool] = []

    async def answer(_: Inbound, reply: Reply) -> None:
        try:
            if begins == "start":
                await reply.start(200, headers)
            else:
                await reply.whole(304, headers, b"")
        except ValueError:
            raised.append(reply.is_started)
            await reply.whole(502, [], b"what the provider said")

    async with serving(answer) as served:
        answers, rest = read(await whole_talk(served, GET + LAST), ["GET", "GET"])

    assert raised == [False, False]
    assert [(status, body) for status, _, body in answers] == [(502, b"what the provider said")] * 2
    assert rest == b""


@pytest.mark.parametrize("status", [100, 101, 199, 0, 1000])
async def test_a_status_that_is_no_answer_is_not_sent(status):
    """A client would wait for another one, or speak another protocol."""

    async def answer(_: Inbound, reply: Reply) -> None:
        try:
            await reply.whole(status, [], b"")
        except ValueError:
            await reply.whole(502, [], b"")

    async with serving(answer) as served:
        assert read(await whole_talk(served, LAST), ["GET"])[0][0][0] == 502


async def test_an_answer_does_not_begin_twice():
    """What comes second would be read as a part of the first, or as the next one."""

    async def answer(_: Inbound, reply: Reply) -> None:
        await reply.start(200, [])
        await reply.piece(b"hello")
        await reply.whole(500, [], b"sorry")

    async with serving(answer) as served:
        got = await whole_talk(served, GET)

    assert got.count(b"HTTP/1.1") == 1
    assert got.endswith(b"\r\n5\r\nhello\r\n")


# Answers that break.


BREAKS: dict[str, Answer] = {}


def breaks(answer: Answer) -> Answer:
    BREAKS[answer.__name__] = answer
    return answer


@breaks
async def in_chunks(_: Inbound, reply: Reply) -> None:
    await reply.start(200, [])
    await reply.piece(b"hello")
    raise ConnectionError


@breaks
async def by_returning(_: Inbound, reply: Reply) -> None:
    await reply.start(200, [])
    await reply.piece(b"hello")


@breaks
async def too_short(_: Inbound, reply: Reply) -> None:
    await reply.start(200, [(b"content-length", b"10")])
    await reply.piece(b"hello")
    await reply.end()


@breaks
async def too_long(_: Inbound, reply: Reply) -> None:
    await reply.start(200, [(b"content-length", b"10")])
    await reply.piece(b"hello")
    await reply.piece(b" world")
    await reply.end()


@breaks
async def cancelled(_: Inbound, reply: Reply) -> None:
    await reply.start(200, [])
    await reply.piece(b"hello")
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("name", BREAKS)
async def test_an_answer_that_breaks_does_not_look_whole(name, version):
    """Not by its framing, and where it has none, not by how the connection ends."""
    async with serving(BREAKS[name]) as served, client(served) as one:
        await one.send(b"GET /a HTTP/%b\r\nhost: x\r\n\r\n" % version)
        try:
            got = await one.rest()
        except ConnectionResetError:
            got = b""
        else:
            assert version == b"1.1" or name.startswith("too")

    if got:
        assert b"hello" in got
        assert not got.endswith(b"0\r\n\r\n")
        with pytest.raises((AssertionError, ValueError)):
            read(got, ["GET"])


async def test_an_answer_without_a_length_that_is_cut_at_the_end_of_a_drain_does_not_look_whole():
    """The worker's end is no end of the answer."""
    async with serving(_endless) as served, client(served) as one:
        await one.send(b"GET /a HTTP/1.0\r\n\r\n")
        await one.heard(b"hello")
        served.house.finish()
        await served.house.wait_closed(0.0)
        with pytest.raises(ConnectionResetError):
            await one.rest()


async def _endless(_: Inbound, reply: Reply) -> None:
    await reply.start(200, [])
    while not reply.is_gone:
        await reply.piece(b"hello")
        await asyncio.sleep(0.001)


async def test_no_answer_at_all_is_the_end():
    """And the answers before it arrive."""

    async def answer(inbound: Inbound, reply: Reply) -> None:
        if inbound.path == "/a":
            await reply.whole(200, [], b"hello")

    async with serving(answer) as served:
        got = await whole_talk(served, GET * 3 + LAST)

    answers, rest = read(got, ["GET"] * 3)
    assert len(answers) == 3
    assert rest == b""


# Answers before the end of their requests.


@pytest.mark.parametrize(
    "head",
    [
        b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 30000000\r\n\r\n",
        b"POST /a HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: chunked\r\n\r\n1c9c380\r\n",
        b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, gzip\r\n\r\n",
        b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nxx",
        GET + b"GET nowhere HTTP/1.1\r\nhost: x\r\n\r\n",
        LAST,
    ],
    ids=["a length", "chunks", "no framing", "a bad chunk", "a second one", "the last"],
)
async def test_a_client_that_is_answered_early_can_read_the_answer(head):
    """It still sends; an end at once would be a reset, and take the answer with it."""
    answered = b"n" * 300_000

    async def answer(_: Inbound, reply: Reply) -> None:
        await reply.whole(413, [], answered)

    async with serving(answer) as served, client(served) as one:
        await one.send(head + b"a" * 1_000_000)
        await until(lambda: all(each._is_lingering for each in served.connections))
        with contextlib.suppress(BrokenPipeError):
            await one.send(b"a" * 9_000_000)
        got = await one.rest()

    answers, _ = read(got, ["POST"])
    if not head.startswith(b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, gzip"):
        assert answers[0][2] == answered


@pytest.mark.parametrize("limit", ["bytes", "time"])
async def test_a_client_that_never_stops_sending_is_cut_off(limit, monkeypatch):
    """It has had the time to read its answer."""
    if limit == "bytes":
        monkeypatch.setattr(client_connection, "LINGER_BYTES_MAX", 1_000_000)
    else:
        monkeypatch.setattr(client_connection, "LINGER_S", 0.0)

    async def answer(_: Inbound, reply: Reply) -> None:
        await reply.whole(413, [], b"no")

    async with serving(answer) as served, client(served) as one:
        await one.send(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 90000000\r\n\r\n")
        assert read(await one.rest(), ["POST"])[0][0][0] == 413
        ticking = asyncio.create_task(_tick(served)) if limit == "time" else None
        with pytest.raises(ConnectionError):
            await one.send(b"a" * 80_000_000)
        await until(lambda: not served.connections)
        if ticking is not None:
            ticking.cancel()


async def test_an_unread_body_that_is_whole_does_not_end_the_connection():
    """Nor is it kept."""

    async def answer(_: Inbound, reply: Reply) -> None:
        await reply.whole(200, [], b"hello")

    body = b"b" * 20_000
    async with serving(answer) as served, client(served) as one:
        for number in (1, 2):
            await one.send(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 20000\r\n\r\n" + body)
            await one.heard(b"hello", times=number)
        (connection,) = served.connections
        await until(lambda: connection._serving is None)
        assert connection._reading is None


# Clients that leave.


@pytest.mark.parametrize("how", ["close", "reset", "half"])
@pytest.mark.parametrize("when", ["waiting", "body", "stream", "paused stream"])
async def test_a_client_that_leaves_is_known_to_have_left(how, when):
    """Whatever its handler waits for; who waits for the client itself is woken."""
    left: list[object] = []
    is_here = asyncio.Event()
    never = asyncio.Event()

    async def answer(_: Inbound, reply: Reply) -> None:
        is_here.set()
        if when == "body":
            try:
                await reply.read_body(1000)
            except ClientLeft:
                left.append(reply.is_gone)
            return
        if when == "paused stream":
            await reply.start(200, [])
            while not reply.is_gone:
                await reply.piece(b"hello" * 100_000)
        elif when == "stream":
            await reply.start(200, [])
            await reply.piece(b"hello")
        await until(lambda: reply.is_gone)
        left.append(True)
        # What is said to nobody does no harm.
        await reply.piece(b"hello")
        await reply.end()
        await reply.whole(500, [], b"")
        never.set()

    async with serving(answer) as served, client(served) as one:
        await one.send(
            b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab" if when == "body" else GET
        )
        await is_here.wait()
        if when == "paused stream":
            (connection,) = served.connections
            await until(lambda: connection._writable is not None)
        elif when == "stream":
            await one.heard(b"hello")
        if how == "reset":
            one.reset()
        elif how == "close":
            one.raw.close()
        else:
            one.raw.shutdown(socket.SHUT_WR)
        await until(lambda: served.app.ended)
        assert left == [True]
        if (how, when) != ("half", "paused stream"):
            await until(lambda: not served.connections)


async def test_a_stream_to_a_client_that_has_half_closed_does_not_look_whole():
    """Without chunks there is only the connection's end to tell."""
    async with serving(_endless) as served, client(served) as one:
        await one.send(b"GET /a HTTP/1.0\r\n\r\n")
        await one.heard(b"hello")
        one.raw.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionResetError):
            await one.rest()


async def test_a_client_that_half_closes_and_reads_nothing_is_let_go(monkeypatch):
    """What waits for it would be held for ever."""
    monkeypatch.setattr(client_connection, "STALL_S", 0.0)

    async def answer(_: Inbound, reply: Reply) -> None:
        await reply.whole(200, [], MUCH)

    async with serving(answer) as served, client(served) as one:
        await one.send(GET)
        (connection,) = await _connections(served)
        await until(lambda: connection._writable is not None)
        one.raw.shutdown(socket.SHUT_WR)
        await until(lambda: served.app.ended)
        await until(lambda: _is_stuck(served, connection))


async def test_a_slow_reader_slows_the_handler():
    """Few bytes are held for it, and it gets all of them."""
    sent = 0

    async def answer(_: Inbound, reply: Reply) -> None:
        nonlocal sent
        await reply.start(200, [])
        for _ in range(300):
            await reply.piece(b"x" * 50_000)
            sent += 50_000
        await reply.end()

    async with serving(answer) as served, client(served, holds_bytes=100_000) as one:
        await one.send(LAST)
        (connection,) = await _connections(served)
        await until(lambda: connection._writable is not None)
        assert connection._transport.get_write_buffer_size() < 200_000
        assert sent < 15_000_000
        answers, _ = read(await one.rest(), ["GET"])

    assert len(answers[0][2]) == 15_000_000


# Stopping.


async def stopped(answer: Answer, drain: Callable[[], Awaitable[object]] | None = None):
    """A server that runs as in a worker: its address, what stops it, and its end."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    stop = asyncio.Event()

    async def nothing_to_do() -> None:
        return

    app = App(answer)
    limits = ServerLimits(HEAD_BYTES_MAX, 10, 100.0, 100.0)
    task = asyncio.create_task(serve(app, listener, stop, limits, drain or nothing_to_do))
    await asyncio.sleep(0)
    return Served(None, app, address), stop, task  # type: ignore[arg-type]


async def test_a_stop_ends_idle_connections_and_lets_answers_finish():
    """No new ones are taken; the last answer says that it is the last."""
    may_answer = asyncio.Event()
    may_end = asyncio.Event()

    async def answer(inbound: Inbound, reply: Reply) -> None:
        if inbound.path == "/slow":
            await may_answer.wait()
        await reply.start(200, [])
        await reply.piece(b"hello")
        if inbound.path == "/stream":
            await may_end.wait()
        await reply.end()

    served, stop, task = await stopped(answer, may_end.wait)
    async with client(served) as idle, client(served) as slow, client(served) as stream:
        await idle.send(GET)
        await idle.heard(b"0\r\n\r\n")
        await slow.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        await stream.send(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        await stream.heard(b"hello")
        await until(lambda: "/slow" in served.app.begun)
        stop.set()
        await idle.rest()
        with pytest.raises(ConnectionRefusedError):
            async with client(served):
                pass
        may_answer.set()
        ((_, said, _),), _ = read(await slow.rest(), ["GET"])
        assert said[b"connection"] == b"close"
        assert not task.done()
        may_end.set()
        answers, _ = read(await stream.rest(), ["GET"])
        assert answers[0][2] == b"hello"
        async with asyncio.timeout(60):
            await task


async def test_two_servers_share_a_listening_socket():
    """As workers do; when one of them stops, the other one goes on."""
    listener = socket.create_server(("127.0.0.1", 0))
    stops, tasks = [], []

    async def nothing_to_do() -> None:
        return

    for _ in range(2):
        stop = asyncio.Event()
        limits = ServerLimits(HEAD_BYTES_MAX, 10, 100.0, 100.0)
        stops.append(stop)
        tasks.append(
            asyncio.create_task(serve(App(echo), listener.dup(), stop, limits, nothing_to_do))
        )
    served = Served(None, App(echo), listener.getsockname())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    for stop, task in zip(stops, tasks, strict=True):
        for _ in range(5):
            assert b"/last " in await whole_talk(served, LAST)
        stop.set()
        await task
    listener.close()


async def test_one_request_that_fails_leaves_the_clock_running(caplog):
    """Whatever a handler raises: it is logged, and others are served."""

    async def answer(inbound: Inbound, reply: Reply) -> None:
        if inbound.path == "/a":
            raise ZeroDivisionError
        await echo(inbound, reply)

    async with serving(answer) as served:
        assert await whole_talk(served, GET) == b""
        assert b"/last " in await whole_talk(served, LAST)
    assert [each.message for each in caplog.records] == ["client.request_failed"]


# Many.


async def test_a_server_without_descriptors_goes_on_when_there_are_some_again():
    """It turns clients away meanwhile, and does not die of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving() as served, contextlib.AsyncExitStack() as stack:
        waiting = [socket.socket() for _ in range(10)]
        for each in waiting:
            each.setblocking(False)
            stack.callback(each.close)
        highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
        spare = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    spare.append(os.dup(0))
            loop = asyncio.get_running_loop()
            for each in waiting:
                await loop.sock_connect(each, served.address)
            turned_away = [Client(each) for each in waiting]
            for each in turned_away:
                assert await each.has_ended()
        finally:
            for number in spare:
                os.close(number)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert b"/last " in await whole_talk(served, LAST)


async def test_ipv6():
    """Where a listener has it."""
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    async with serving(host="::1") as served:
        assert b"/last " in await whole_talk(served, LAST)


def _objects(*kinds: type) -> int:
    return sum(isinstance(each, kinds) for each in gc.get_objects())


async def test_requests_and_connections_leave_nothing_behind_for_the_collector(monkeypatch):
    """It is frozen and rare in a worker: whatever ends, ends by itself."""
    # The test runner keeps records, and with them the frames of what was raised.
    monkeypatch.setattr(client_connection.log, "disabled", True)

    async def answer(inbound: Inbound, reply: Reply) -> None:
        if inbound.path == "/fails":
            raise KeyError
        try:
            await echo(inbound, reply)
        except ClientLeft:
            await reply.whole(400, [], b"")

    talks = [
        GET * 50 + LAST,
        BODIES["chunks"] + BODIES["upgrade"] + LAST,
        b"GET nowhere HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        ODD["a bad chunk"],
        ODD["http/2"],
        b"GET /fails HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n" + b"a" * 99,
        GET[:-2],
    ]

    async def all_of_them() -> None:
        for content in talks:
            async with client(served) as one:
                await one.send(content)
                if content[-2:] != b"aa" and content != GET[:-2]:
                    await one.has_ended()
        await until(lambda: not served.connections)
        served.app.begun.clear()
        served.app.ended.clear()

    async with serving(answer) as served:
        await all_of_them()
        gc.collect()
        gc.disable()
        try:
            for _ in range(25):
                await all_of_them()
            await until(lambda: not _objects(ClientConnection, ClientRequest))
            collected = gc.collect()
        finally:
            gc.enable()

    assert collected < 5 * len(talks)
