"""Properties: any body in any pieces arrives intact; no bytes make an engine hang or stray."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from upstream.conftest import ask
from upstream.scripted_server import Peer, Script, ScriptedServer

from gateway.adapters.upstream_settings import UpstreamSettings
from gateway.adapters.upstreams import open_upstream
from gateway.ports import Upstream, UpstreamError

LIMITS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
pieces = st.lists(st.binary(max_size=300) | st.just(b"y" * 20_000), max_size=12)
cuts = st.lists(st.integers(1, 40) | st.just(3_000), max_size=40)


def run(engine: str, script: Script, client: object) -> None:
    """One server and one engine in a loop of their own."""

    async def main() -> None:
        server = ScriptedServer(script)
        await server.start()
        upstream = open_upstream(engine, UpstreamSettings(tick_s=0.01))
        try:
            async with asyncio.timeout(60):
                await client(upstream, server)
        finally:
            await upstream.close()
            await server.stop()
        assert server.failures == []

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("engine", ["fast", "httpx"])
@LIMITS
@given(body=pieces, sizes=cuts, framing=st.sampled_from(["length", "chunked", "until-close"]))
def test_any_answer_in_any_segments_arrives_intact(
    engine: str, body: list[bytes], sizes: list[int], framing: str
) -> None:
    """Where a segment or a chunk ends changes nothing about the body."""
    whole = b"".join(body)
    if framing == "length":
        wire = b"Content-Length: %d\r\n\r\n%b" % (len(whole), whole)
    elif framing == "chunked":
        framed = b"".join(b"%X;e=1\r\n%b\r\n" % (len(piece), piece) for piece in body if piece)
        wire = b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\nT: t\r\n\r\n"
    else:
        wire = b"\r\n" + whole

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send_apart(b"HTTP/1.1 200 OK\r\n" + wire, sizes)
        if framing != "until-close":
            await peer.gone()

    async def client(upstream: Upstream, server: ScriptedServer) -> None:
        response = await upstream.send(ask(server.origin()))
        received = [chunk async for chunk in response.chunks()]
        assert all(received)
        assert b"".join(received) == whole
        assert response.is_finished()

    run(engine, script, client)


@pytest.mark.parametrize("engine", ["fast", "httpx"])
@LIMITS
@given(body=pieces, is_streamed=st.booleans())
def test_any_request_body_in_any_pieces_arrives_intact(
    engine: str, body: list[bytes], *, is_streamed: bool
) -> None:
    """And the connection is fit for another request behind it."""
    received: list[bytes] = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            received.append((await peer.request())[1])
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await peer.gone()

    async def source() -> AsyncIterator[bytes]:
        for piece in body:
            yield piece

    async def client(upstream: Upstream, server: ScriptedServer) -> None:
        for _ in range(2):
            response = await upstream.send(
                ask(server.origin(), source() if is_streamed else b"".join(body))
            )
            assert await response.read(0) == b""

    run(engine, script, client)

    assert received == [b"".join(body)] * 2


fragments = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 204 \r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Keep-Alive: timeout=0\r\n",
        b"Keep-Alive: timeout=999999999\r\n",
        b"X: y\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"hello",
        b" ",
        b"\r",
        b"\n",
        b"\0",
    ]
)
nonsense = st.lists(fragments | st.binary(max_size=12), max_size=14).map(b"".join)


@pytest.mark.parametrize("engine", ["fast", "httpx"])
@settings(LIMITS, max_examples=250)
@given(
    answer=nonsense | st.binary(max_size=80) | nonsense.map(b"HTTP/1.1 200 OK\r\n".__add__),
    sizes=cuts,
    method=st.sampled_from([b"POST", b"HEAD"]),
)
def test_no_answer_makes_an_engine_hang_or_raise_what_the_port_does_not_name(
    engine: str, answer: bytes, sizes: list[int], method: bytes
) -> None:
    """Whatever comes, there is an answer or an UpstreamError, twice over."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send_apart(answer, sizes)

    errors: list[UpstreamError] = []

    async def client(upstream: Upstream, server: ScriptedServer) -> None:
        for _ in range(2):
            try:
                response = await upstream.send(ask(server.origin(), method=method))
                await response.read(1_000_000)
            except UpstreamError as error:
                errors.append(error)

    run(engine, script, client)

    assert UpstreamError not in map(type, errors)
