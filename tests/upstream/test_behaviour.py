"""What every upstream engine does, against a server scripted byte by byte."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack

import msgspec
import pytest
from upstream.conftest import OpenEngine, Serve, ask
from upstream.scripted_server import Peer, Script, answering, chunked, ending, plain

from gateway.adapters.fast_upstream import FastUpstream
from gateway.ports import (
    ConnectFailed,
    ConnectTimedOut,
    MalformedResponse,
    Origin,
    PoolTimedOut,
    ReadTimedOut,
    ResetBeforeResponse,
    ResponseCut,
    ResponseTooLarge,
    Upstream,
    UpstreamError,
    WriteTimedOut,
)

OK = b"HTTP/1.1 200 OK\r\n"
CONNECTIONS_OF_TWO = {"fast": 1, "httpx": 2}
"""Requests, one after the other: httpx has a new connection for each."""


async def test_a_request_goes_out_as_it_was_given(serve: Serve, upstream: Upstream) -> None:
    """Method, target and headers in order and case; Host and framing added; nothing else."""
    seen: list[tuple[bytes, bytes]] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(plain(b"ok"))
        await peer.gone()

    server = await serve(script)
    request = ask(
        server.origin(),
        b'{"a": 1}',
        target=b"/v1/x%2Fy?q=[a]&b='c'",
        headers=[(b"X-Second", b"2"), (b"authorization", b"Bearer \xe9"), (b"X-Empty", b"")],
    )
    response = await upstream.send(request)
    await response.read(100)

    head, body = seen[0]
    lines = head.decode("latin-1").split("\r\n")
    assert lines[0] == "POST /v1/x%2Fy?q=[a]&b='c' HTTP/1.1"
    assert lines[1] == f"Host: 127.0.0.1:{server.port}"
    assert [line.strip() for line in lines[2:5]] == [
        "X-Second: 2",
        "authorization: Bearer é",
        "X-Empty:",
    ]
    assert lines[5:] == ["Content-Length: 8", "", ""]
    assert body == b'{"a": 1}'


async def test_an_answer_comes_back_as_it_was_given(serve: Serve, upstream: Upstream) -> None:
    """Status, header pairs in order and case with repeats, body with its coding untouched."""
    body = b"\x1f\x8b not really gzip"
    server = await serve(
        answering(
            b"HTTP/1.1 429 Slow Down\r\nContent-Encoding: gzip\r\nSet-Cookie: a\r\n"
            b"X-Odd: \xe9\r\nset-cookie: b\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
    )
    response = await upstream.send(ask(server.origin()))

    assert response.status == 429
    assert response.headers == [
        (b"Content-Encoding", b"gzip"),
        (b"Set-Cookie", b"a"),
        (b"X-Odd", b"\xe9"),
        (b"set-cookie", b"b"),
        (b"Content-Length", b"%d" % len(body)),
    ]
    assert await response.read(100) == body
    assert response.is_finished()


async def test_a_get_without_body_has_no_framing_header(serve: Serve, upstream: Upstream) -> None:
    """A length is only named where a body is expected."""
    seen = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.head())
        await peer.send(plain(b""))
        seen.append(await peer.head())
        await peer.send(plain(b""))
        await peer.gone()

    server = await serve(script)
    for method in (b"GET", b"POST"):
        response = await upstream.send(ask(server.origin(), b"", method=method))
        await response.read(0)

    assert b"ontent" not in seen[0]
    assert b"\r\nContent-Length: 0\r\n" in seen[1]


async def test_a_streamed_body_goes_out_in_chunks(serve: Serve, upstream: Upstream) -> None:
    """An iterator is sent piece by piece; an empty piece does not end it."""
    seen: list[tuple[bytes, bytes]] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(plain(b"ok"))
        await peer.gone()

    async def body() -> AsyncIterator[bytes]:
        for piece in (b"one", b"", b"two" * 30_000, b"three"):
            yield piece
            await asyncio.sleep(0)

    server = await serve(script)
    response = await upstream.send(ask(server.origin(), body()))

    assert await response.read(10) == b"ok"
    assert b"\r\nTransfer-Encoding: chunked\r\n" in seen[0][0]
    assert b"\r\nContent-Length" not in seen[0][0]
    assert seen[0][1] == b"one" + b"two" * 30_000 + b"three"


async def test_chunks_arrive_while_the_answer_is_still_being_written(
    serve: Serve, upstream: Upstream
) -> None:
    """The first event is handed on before the second exists."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await go_on.wait()
        await peer.send(b"6\r\nsecond\r\n0\r\n\r\n")
        await peer.gone()

    server = await serve(script)
    response = await upstream.send(ask(server.origin()))
    chunks = response.chunks()
    first = await anext(chunks)
    was_finished = response.is_finished()
    go_on.set()
    rest = [chunk async for chunk in chunks]

    assert first == b"first"
    assert not was_finished
    assert b"".join(rest) == b"second"
    assert response.is_finished()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        pytest.param(chunked(b"a", b"bc", b"d" * 70_000), b"abc" + b"d" * 70_000, id="chunked"),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n0\r\nTrailer: t\r\n\r\n",
            b"ab",
            id="chunk-extension-and-trailer",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: CHUNKED\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
            b"0123456789",
            id="case-of-coding-and-size",
        ),
        pytest.param(plain(b""), b"", id="length-zero"),
        pytest.param(plain(b"x" * 200_000), b"x" * 200_000, id="length-large"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", b"", id="204"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", id="304"),
        pytest.param(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok", id="no-reason-phrase"),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            b"ok",
            id="1.0-keep-alive",
        ),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
            + plain(b"ok"),
            b"ok",
            id="informational-heads-passed-over",
        ),
    ],
)
async def test_a_well_framed_answer_is_read_and_the_connection_kept(
    answer: bytes, body: bytes, serve: Serve, upstream: Upstream, engine: str
) -> None:
    """Every framing that keeps the connection is read to its exact end."""
    second = plain(b"second")
    server = await serve(answering(answer, second), answering(second))
    response = await upstream.send(ask(server.origin()))
    first = await response.read(1_000_000)
    again = await upstream.send(ask(server.origin()))

    assert first == body
    assert await again.read(100) == b"second"
    assert server.connection_count == CONNECTIONS_OF_TWO[engine]
    assert b"Trailer" not in dict(response.headers)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        pytest.param(OK + b"\r\nuntil the end", b"until the end", id="1.1-until-close"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nold", b"old", id="1.0-until-close"),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold", b"old", id="1.0-with-length"
        ),
        pytest.param(plain(b"bye", b"Connection: close\r\n"), b"bye", id="connection-close"),
    ],
)
async def test_an_answer_that_ends_its_connection_is_read_and_the_connection_not_kept(
    answer: bytes, body: bytes, serve: Serve, upstream: Upstream
) -> None:
    """What says it closes is not asked again."""
    server = await serve(ending(answer))
    for _ in range(2):
        response = await upstream.send(ask(server.origin()))

        assert await response.read(100) == body
    assert server.connection_count == 2


async def test_connection_close_is_honoured_though_the_server_stays(
    serve: Serve, upstream: Upstream
) -> None:
    """The client closes, too, when it was told that this was the last answer."""
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(plain(b"bye", b"Connection: close\r\n"))
        await peer.gone()
        closed.set()

    server = await serve(script)
    response = await upstream.send(ask(server.origin()))
    await response.read(100)
    async with asyncio.timeout(60):
        await closed.wait()

    assert server.connection_count == 1


async def test_the_answer_to_head_has_no_body(serve: Serve, upstream: Upstream) -> None:
    """Its length tells what GET would give, and is not waited for."""
    server = await serve(answering(OK + b"Content-Length: 500\r\n\r\n"))
    response = await upstream.send(ask(server.origin(), b"", method=b"HEAD"))

    assert await response.read(1000) == b""
    assert (b"Content-Length", b"500") in response.headers
    assert response.is_finished()


async def test_a_head_may_arrive_a_byte_at_a_time(serve: Serve, upstream: Upstream) -> None:
    """Where segments end says nothing."""
    answer = OK + b"X-Name: value\r\nContent-Length: 4\r\n\r\nbody"

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send_apart(answer, [1] * (len(answer) - 1))
        await peer.gone()

    server = await serve(script)
    response = await upstream.send(ask(server.origin()))

    assert (b"X-Name", b"value") in response.headers
    assert await response.read(10) == b"body"


MALFORMED = [
    # id, answer, what the fast engine says, what httpx says, why they differ
    ("no-http", b"SSH-2.0-OpenSSH\r\n\r\n", MalformedResponse, None, ""),
    ("empty-line-first", b"\r\n\r\n\r\n", MalformedResponse, None, ""),
    ("http-2.0", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", MalformedResponse, None, ""),
    ("rtsp", b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", MalformedResponse, None, ""),
    ("status-text", b"HTTP/1.1 abc OK\r\n\r\n", MalformedResponse, None, ""),
    ("status-four-digits", b"HTTP/1.1 2000 OK\r\n\r\n", MalformedResponse, None, ""),
    ("status-zero", b"HTTP/1.1 000 OK\r\n\r\n", MalformedResponse, None, ""),
    ("switching", b"HTTP/1.1 101 Go\r\nUpgrade: x\r\n\r\n", MalformedResponse, None, ""),
    ("no-colon", OK + b"Nonsense\r\n\r\n", MalformedResponse, None, ""),
    ("space-before-colon", OK + b"Content-Length : 0\r\n\r\n", MalformedResponse, None, ""),
    ("nul-in-value", OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n", MalformedResponse, None, ""),
    (
        "bare-cr",
        OK + b"X: a\rContent-Length: 3\r\nContent-Length: 0\r\n\r\n",
        MalformedResponse,
        None,
        "",
    ),
    (
        "obs-fold",
        OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        MalformedResponse,
        "accepted",
        "h11 joins folded lines, as RFC 9112 5.2 allows a client",
    ),
    (
        "lone-lf",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        MalformedResponse,
        "accepted",
        "h11 takes LF for the end of a line, as RFC 9112 2.2 allows",
    ),
    (
        "length-and-chunked",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        MalformedResponse,
        None,
        "",
    ),
    (
        "chunked-and-length",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        MalformedResponse,
        None,
        "",
    ),
    (
        "two-lengths",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        MalformedResponse,
        None,
        "",
    ),
    (
        "one-length-twice",
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab",
        MalformedResponse,
        "accepted",
        "h11 takes equal repeats for one, as RFC 9112 6.3 allows",
    ),
    ("length-negative", OK + b"Content-Length: -1\r\n\r\n", MalformedResponse, None, ""),
    ("length-plus", OK + b"Content-Length: +1\r\n\r\na", MalformedResponse, None, ""),
    ("length-text", OK + b"Content-Length: a\r\n\r\na", MalformedResponse, None, ""),
    (
        "length-beyond-64-bits",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
        MalformedResponse,
        None,
        "",
    ),
    ("coding-gzip", OK + b"Transfer-Encoding: gzip\r\n\r\n", MalformedResponse, None, ""),
    (
        "coding-two",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        MalformedResponse,
        None,
        "",
    ),
    (
        "coding-twice",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        MalformedResponse,
        None,
        "",
    ),
    (
        "coding-in-1.0",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        MalformedResponse,
        "accepted",
        "h11 ignores the version",
    ),
    (
        "chunk-size-text",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        MalformedResponse,
        None,
        "",
    ),
    (
        "chunk-size-0x",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\n",
        MalformedResponse,
        None,
        "",
    ),
    (
        "chunk-size-minus",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        MalformedResponse,
        None,
        "",
    ),
    (
        "chunk-size-beyond-64-bits",
        OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        MalformedResponse,
        ResponseCut,
        "h11 counts to twenty digits and waits for the bytes",
    ),
    (
        "control-character-in-a-header",
        OK + b"X-Odd: a\x01b\r\nContent-Length: 0\r\n\r\n",
        MalformedResponse,
        None,
        "",
    ),
    (
        "chunk-longer-than-it-says",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        MalformedResponse,
        None,
        "",
    ),
]


@pytest.mark.parametrize(
    ("answer", "expected", "httpx_expected", "reason"),
    [pytest.param(*row[1:], id=row[0]) for row in MALFORMED],
)
async def test_a_malformed_answer_is_an_error(
    answer: bytes,
    expected: type[UpstreamError],
    httpx_expected: type[UpstreamError] | str | None,
    reason: str,
    serve: Serve,
    upstream: Upstream,
    engine: str,
) -> None:
    """Nothing is guessed; where httpx's parser is looser, the table says why."""
    wanted = expected if engine == "fast" or httpx_expected is None else httpx_expected
    server = await serve(ending(answer), answering(plain(b"after")))
    seen: type[UpstreamError] | str
    try:
        response = await upstream.send(ask(server.origin()))
        await response.read(1000)
        seen = "accepted"
    except UpstreamError as error:
        seen = type(error)

    assert seen == wanted
    again = await upstream.send(ask(server.origin()))
    assert await again.read(100) == b"after"


@pytest.mark.parametrize(
    "extra",
    [b"x", b"HT", plain(b"not asked for"), b"0\r\n\r\n"],
    ids=["x", "ht", "answer", "chunk"],
)
async def test_bytes_after_a_whole_answer_are_never_taken_for_the_next(
    extra: bytes, serve: Serve, upstream: Upstream
) -> None:
    """The answer stands, and its connection is not used again."""
    server = await serve(answering(plain(b"first") + extra), answering(plain(b"second")))
    first = await upstream.send(ask(server.origin()))
    first_body = await first.read(100)
    second = await upstream.send(ask(server.origin()))

    assert first_body == b"first"
    assert await second.read(100) == b"second"
    assert server.connection_count == 2


async def test_an_answer_nobody_asked_for_closes_an_idle_connection(
    serve: Serve, upstream: Upstream
) -> None:
    """An answer that comes before its question is not believed."""
    is_idle = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(plain(b"first"))
        await is_idle.wait()
        await peer.send(plain(b"poison"))
        await peer.gone()

    server = await serve(script, answering(plain(b"second")))
    first = await upstream.send(ask(server.origin()))
    await first.read(100)
    is_idle.set()
    async with asyncio.timeout(60):
        await server.everyone_gone()
    second = await upstream.send(ask(server.origin()))

    assert await second.read(100) == b"second"


async def test_too_many_informational_heads_are_an_error(
    serve: Serve, open_engine: OpenEngine, engine: str
) -> None:
    """A server cannot keep a request waiting with good news for ever."""
    if engine == "httpx":
        pytest.skip("httpx passes over any number; the read timeout is its only bound")
    upstream = open_engine(informational_heads_max=3)
    server = await serve(ending(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 4 + plain(b"ok")))
    with pytest.raises(MalformedResponse):
        await upstream.send(ask(server.origin()))


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "endless"])
async def test_a_head_over_the_limit_is_an_error(
    is_whole: bool, serve: Serve, upstream: Upstream, engine: str
) -> None:
    """64 KiB of headers are enough for anyone."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        for number in range(90 if is_whole else 1000):
            await peer.send(b"X-%d: %b\r\n" % (number, b"v" * 800))
        await peer.send(b"Content-Length: 0\r\n\r\n")
        await peer.gone()

    server = await serve(script)
    # h11 has its own limit, of 100 KiB, and one error for everything.
    endless = MalformedResponse if engine == "httpx" else ResponseTooLarge
    with pytest.raises(ResponseTooLarge if is_whole else endless):
        await upstream.send(ask(server.origin()))


async def test_endless_chunk_extensions_and_trailers_are_an_error(
    serve: Serve, upstream: Upstream, engine: str
) -> None:
    """What is no body is bounded, wherever it stands."""

    async def extension(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n1;")
        for _ in range(200):
            await peer.send(b"x" * 1000)
        await peer.gone()

    async def trailer(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
        for number in range(1000):
            await peer.send(b"X-%d: %b\r\n" % (number, b"v" * 200))
        await peer.gone()

    server = await serve(extension, trailer)
    # h11 has its own limit, of 100 KiB, and one error for everything.
    expected = MalformedResponse if engine == "httpx" else ResponseTooLarge
    for _ in range(2):
        response = await upstream.send(ask(server.origin()))
        with pytest.raises(expected):
            await response.read(1000)


@pytest.mark.parametrize("framing", ["length", "chunked", "until-close"])
async def test_a_body_over_the_readers_limit_is_an_error_and_closes(
    framing: str, serve: Serve, upstream: Upstream
) -> None:
    """Reading stops at the limit, not at the end."""
    closed = asyncio.Event()
    head = {
        "length": b"Content-Length: 1000000000000\r\n",
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "until-close": b"",
    }[framing]

    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + head + b"\r\n")
        try:
            while True:
                await peer.send(b"3e8\r\n%b\r\n" % (b"x" * 1000))
        finally:
            closed.set()

    server = await serve(endless)
    response = await upstream.send(ask(server.origin()))
    with pytest.raises(ResponseTooLarge):
        await response.read(100_000)
    async with asyncio.timeout(60):
        await closed.wait()

    assert not response.is_finished()


async def test_a_whole_body_over_the_readers_limit_is_an_error(
    serve: Serve, upstream: Upstream
) -> None:
    """One byte too many is too many, even when all of it has come."""
    server = await serve(answering(plain(b"x" * 2000)))
    response = await upstream.send(ask(server.origin()))
    with pytest.raises(ResponseTooLarge):
        await response.read(1999)


async def test_a_body_of_exactly_the_limit_is_read(serve: Serve, upstream: Upstream) -> None:
    """The limit is the largest body that is allowed."""
    server = await serve(answering(plain(b"x" * 2000)))
    response = await upstream.send(ask(server.origin()))

    assert await response.read(2000) == b"x" * 2000


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(b"", ResetBeforeResponse, id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-", ResetBeforeResponse, id="half-a-head"),
        pytest.param(OK + b"Content-Length: 10\r\n\r\nhalf", ResponseCut, id="length"),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            ResponseCut,
            id="between-chunks",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
            ResponseCut,
            id="last-crlf",
        ),
    ],
)
async def test_an_answer_that_breaks_off_is_an_error(
    answer: bytes, expected: type[UpstreamError], how: str, serve: Serve, upstream: Upstream
) -> None:
    """Half an answer is never a whole one, and what had come is handed over first."""
    has_read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        if how == "rst":
            if expected is ResponseCut:
                await has_read.wait()
            peer.reset()

    server = await serve(script)
    pieces: list[bytes] = []

    async def client() -> None:
        response = await upstream.send(ask(server.origin()))
        async for piece in response.chunks():
            pieces.append(piece)
            has_read.set()

    with pytest.raises(expected) as caught:
        await client()

    assert not caught.value.sent_nothing
    assert b"".join(pieces) == (b"half" if expected is ResponseCut else b"")


async def test_a_reset_does_not_end_a_body_without_length(serve: Serve, upstream: Upstream) -> None:
    """Only a proper end of the connection ends such a body."""
    has_read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"\r\nhalf")
        await has_read.wait()
        peer.reset()

    server = await serve(script)
    response = await upstream.send(ask(server.origin()))
    chunks = response.chunks()
    first = await anext(chunks)
    has_read.set()
    with pytest.raises(ResponseCut):
        await anext(chunks)

    assert first == b"half"


async def test_a_refused_connection_is_an_error(serve: Serve, upstream: Upstream) -> None:
    """And nothing was sent."""
    server = await serve(answering())
    origin = server.origin()
    await server.stop()
    with pytest.raises(ConnectFailed) as caught:
        await upstream.send(ask(origin))

    assert caught.value.sent_nothing


async def test_an_unknown_name_is_an_error(upstream: Upstream) -> None:
    """A name that nobody has cannot be connected to."""
    with pytest.raises(ConnectFailed):
        await upstream.send(ask(Origin("http", "no-such-host.invalid", 80)))


async def test_a_connect_that_nobody_takes_times_out(open_engine: OpenEngine) -> None:
    """A server whose backlog is full leaves the connect unanswered, neither taken nor refused."""
    upstream = open_engine(connect_timeout_s=0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        origin = Origin("http", *full.getsockname())
        for _ in range(4):  # Linux holds one connection more than it was asked to.
            filler = waiting.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        with pytest.raises(ConnectTimedOut) as caught:
            await upstream.send(ask(origin))

    assert caught.value.sent_nothing
    assert caught.value.is_timeout


async def test_a_handshake_that_never_ends_times_out(serve: Serve, open_engine: OpenEngine) -> None:
    """The connect limit covers TLS."""

    async def silent(peer: Peer) -> None:
        await peer.gone()

    upstream = open_engine(connect_timeout_s=0.1)
    server = await serve(silent)
    with pytest.raises(ConnectTimedOut) as caught:
        await upstream.send(ask(Origin("https", "127.0.0.1", server.port)))

    assert caught.value.sent_nothing
    assert caught.value.is_timeout


class Mark:
    """How far a request has come."""

    is_sent = False


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_request_that_is_given_up_tells_whether_it_was_sent(
    serve: Serve, upstream: Upstream, scheme: str
) -> None:
    """Nothing of it is while a handshake hangs; all of it may be once there is a connection."""
    was_reached = asyncio.Event()

    async def silent(peer: Peer) -> None:
        if scheme == "http":
            await peer.request()
        was_reached.set()
        await peer.gone()

    server = await serve(silent)
    mark = Mark()
    request = ask(Origin(scheme, "127.0.0.1", server.port))
    sending = asyncio.create_task(upstream.send(msgspec.structs.replace(request, trail=mark)))
    await was_reached.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending

    assert mark.is_sent is (scheme == "http")


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nConte", b"HTTP/1.1 100 Continue\r\n\r\n"],
    ids=["nothing", "half-a-head", "only-informational"],
)
async def test_silence_before_the_head_times_out(
    answer: bytes, serve: Serve, upstream: Upstream
) -> None:
    """The read limit bounds the wait for the head."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()

    server = await serve(script)
    with pytest.raises(ReadTimedOut):
        await upstream.send(ask(server.origin(), read_timeout_s=0.1))


async def test_silence_inside_the_body_times_out(serve: Serve, upstream: Upstream) -> None:
    """The read limit bounds the wait for each piece, and what came is handed over first."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"Content-Length: 10\r\n\r\nhalf")
        await peer.gone()

    server = await serve(script)
    response = await upstream.send(ask(server.origin(), read_timeout_s=0.6))
    chunks = response.chunks()
    first = await anext(chunks)
    with pytest.raises(ReadTimedOut):
        await anext(chunks)

    assert first == b"half"


async def test_a_long_stream_does_not_time_out_while_it_flows(
    serve: Serve, upstream: Upstream
) -> None:
    """The read limit is for a piece, not for the whole."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"Content-Length: 21\r\n\r\n")
        for _ in range(21):
            await asyncio.sleep(0.1)
            await peer.send(b"x")
        await peer.gone()

    server = await serve(script)
    response = await upstream.send(ask(server.origin(), read_timeout_s=2.0))

    assert await response.read(100) == b"x" * 21


@pytest.mark.parametrize("kind", ["bytes", "iterator"])
async def test_a_server_that_takes_nothing_times_out(
    kind: str, serve: Serve, open_engine: OpenEngine
) -> None:
    """The write limit bounds a stall, whatever the read limit says."""
    over = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()
        await over.wait()

    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000

    upstream = open_engine(write_timeout_s=0.2)
    server = await serve(script)
    with pytest.raises(WriteTimedOut):
        await upstream.send(
            ask(
                server.origin(),
                b"x" * 30_000_000 if kind == "bytes" else body(),
                read_timeout_s=60.0,
            )
        )
    over.set()


async def test_a_slow_taker_does_not_time_out(
    serve: Serve, open_engine: OpenEngine, engine: str
) -> None:
    """A body that takes longer than the write limit is fine while it moves."""
    if engine == "httpx":
        pytest.skip("httpx hands the kernel the body in one piece and bounds the whole of it")

    async def script(peer: Peer) -> None:
        await peer.head()
        left = 24_000_000
        while left:
            left -= len(await peer.reader.read(400_000))
            await asyncio.sleep(0.02)
        await peer.send(plain(b"ok"))
        await peer.gone()

    upstream = open_engine(write_timeout_s=1.0)
    server = await serve(script)
    response = await upstream.send(ask(server.origin(), b"x" * 24_000_000))

    assert await response.read(10) == b"ok"


async def test_a_slow_reader_stops_the_server(serve: Serve, open_engine: OpenEngine) -> None:
    """Back-pressure reaches the socket: what is not read is not buffered without end."""
    sent_bytes = 0
    stalled = asyncio.Event()
    total_bytes = 40_000_000

    async def script(peer: Peer) -> None:
        nonlocal sent_bytes
        await peer.request()
        await peer.send(OK + b"Content-Length: %d\r\n\r\n" % total_bytes)
        while sent_bytes < total_bytes:
            try:
                async with asyncio.timeout(0.3):
                    await peer.send(b"x" * 100_000)
            except TimeoutError:
                stalled.set()
                await peer.writer.drain()
            sent_bytes += 100_000
        await peer.gone()

    upstream = open_engine(read_buffer_bytes=100_000)
    server = await serve(script)
    response = await upstream.send(ask(server.origin()))
    chunks = response.chunks()
    received_bytes = len(await anext(chunks))
    async with asyncio.timeout(60):
        await stalled.wait()
        sent_while_stalled_bytes = sent_bytes
        async for chunk in chunks:
            received_bytes += len(chunk)

    assert sent_while_stalled_bytes < 20_000_000
    assert received_bytes == total_bytes


async def test_a_slow_reader_is_not_taken_for_a_silent_server(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """While we do not read, the server is not to blame."""
    body = b"x" * 8_000_000
    server = await serve(answering(plain(body)))
    upstream = open_engine(read_buffer_bytes=50_000)
    response = await upstream.send(ask(server.origin(), read_timeout_s=1.0))
    received_bytes = 0
    async for chunk in response.chunks():
        if not received_bytes:
            await asyncio.sleep(1.3)
        received_bytes += len(chunk)

    assert received_bytes == len(body)


async def test_a_slow_server_stops_the_source_of_the_body(serve: Serve, upstream: Upstream) -> None:
    """Pieces are asked for as the server takes them."""
    taken_bytes = 0
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.writer.transport.pause_reading()
        await go_on.wait()
        peer.writer.transport.resume_reading()
        rest = b""
        while not rest.endswith(b"0\r\n\r\n"):
            rest = (rest + await peer.reader.read(1_000_000))[-5:]
        await peer.send(plain(b"ok"))
        await peer.gone()

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken_bytes
        for _ in range(400):
            taken_bytes += 100_000
            yield b"x" * 100_000

    server = await serve(script)
    sending = asyncio.create_task(upstream.send(ask(server.origin(), body())))
    await asyncio.sleep(0.4)
    taken_while_stalled_bytes = taken_bytes
    go_on.set()
    response = await sending

    assert await response.read(10) == b"ok"
    assert taken_while_stalled_bytes < 20_000_000
    assert taken_bytes == 40_000_000


async def test_a_slow_source_of_the_body_is_not_the_servers_silence(
    serve: Serve, upstream: Upstream
) -> None:
    """The read limit begins when the request is out."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(plain(b"ok"))
        await peer.gone()

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(1.2)
        yield b"b"

    server = await serve(script)
    response = await upstream.send(ask(server.origin(), body(), read_timeout_s=1.0))

    assert await response.read(10) == b"ok"


async def test_a_source_that_fails_closes_the_connection(serve: Serve, upstream: Upstream) -> None:
    """Its own error comes out, and the server is not left with half a request that looks whole."""
    received = b""
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal received
        received = await peer.gone()
        closed.set()

    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        raise LookupError("the source broke")

    server = await serve(script)
    with pytest.raises(LookupError):
        await upstream.send(ask(server.origin(), body()))
    async with asyncio.timeout(60):
        await closed.wait()

    assert not received.endswith(b"0\r\n\r\n")


async def test_an_early_answer_ends_the_sending(
    serve: Serve, upstream: Upstream, engine: str
) -> None:
    """A server that has said no is not sent the rest, and its connection not used again."""
    if engine == "httpx":
        pytest.skip("httpx sends the whole body before it looks for an answer")
    source_closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await peer.gone()

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            source_closed.set()

    server = await serve(script, answering(plain(b"second")))
    response = await upstream.send(ask(server.origin(), body()))
    again = await upstream.send(ask(server.origin()))

    assert response.status == 413
    assert await response.read(10) == b"no"
    assert source_closed.is_set()
    assert await again.read(10) == b"second"
    assert server.connection_count == 2


async def test_an_early_answer_with_a_body_to_come_is_read(
    serve: Serve, upstream: Upstream, engine: str
) -> None:
    """Only the sending stops; the answer is read under the read limit."""
    if engine == "httpx":
        pytest.skip("httpx sends the whole body before it looks for an answer")

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nno")
        await asyncio.sleep(0.05)
        await peer.send(b"pe")
        await peer.gone()

    async def silent(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nno")
        await peer.gone()

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    server = await serve(script, silent)
    response = await upstream.send(ask(server.origin(), body()))
    whole = await response.read(10)
    response = await upstream.send(ask(server.origin(), body(), read_timeout_s=0.1))

    assert whole == b"nope"
    with pytest.raises(ReadTimedOut):
        await response.read(10)


async def test_an_early_answer_to_a_large_body_is_returned(
    serve: Serve, upstream: Upstream
) -> None:
    """A body in memory that the server does not take does not hide the answer."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.writer.transport.pause_reading()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await asyncio.sleep(0.1)
        # The rest is taken, as a server does that closes without losing its answer.
        peer.writer.transport.resume_reading()
        await peer.gone()

    server = await serve(script, answering(plain(b"second")))
    response = await upstream.send(ask(server.origin(), b"x" * 20_000_000))
    body = await response.read(10)

    assert response.status == 413
    assert body == b"no"
    # The rest was left unsent, so another request would have been taken for a part of it.
    again = await upstream.send(ask(server.origin()))

    assert await again.read(10) == b"second"


async def test_an_idle_connection_is_used_again_last_in_first_out(
    serve: Serve, upstream: Upstream, engine: str
) -> None:
    """The warmest connection serves next."""
    if engine == "httpx":
        pytest.skip("httpx has a new connection for each request")
    served: list[int] = []
    number = 0
    both = asyncio.Barrier(2)

    async def script(peer: Peer) -> None:
        nonlocal number
        own = number
        number += 1
        await peer.request()
        await both.wait()
        if own == 0:
            await asyncio.sleep(0.05)
        await peer.send(plain(b"ok"))
        while True:
            await peer.request()
            served.append(own)
            await peer.send(plain(b"ok"))

    server = await serve(script)

    async def one() -> None:
        response = await upstream.send(ask(server.origin()))
        await response.read(10)

    await asyncio.gather(one(), one())
    for _ in range(3):
        await one()

    assert server.connection_count == 2
    assert len(set(served)) == 1


async def test_no_more_connections_than_allowed_and_others_wait_their_turn(
    serve: Serve, open_engine: OpenEngine, engine: str
) -> None:
    """The limit is on connections; requests beyond it queue."""
    busy = 0
    busiest = 0

    async def script(peer: Peer) -> None:
        nonlocal busy, busiest
        while True:
            await peer.request()
            busy += 1
            busiest = max(busiest, busy)
            await asyncio.sleep(0.01)
            busy -= 1
            await peer.send(plain(b"ok"))

    upstream = open_engine(connections_per_origin_max=3)
    server = await serve(script)

    async def one() -> bytes:
        response = await upstream.send(ask(server.origin()))
        return await response.read(10)

    bodies = await asyncio.gather(*(one() for _ in range(20)))

    assert bodies == [b"ok"] * 20
    assert busiest == 3
    assert server.connection_count == (3 if engine == "fast" else 20)


async def test_waiting_for_a_connection_times_out(serve: Serve, open_engine: OpenEngine) -> None:
    """Nothing was sent, and the place in the queue is given up."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await go_on.wait()
        await peer.send(plain(b"first"))
        await answering(plain(b"second"))(peer)

    upstream = open_engine(connections_per_origin_max=1, pool_timeout_s=0.1)
    server = await serve(script, answering(plain(b"second")))
    first = asyncio.create_task(upstream.send(ask(server.origin())))
    await asyncio.sleep(0.02)
    with pytest.raises(PoolTimedOut) as caught:
        await upstream.send(ask(server.origin()))
    go_on.set()
    first_body = await (await first).read(10)
    second = await upstream.send(ask(server.origin()))

    assert caught.value.sent_nothing
    assert first_body == b"first"
    assert await second.read(10) == b"second"


async def test_a_connection_that_ends_while_idle_is_replaced(
    serve: Serve, upstream: Upstream
) -> None:
    """A server may close what is idle; the next request does not notice."""
    server = await serve(ending(plain(b"first")), answering(plain(b"second")))
    first = await upstream.send(ask(server.origin()))
    first_body = await first.read(10)
    await server.everyone_gone()
    async with asyncio.timeout(60):
        await _ends_seen(upstream)
    second = await upstream.send(ask(server.origin()))

    assert first_body == b"first"
    assert await second.read(10) == b"second"


async def _ends_seen(upstream: Upstream) -> None:
    """Returns when the engine keeps no connection; httpx keeps none."""
    while isinstance(upstream, FastUpstream) and upstream.connection_count():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_an_idle_connection_is_closed_after_its_time(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """Nobody pays for connections that nobody uses."""
    upstream = open_engine(idle_timeout_s=0.1)
    server = await serve(answering(plain(b"first")), answering(plain(b"second")))
    response = await upstream.send(ask(server.origin()))
    await response.read(10)
    async with asyncio.timeout(60):
        await server.everyone_gone()
    response = await upstream.send(ask(server.origin()))

    assert await response.read(10) == b"second"


def _dying(asked: list[bytes], answer: bytes = b"", *, before: bytes = b"") -> Script:
    """Answers one request if `before` is given; notes the next, sends `answer` and ends."""

    async def script(peer: Peer) -> None:
        if before:
            await peer.request()
            await peer.send(before)
        asked.append((await peer.request())[1])
        await peer.send(answer)

    return script


async def test_a_connection_found_dead_is_no_failure_when_repeating_does_no_harm(
    serve: Serve, upstream: Upstream, engine: str
) -> None:
    """The request reached a connection that its server had given up, if it was one used before."""
    asked: list[bytes] = []
    server = await serve(_dying(asked, before=plain(b"first")), answering(plain(b"second")))
    first = await upstream.send(ask(server.origin()))
    await first.read(10)
    second = await upstream.send(ask(server.origin(), is_repeatable=True))

    assert await second.read(10) == b"second"
    assert asked == ([b"{}"] if engine == "fast" else [])


@pytest.mark.parametrize(
    ("is_used", "answer", "is_repeatable"),
    [
        pytest.param(True, b"", False, id="not-repeatable"),
        pytest.param(True, b"HTTP/1.1 200 OK\r\n", True, id="had-begun-to-answer"),
        pytest.param(False, b"", True, id="on-a-new-connection"),
        pytest.param(False, b"HTTP/1.1 200 OK\r\n", True, id="had-begun-on-a-new-connection"),
    ],
)
async def test_a_request_that_may_have_been_heard_is_not_sent_twice(
    is_used: bool,
    answer: bytes,
    is_repeatable: bool,
    serve: Serve,
    upstream: Upstream,
    engine: str,
) -> None:
    """Without leave, or where no connection was found dead, the caller decides."""
    if engine == "httpx" and is_used:
        pytest.skip("httpx has a new connection for each request")
    asked: list[bytes] = []
    before = plain(b"first") if is_used else b""
    server = await serve(_dying(asked, answer, before=before), answering(plain(b"second")))
    if is_used:
        first = await upstream.send(ask(server.origin()))
        await first.read(10)
    with pytest.raises(ResetBeforeResponse) as caught:
        await upstream.send(ask(server.origin(), is_repeatable=is_repeatable))

    assert not caught.value.sent_nothing
    assert asked == [b"{}"]
    assert server.connection_count == 1


async def test_a_streamed_body_is_not_sent_twice(
    serve: Serve, upstream: Upstream, engine: str
) -> None:
    """What an iterator gave is gone."""
    asked: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    # httpx would not use a connection that has answered already.
    before = plain(b"first") if engine == "fast" else b""
    server = await serve(_dying(asked, before=before), answering(plain(b"second")))
    if before:
        first = await upstream.send(ask(server.origin()))
        await first.read(10)
    with pytest.raises(ResetBeforeResponse):
        await upstream.send(ask(server.origin(), body(), is_repeatable=True))

    assert asked == [b"x"]


@pytest.mark.parametrize("moment", ["head", "read", "chunks", "upload"])
async def test_cancelling_closes_the_connection(
    moment: str, serve: Serve, upstream: Upstream
) -> None:
    """Whoever leaves takes the connection along."""
    closed = asyncio.Event()
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        if moment in ("read", "chunks"):
            await peer.send(OK + b"Content-Length: 10\r\n\r\nhalf")
        asked.set()
        await peer.gone()
        closed.set()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async def client() -> None:
        body = endless() if moment == "upload" else b"{}"
        response = await upstream.send(ask(server.origin(), body))
        if moment == "read":
            await response.read(100)
        async for _ in response.chunks():
            pass

    server = await serve(script)
    task = asyncio.create_task(client())
    await asked.wait()
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(60):
        await closed.wait()


async def test_closing_an_answer_early_closes_the_connection(
    serve: Serve, upstream: Upstream
) -> None:
    """An iterator given up, or an answer closed unread, leaves nothing open; twice is once."""
    closed: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"Content-Length: 10\r\n\r\nhalf")
        await peer.gone()
        closed.append(1)

    server = await serve(script)
    response = await upstream.send(ask(server.origin()))
    chunks = response.chunks()
    first = await anext(chunks)
    await chunks.aclose()  # type: ignore[attr-defined]
    other = await upstream.send(ask(server.origin()))
    await other.close()
    await other.close()
    async with asyncio.timeout(60):
        await server.everyone_gone()

    assert first == b"half"
    assert closed == [1, 1]
    assert not response.is_finished()
    assert not other.is_finished()


async def test_closing_the_engine_closes_every_connection(serve: Serve, upstream: Upstream) -> None:
    """Idle and busy ones; nothing more is served."""

    async def half(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"Content-Length: 10\r\n\r\nhalf")
        await peer.gone()

    server = await serve(answering(plain(b"ok")), half)
    response = await upstream.send(ask(server.origin()))
    busy_origin = (await serve(half)).origin()
    busy = await upstream.send(ask(busy_origin))
    await response.read(10)
    await upstream.close()
    async with asyncio.timeout(60):
        await server.everyone_gone()
    with pytest.raises(UpstreamError):
        await busy.read(100)
    with pytest.raises(UpstreamError):
        await upstream.send(ask(server.origin()))


async def test_addresses_are_checked_before_anything_is_connected(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """The guard sees addresses, never names; what it refuses is never connected to."""
    seen: list[str] = []

    def refuse(address: str, port: int) -> None:
        seen.append(address)
        raise ValueError("private")

    server = await serve(answering(plain(b"ok")))
    upstream = open_engine(check_address=refuse)
    for host in ("localhost", "127.0.0.1"):
        with pytest.raises(ConnectFailed) as caught:
            await upstream.send(ask(server.origin(host)))

        assert caught.value.sent_nothing
    assert "127.0.0.1" in seen
    assert "localhost" not in seen
    assert server.connection_count == 0


async def test_the_checked_address_is_the_one_connected_to_under_the_name(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """Host stays the name; an address refused is passed over for one that is allowed."""
    heads = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(plain(b"ok"))
        await peer.gone()

    def only_v4(address: str, port: int) -> None:
        if address != "127.0.0.1":
            raise ValueError("not that one")

    server = await serve(script)
    upstream = open_engine(check_address=only_v4)
    response = await upstream.send(ask(server.origin("localhost"), b"", method=b"GET"))

    assert await response.read(10) == b"ok"
    assert f"\r\nHost: localhost:{server.port}\r\n".encode() in heads[0]


@pytest.mark.parametrize(
    "change",
    [
        {"headers": [(b"X", b"a\r\nEvil: 1")]},
        {"headers": [(b"X", b"a\nEvil: 1")]},
        {"headers": [(b"X", b"a\0b")]},
        {"headers": [(b"X\r\nEvil", b"a")]},
        {"headers": [(b"X: a\r\nEvil", b"a")]},
        {"headers": [(b"X:Y", b"a")]},
        {"headers": [(b"", b"a")]},
        {"headers": [(b"content-length", b"0")]},
        {"headers": [(b"Transfer-Encoding", b"chunked")]},
        {"headers": [(b"HOST", b"elsewhere")]},
        {"target": b"/ HTTP/1.1\r\nEvil: 1"},
        {"target": b"/a b"},
        {"target": b"/a\0b"},
        {"target": b""},
        {"method": b"GET /evil"},
        {"method": b"CONNECT"},
    ],
    ids=str,
)
async def test_a_request_that_would_say_more_than_it_means_is_refused(
    change: dict, serve: Serve, upstream: Upstream
) -> None:
    """CR, LF, NUL and the engine's own headers never leave; nothing is connected to."""
    server = await serve(answering(plain(b"ok")))
    with pytest.raises(ValueError, match=r"head|header|target|method"):
        await upstream.send(ask(server.origin(), **change))

    assert server.connection_count == 0


async def test_a_streamed_body_of_known_length_goes_out_as_it_is(
    serve: Serve, upstream: Upstream
) -> None:
    """With Content-Length, and the connection serves another request afterwards."""
    seen: list[tuple[bytes, bytes]] = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            seen.append(await peer.request())
            await peer.send(plain(b"ok"))
        await peer.gone()

    async def body() -> AsyncIterator[bytes]:
        for piece in (b"one", b"", b"two" * 30_000):
            yield piece
            await asyncio.sleep(0)

    server = await serve(script)
    for _ in range(2):
        request = msgspec.structs.replace(ask(server.origin(), body()), content_length=90_003)
        response = await upstream.send(request)
        assert await response.read(10) == b"ok"

    for head, content in seen:
        assert b"\r\nContent-Length: 90003\r\n" in head
        assert b"\r\nTransfer-Encoding" not in head
        assert content == b"one" + b"two" * 30_000


@pytest.mark.parametrize("length", [3, 5])
async def test_a_streamed_body_of_another_length_closes_the_connection(
    serve: Serve, upstream: Upstream, length: int
) -> None:
    """Shorter or longer than said: the server must not take it for whole, nor for the next head."""
    received = b""
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal received
        received = await peer.gone()
        closed.set()

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * length

    server = await serve(script)
    with pytest.raises((ValueError, UpstreamError)):
        await upstream.send(msgspec.structs.replace(ask(server.origin(), body()), content_length=4))
    async with asyncio.timeout(60):
        await closed.wait()

    assert received.count(b"x" * 4) == 0
