"""What every upstream engine does over TLS, against a server with a certificate of a test CA."""

import asyncio
import ssl

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from upstream.conftest import OpenEngine, Serve, TestCa, ask
from upstream.scripted_server import Peer, answering, chunked, plain

from gateway.adapters.upstream_settings import UpstreamSettings
from gateway.adapters.upstreams import open_upstream
from gateway.ports import ConnectFailed, ResponseCut


@pytest.fixture
def ca_settings(test_ca: TestCa) -> dict[str, str]:
    """Trust the test CA."""
    return {"ca_file": str(test_ca.ca_file)}


async def test_an_exchange_over_tls_with_verified_name_and_sni(
    serve: Serve, open_engine: OpenEngine, test_ca: TestCa, ca_settings: dict[str, str], engine: str
) -> None:
    """The name is verified and sent as SNI, even when the address was checked before."""
    names: list[str | None] = []
    context = test_ca.server("good", ["http/1.1"])
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    seen: list[str] = []

    def allow(address: str, port: int) -> None:
        seen.append(address)
        if address != "127.0.0.1":
            raise ValueError("the server is not there")

    second_answer = chunked(b"a", b"b")
    server = await serve(
        answering(plain(b"x" * 300_000), second_answer), answering(second_answer), tls=context
    )
    upstream = open_engine(check_address=allow, **ca_settings)
    first = await upstream.send(ask(server.origin("localhost"), b"q" * 300_000))
    first_body = await first.read(1_000_000)
    second = await upstream.send(ask(server.origin("localhost")))

    assert first_body == b"x" * 300_000
    assert await second.read(100) == b"ab"
    # httpx has a new connection for each request.
    assert server.connection_count == (1 if engine == "fast" else 2)
    assert set(names) == {"localhost"}
    assert "127.0.0.1" in seen


async def test_an_address_in_the_certificate_is_verified_too(
    serve: Serve, open_engine: OpenEngine, test_ca: TestCa, ca_settings: dict[str, str]
) -> None:
    """Providers in the house are often reached by address."""
    server = await serve(answering(plain(b"ok")), tls=test_ca.server("good", ["http/1.1"]))
    upstream = open_engine(**ca_settings)
    response = await upstream.send(ask(server.origin()))

    assert await response.read(10) == b"ok"


@pytest.mark.parametrize("fault", ["unknown-authority", "other-name", "expired"])
async def test_a_certificate_that_does_not_verify_is_refused(
    fault: str,
    serve: Serve,
    open_engine: OpenEngine,
    test_ca: TestCa,
    ca_settings: dict[str, str],
) -> None:
    """Nothing is sent to a server that cannot prove its name."""
    name = "good" if fault == "unknown-authority" else fault
    settings = {} if fault == "unknown-authority" else ca_settings
    server = await serve(answering(plain(b"ok")), tls=test_ca.server(name, ["http/1.1"]))
    upstream = open_engine(**settings)
    with pytest.raises(ConnectFailed) as caught:
        await upstream.send(ask(server.origin("localhost")))

    assert caught.value.sent_nothing


async def test_a_server_without_tls_is_refused(
    serve: Serve, open_engine: OpenEngine, ca_settings: dict[str, str]
) -> None:
    """An origin that says https is not asked in the clear."""

    async def script(peer: Peer) -> None:
        await peer.reader.read(10)
        await peer.send(plain(b"in the clear"))

    server = await serve(script)
    upstream = open_engine(**ca_settings)
    origin = server.origin("localhost")
    with pytest.raises(ConnectFailed):
        await upstream.send(ask(type(origin)("https", "localhost", origin.port)))


async def test_an_old_protocol_is_refused(
    serve: Serve, open_engine: OpenEngine, test_ca: TestCa, ca_settings: dict[str, str]
) -> None:
    """TLS 1.2 is the least."""
    context = test_ca.server("good", ["http/1.1"])
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    server = await serve(answering(plain(b"ok")), tls=context)
    upstream = open_engine(**ca_settings)
    with pytest.raises(ConnectFailed):
        await upstream.send(ask(server.origin("localhost")))


@pytest.mark.parametrize("is_clean", [True, False], ids=["close-notify", "cut"])
async def test_only_a_proper_end_of_tls_ends_a_body_without_length(
    is_clean: bool,
    serve: Serve,
    open_engine: OpenEngine,
    test_ca: TestCa,
    ca_settings: dict[str, str],
    engine: str,
) -> None:
    """Whoever cuts the wire cannot make half an answer look whole."""
    if engine == "httpx" and not is_clean:
        pytest.skip("anyio takes any end of a TLS connection for its end")

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await asyncio.sleep(0.05)
        if is_clean:
            peer.writer.close()
        else:
            # Below TLS, so that no close_notify is sent; a FIN, because nothing is left unread.
            peer.writer.transport.abort()

    server = await serve(script, tls=test_ca.server("good", ["http/1.1"]))
    upstream = open_engine(**ca_settings)
    response = await upstream.send(ask(server.origin("localhost")))
    if is_clean:
        assert await response.read(100) == b"half"
    else:
        with pytest.raises(ResponseCut):
            await response.read(100)


async def test_a_slow_reader_stops_a_tls_server(
    serve: Serve, open_engine: OpenEngine, test_ca: TestCa, ca_settings: dict[str, str]
) -> None:
    """Back-pressure passes through TLS."""
    sent_bytes = 0
    total_bytes = 30_000_000

    async def script(peer: Peer) -> None:
        nonlocal sent_bytes
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total_bytes)
        while sent_bytes < total_bytes:
            await peer.send(b"x" * 100_000)
            sent_bytes += 100_000
        await peer.gone()

    server = await serve(script, tls=test_ca.server("good", ["http/1.1"]))
    upstream = open_engine(read_buffer_bytes=100_000, **ca_settings)
    response = await upstream.send(ask(server.origin("localhost"), read_timeout_s=1.0))
    chunks = response.chunks()
    received_bytes = len(await anext(chunks))
    await asyncio.sleep(1.3)
    sent_while_stalled_bytes = sent_bytes
    async for chunk in chunks:
        received_bytes += len(chunk)

    assert sent_while_stalled_bytes < 20_000_000
    assert received_bytes == total_bytes


async def test_the_fast_engine_offers_only_http_1_1_and_httpx_prefers_2(
    serve: Serve, open_engine: OpenEngine, test_ca: TestCa, ca_settings: dict[str, str], engine: str
) -> None:
    """By ALPN, so that a server knows before the first byte."""
    chosen: list[str | None] = []

    async def script(peer: Peer) -> None:
        protocol = peer.writer.get_extra_info("ssl_object").selected_alpn_protocol()
        chosen.append(protocol)
        if protocol == "h2":
            await _serve_http2(peer)
        else:
            await answering(plain(b"ok"))(peer)

    server = await serve(script, tls=test_ca.server("good", ["h2", "http/1.1"]))
    upstream = open_engine(**ca_settings)
    response = await upstream.send(
        ask(server.origin("localhost"), b"ok", target=b"/v1/x?y=[z]", headers=[(b"X-A", b"b")])
    )

    assert response.status == 200
    assert await response.read(10) == b"ok"
    assert chosen == ["http/1.1" if engine == "fast" else "h2"]


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
async def test_requests_at_once_over_tls_all_get_their_own_answer(
    protocol: str,
    serve: Serve,
    open_engine: OpenEngine,
    test_ca: TestCa,
    ca_settings: dict[str, str],
) -> None:
    """Whether they share connections or not, and more of them than there may be connections."""

    async def script(peer: Peer) -> None:
        if peer.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            await _serve_http2(peer)
        while True:
            _, body = await peer.request()
            await peer.send(plain(body))

    server = await serve(script, tls=test_ca.server("good", [protocol]))
    upstream = open_engine(connections_per_origin_max=3, **ca_settings)

    async def one(body: bytes) -> bytes:
        request = ask(
            server.origin("localhost"), body, target=b"/v1/x?y=[z]", headers=[(b"X-A", b"b")]
        )
        return await (await upstream.send(request)).read(10)

    bodies = [b"%d" % number for number in range(20)]

    assert await asyncio.gather(*map(one, bodies)) == bodies


async def test_each_request_has_a_tunnel_of_its_own_through_a_proxy(
    serve: Serve, test_ca: TestCa, ca_settings: dict[str, str]
) -> None:
    """What an origin sends after its answer reaches no other request."""
    tunnels: list[bytes] = []

    async def relay(peer: Peer) -> None:
        tunnels.append(await peer.head())
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        up = asyncio.create_task(_copy(peer.reader, writer))
        await _copy(reader, peer.writer)
        await up

    server = await serve(
        answering(plain(b"first") + plain(b"not asked for")),
        answering(plain(b"second")),
        tls=test_ca.server("good", ["http/1.1"]),
    )
    proxy = await serve(relay)
    settings = UpstreamSettings(proxy_url=f"http://127.0.0.1:{proxy.port}", **ca_settings)
    upstream = open_upstream("auto", settings)
    bodies = []
    try:
        for _ in range(2):
            response = await upstream.send(ask(server.origin("localhost")))
            bodies.append(await response.read(100))
    finally:
        await upstream.close()

    assert bodies == [b"first", b"second"]
    assert [head.split(b"\r\n")[0] for head in tunnels] == [
        b"CONNECT localhost:%d HTTP/1.1" % server.port
    ] * 2


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _serve_http2(peer: Peer) -> None:
    connection = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    connection.initiate_connection()
    await peer.send(connection.data_to_send())
    bodies: dict[int, bytes] = {}
    while data := await peer.reader.read(65_536):
        for event in connection.receive_data(data):
            if isinstance(event, RequestReceived):
                headers = dict(event.headers)
                assert headers[b":path"] == b"/v1/x?y=[z]"
                assert headers[b"x-a"] == b"b"
                assert headers[b":authority"].startswith(b"localhost:")
            elif isinstance(event, DataReceived):
                bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
            elif isinstance(event, StreamEnded):
                connection.send_headers(event.stream_id, [(b":status", b"200")])
                body = bodies.pop(event.stream_id)
                connection.send_data(event.stream_id, body, end_stream=True)
        await peer.send(connection.data_to_send())
