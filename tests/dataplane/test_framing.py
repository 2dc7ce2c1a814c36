"""Heads that two readers could take for different requests, over raw sockets, with more behind them.

They are refused, nobody hears of them, and the connection ends.
"""

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.programs import Gateway

CHAT = b"/api/providers/openai/v1/chat/completions"
MESSAGES = b"/api/providers/anthropic/v1/messages"
FILES = b"/api/providers/openai/v1/files"
BODY = b'{"model":"m","max_tokens":1,"messages":[]}'
CHUNKED = b"transfer-encoding: chunked"
LENGTH = b"content-length: %d" % len(BODY)
KEYS = (f"k{number:02}" for number in itertools.count())
"""As long as what they replace: lengths are counted before."""
MARK = b"smuggled"
BEHIND = (
    b"POST /api/providers/openai/v1/embeddings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n"
    b"content-type: application/json\r\ncontent-length: 32\r\n\r\n"
    b'{"model":"smuggled","input":"x"}'
)
"""A whole request, good in itself, that nobody has sent: it stands where a body should."""
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def parted(heard: bytes) -> tuple[bytes, bytes, bytes] | None:
    """A request's head and body and what follows, read as the standard has it and no other way.

    None while it is not whole.
    """
    head, end, rest = heard.partition(b"\r\n\r\n")
    if not end:
        return None
    lengths = re.findall(rb"(?i)\r\ncontent-length: (\d+)(?=\r\n|$)", head)
    codings = re.findall(rb"(?i)\r\ntransfer-encoding: ([^\r]*)", head)
    assert (len(lengths), codings) in ((1, []), (0, [b"chunked"]), (0, []))
    if not codings:
        length = int(lengths[0]) if lengths else 0
        return None if len(rest) < length else (head, rest[:length], rest[length:])
    body = b""
    while True:
        line, end, rest = rest.partition(b"\r\n")
        length = int(line, 16) if end else 0
        if not end or len(rest) < length + 2:
            return None
        assert rest[length : length + 2] == b"\r\n"
        body, rest = body + rest[:length], rest[length + 2 :]
        if not length:
            return head, body, rest


class Witness:
    """A provider that keeps every byte of every connection, and answers each request with `{}`."""

    def __init__(self) -> None:
        self.connections: list[bytes] = []
        self.requests: list[tuple[bytes, bytes]] = []
        self.left: dict[int, bytes] = {}
        """Of each connection, what has come behind its last request."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        number = len(self.connections)
        self.connections.append(b"")
        self.left[number] = b""
        try:
            while piece := await reader.read(65_536):
                self.connections[number] += piece
                self.left[number] += piece
                while request := parted(self.left[number]):
                    self.left[number] = request[2]
                    self.requests.append(request[:2])
                    writer.write(ANSWER)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    @property
    def lines(self) -> list[bytes]:
        """The first line of every request."""
        return [head.split(b"\r\n")[0] for head, _ in self.requests]


@asynccontextmanager
async def witness_for(gateway: Gateway) -> AsyncIterator[tuple[str, Witness]]:
    """A key whose settings of two providers lead to a witness of its own."""
    witness = Witness()
    server = await asyncio.start_server(witness.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def described() -> str:
        settings = [gateway.setting(url, provider=name) for name in ("openai", "anthropic")]
        key = next(KEYS)
        gateway.key(key, settings[0], settingIds=settings)
        return key

    try:
        yield await asyncio.to_thread(described), witness
    finally:
        server.close()


def head(*lines: bytes, target: bytes = CHAT, method: bytes = b"POST") -> bytes:
    first = b"%b %b HTTP/1.1\r\nauthorization: Bearer KEY\r\n" % (method, target)
    return first + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def in_chunks(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


class Told:
    """What came back: every status, the first answer's head and body, whether the connection ended."""

    def __init__(self, got: bytes, *, has_ended: bool) -> None:
        self.has_ended = has_ended
        self.statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", got)]
        self.head, _, self.body = got.partition(b"\r\n\r\n")


async def told(gateway: Gateway, key: str, content: bytes, answers: int | None = None) -> Told:
    """All that comes until the connection ends, or until so many answers are in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy_port)
    got, has_ended = b"", False
    try:
        writer.write(content.replace(b"KEY", key.encode()))
        async with asyncio.timeout(60):
            while answers is None or got.count(b"HTTP/1.1 ") < answers or not got.endswith(b"}"):
                piece = await reader.read(65_536)
                if not piece:
                    has_ended = True
                    break
                got += piece
    except ConnectionError:
        has_ended = True
    finally:
        writer.close()
    return Told(got, has_ended=has_ended)


REFUSED = {
    "no host": (LENGTH,),
    "an empty host": (b"host:", LENGTH),
    "two hosts": (b"host: x", b"host: y", LENGTH),
    "a host twice": (b"host: x", LENGTH, b"host: x"),
    "chunked twice": (b"host: x", CHUNKED, CHUNKED),
    "chunked in one of two": (b"host: x", b"transfer-encoding: identity", CHUNKED),
    "a list of codings": (b"host: x", b"transfer-encoding: identity, chunked"),
    "chunked, a length for other readers": (b"host: x", CHUNKED, b"content_length: 5"),
    "a length, chunked for other readers": (b"host: x", LENGTH, b"transfer_encoding: chunked"),
}
PLACES = {
    "chat": (b"POST", CHAT),
    "messages": (b"POST", MESSAGES),
    "files": (b"POST", FILES),
    "plain root": (b"POST", b"/v1/chat/completions"),
    "health": (b"GET", b"/health"),
    "stats": (b"GET", b"/stats"),
    "options": (b"OPTIONS", CHAT),
}
TUNNELS = {
    "an authority": (b"CONNECT", b"other.test:443"),
    "an authority of this machine": (b"CONNECT", b"127.0.0.1:8001"),
    "a path": (b"CONNECT", CHAT),
    "a path of Anthropic's": (b"CONNECT", MESSAGES),
    "an authority for a path": (b"POST", b"other.test:80"),
    "a word for a path": (b"GET", b"elsewhere"),
}


def error_code(dialect: str, body: bytes) -> tuple[str, str | None]:
    """Type and code of an error object in its dialect's shape."""
    document = json.loads(body)
    if dialect == "anthropic":
        assert set(document) == {"type", "error", "request_id"}
        return document["error"]["type"], "bad_framing"
    assert set(document["error"]) == {"message", "type", "param", "code"}
    return document["error"]["type"], document["error"]["code"]


@pytest.mark.parametrize("form", REFUSED)
async def test_a_head_that_is_read_in_two_ways_is_refused_and_ends_the_connection(gateway, form):
    """400 in the dialect's shape wherever it went, and what stands behind it is never read."""
    lines = REFUSED[form]
    body = in_chunks(BODY) if CHUNKED in lines or b"identity, chunked" in lines[-1] else BODY
    async with witness_for(gateway) as (key, witness):
        answers = await asyncio.gather(
            *(
                told(gateway, key, head(*lines, target=target, method=method) + body + BEHIND)
                for method, target in PLACES.values()
            )
        )
        assert witness.connections == []

    for place, answer in zip(PLACES, answers, strict=True):
        assert (place, answer.statuses, answer.has_ended) == (place, [400], True)
        assert re.search(rb"(?i)\r\nconnection: close(\r\n|$)", answer.head)
        dialect = "anthropic" if place == "messages" else "openai"
        assert error_code(dialect, answer.body) == ("invalid_request_error", "bad_framing")


@pytest.mark.parametrize("form", TUNNELS)
async def test_nobody_gets_a_tunnel(gateway, form):
    """400 with an error object, no connection to anybody, and the bytes behind it go nowhere."""
    method, target = TUNNELS[form]
    async with witness_for(gateway) as (key, witness):
        answer = await told(
            gateway, key, head(b"host: x", target=target, method=method) + BEHIND + BEHIND
        )
        assert witness.connections == []

    assert (answer.statuses, answer.has_ended) == ([400], True)
    dialect = "anthropic" if target == MESSAGES else "openai"
    assert error_code(dialect, answer.body) == ("invalid_request_error", "bad_framing")


async def test_a_probe_of_http_1_0_without_a_host_is_answered(gateway):
    """HTTP/1.0 knows of none: load balancers ask /health that way."""
    async with witness_for(gateway) as (key, witness):
        for method in (b"GET", b"OPTIONS"):
            probe = head(target=b"/health", method=method).replace(b"HTTP/1.1", b"HTTP/1.0")
            answer = await told(gateway, key, probe)
            assert (answer.statuses, answer.has_ended) == ([200], True)
        asked = head(LENGTH).replace(b"HTTP/1.1", b"HTTP/1.0")
        answer = await told(gateway, key, asked + BODY)
        assert (answer.statuses, answer.has_ended) == ([200], True)
        assert len(witness.connections) == 1


BOTH = {
    "length first": (b"host: x", b"content-length: %d", CHUNKED),
    "chunks first": (b"host: x", CHUNKED, b"content-length: %d"),
    "length between": (b"content-length: %d", b"host: x", CHUNKED, b"x-after: 1"),
    "a coding in capitals": (b"host: x", b"Transfer-Encoding: CHUNKED", b"Content-Length: %d"),
    "a length that is none": (b"host: x", CHUNKED, b"content-length: %dx"),
}


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("place", PLACES)
async def test_a_length_beside_chunks_is_refused(gateway, form, place):
    """In whatever order they come, wherever the request goes, and whatever the length says."""
    method, target = PLACES[place]
    async with witness_for(gateway) as (key, witness):
        for length in (0, 4, len(in_chunks(BODY)), len(in_chunks(BODY) + BEHIND)):
            lines = [line % length if b"%d" in line else line for line in BOTH[form]]
            content = head(*lines, target=target, method=method) + in_chunks(BODY) + BEHIND
            answer = await told(gateway, key, content)
            assert (answer.statuses, answer.has_ended) == ([400], True)
        assert witness.connections == []


@pytest.mark.parametrize("scheme", [b"http", b"https", b"ftp"])
@pytest.mark.parametrize("lines", [(b"host: x",), (b"host: DECOY",), ()])
async def test_an_absolute_target_is_refused(gateway, scheme, lines):
    """We are no proxy of that kind; the authority in it is asked nothing, and told nobody."""
    decoy = Witness()
    server = await asyncio.start_server(decoy.serve, "127.0.0.1", 0)
    authority = b"127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    try:
        async with witness_for(gateway) as (key, witness):
            target = scheme + b"://user:secret@" + authority + CHAT + b"?a=1"
            content = head(*lines, LENGTH, target=target).replace(b"DECOY", authority) + BODY
            answer = await told(gateway, key, content + BEHIND)
            assert witness.connections == []
    finally:
        server.close()

    assert (answer.statuses, answer.has_ended) == ([400], True)
    assert decoy.connections == []


LINE_FEEDS = {
    "all": head(b"host: x", LENGTH).replace(b"\r\n", b"\n"),
    "after the first line": head(b"host: x", LENGTH).replace(b"\r\n", b"\n", 1),
    "before the length": head(b"host: x\nx-a: b", LENGTH),
    "at the end": head(b"host: x", LENGTH)[:-2] + b"\n",
    "before chunks": head(b"host: x", b"x-a: b\n" + CHUNKED, LENGTH),
    "before another host": head(b"host: x", b"x-a: b\nhost: y", LENGTH),
    "before another length": head(b"host: x", b"x-a: b\ncontent-length: 3", LENGTH),
}


@pytest.mark.parametrize("form", LINE_FEEDS)
async def test_a_bare_line_feed_ends_no_line(gateway, form):
    """Some take it for the end of a line and some for a part of it."""
    async with witness_for(gateway) as (key, witness):
        answer = await told(gateway, key, LINE_FEEDS[form] + BODY + BEHIND)
        assert witness.connections == []

    assert (answer.statuses, answer.has_ended) == ([400], True)


async def test_empty_lines_before_a_request_are_passed_over(gateway):
    """RFC 9112 2.2; but not without end."""
    async with witness_for(gateway) as (key, witness):
        content = b"\r\n\r\n" + head(b"host: x", LENGTH) + BODY
        answer = await told(gateway, key, content * 2, answers=2)
        endless = await told(gateway, key, b"\r\n" * 200_000)

    assert answer.statuses == [200, 200]
    assert len(witness.requests) == 2
    assert (endless.statuses, endless.has_ended) in (([431], True), ([], True))


async def test_trailers_and_extensions_of_chunks_stay_here(gateway):
    """They are no headers, whatever they are called; what follows is the next request."""
    chunks = b"%x;a=b;content-length=1\r\n%b\r\n0;last\r\n" % (len(BODY), BODY)
    trailers = b"host: y\r\nx-api-key: other\r\n\r\n"
    async with witness_for(gateway) as (key, witness):
        content = head(b"host: x", CHUNKED) + chunks + trailers
        answer = await told(gateway, key, content * 2, answers=2)

    assert answer.statuses == [200, 200]
    assert [body for _, body in witness.requests] == [BODY, BODY]
    for heard in witness.connections:
        assert b"other" not in heard
        assert b"a=b" not in heard


@pytest.mark.parametrize("trailer", [b"content-length: 5", b"transfer-encoding: gzip"])
async def test_framing_in_a_trailer_is_refused(gateway, trailer):
    """The request is answered with 400, its provider hears nothing, and the connection ends."""
    chunks = b"%x\r\n%b\r\n0\r\n%b\r\n\r\n" % (len(BODY), BODY, trailer)
    async with witness_for(gateway) as (key, witness):
        answer = await told(gateway, key, head(b"host: x", CHUNKED) + chunks + BEHIND)
        assert witness.connections == []

    assert (answer.statuses, answer.has_ended) == ([400], True)


@pytest.mark.parametrize(
    ("status", "asked"),
    [
        (401, lambda body: head(b"host: x", body).replace(b"KEY", b"nobody")),
        (404, lambda body: head(b"host: x", body, target=b"/nothing/here")),
        (400, lambda body: head(b"host: x", body, target=CHAT.replace(b"chat", b"%2e%2e"))),
        (400, lambda body: head(b"host: x", b"x-request-timeout: soon", body)),
        (200, lambda body: head(b"host: x", body, target=b"/health", method=b"GET")),
        (204, lambda body: head(b"host: x", body, method=b"OPTIONS")),
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_the_body_of_a_refused_request_is_no_request(gateway, status, asked, framing):
    """It is passed over, or the connection ends; what stands behind it may then be served."""
    behind = BEHIND.replace(b"smuggled", b"honestly")
    async with witness_for(gateway) as (key, witness):
        length = b"content-length: %d" % len(BEHIND)
        line, body = (length, BEHIND) if framing == "length" else (CHUNKED, in_chunks(BEHIND))
        content = asked(line) + body + behind.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
        answer = await told(gateway, key, content)

    assert answer.has_ended
    assert answer.statuses in ([status], [status, 200])
    assert len(witness.requests) == len(answer.statuses) - 1
    assert MARK not in b"".join(witness.connections)
