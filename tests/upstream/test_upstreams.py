"""Which engine serves which origin, proxies, and how httpx's errors become the port's."""

import inspect

import httpx
import pytest
from upstream.conftest import Serve, ask
from upstream.scripted_server import Peer, answering, plain

from gateway.adapters.fast_upstream import FastUpstream
from gateway.adapters.httpx_errors import BEFORE_HEAD_AND_IN_BODY, MISUSES, upstream_error
from gateway.adapters.httpx_upstream import HttpxUpstream
from gateway.adapters.upstream_settings import UpstreamSettings, needs_proxy
from gateway.adapters.upstreams import open_upstream
from gateway.ports import ConnectFailed, Origin, ResetBeforeResponse, ResponseCut, UpstreamError


async def test_the_engine_is_chosen_by_name_and_by_proxy() -> None:
    """auto is fast unless a proxy is configured; fast cannot use one and says so."""
    plain_settings = UpstreamSettings()
    proxied = UpstreamSettings(proxy_url="http://127.0.0.1:9")
    opened = [
        open_upstream("auto", plain_settings),
        open_upstream("fast", plain_settings),
        open_upstream("httpx", plain_settings),
        open_upstream("httpx", proxied),
        open_upstream("auto", proxied),
    ]
    for upstream in opened:
        await upstream.close()

    assert [type(upstream) for upstream in opened[:4]] == [
        FastUpstream,
        FastUpstream,
        HttpxUpstream,
        HttpxUpstream,
    ]
    with pytest.raises(ValueError, match="proxy"):
        open_upstream("fast", proxied)


@pytest.mark.parametrize(
    ("host", "is_proxied"),
    [
        ("api.example", True),
        ("vllm.house.example", False),
        ("house.example", False),
        ("HOUSE.example", False),
        ("nothouse.example", True),
        ("127.0.0.1", False),
    ],
)
def test_hosts_can_be_exempt_from_the_proxy(host: str, is_proxied: bool) -> None:
    """A name covers itself and its subdomains, not names that end alike."""
    settings = UpstreamSettings(
        proxy_url="http://proxy:3128", proxy_exempt_hosts=(".house.example", "127.0.0.1")
    )

    assert needs_proxy(settings, Origin("https", host, 443)) is is_proxied
    assert not needs_proxy(UpstreamSettings(), Origin("https", host, 443))


async def test_auto_sends_through_the_proxy_what_is_not_exempt(serve: Serve) -> None:
    """The proxy sees the whole address, on a connection for each request.

    What comes after an answer is nobody's. An exempt origin is asked directly.
    """
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append((await peer.request())[0])
        await peer.send(plain(b"through the proxy") + plain(b"not asked for"))
        await peer.gone()

    proxy = await serve(script)
    direct = await serve(answering(plain(b"directly")))
    upstream = open_upstream(
        "auto",
        UpstreamSettings(
            proxy_url=f"http://127.0.0.1:{proxy.port}", proxy_exempt_hosts=("127.0.0.1",)
        ),
    )
    far_bodies = []
    try:
        for _ in range(2):
            far = await upstream.send(ask(Origin("http", "far.invalid", 80), target=b"/x?y=[z]"))
            far_bodies.append(await far.read(100))
        near = await upstream.send(ask(direct.origin()))
        near_body = await near.read(100)
    finally:
        await upstream.close()

    assert far_bodies == [b"through the proxy"] * 2
    assert proxy.connection_count == 2
    assert near_body == b"directly"
    assert heads[0].startswith(b"POST http://far.invalid/x?y=[z] HTTP/1.1\r\n")


async def test_a_tls_origin_is_tunnelled_and_a_refusal_is_no_connection(serve: Serve) -> None:
    """The proxy is asked for a tunnel; when it says no, nothing was sent."""
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await peer.gone()

    proxy = await serve(script)
    upstream = open_upstream("auto", UpstreamSettings(proxy_url=f"http://127.0.0.1:{proxy.port}"))
    try:
        with pytest.raises(ConnectFailed) as caught:
            await upstream.send(ask(Origin("https", "far.invalid", 443)))
    finally:
        await upstream.close()

    assert caught.value.sent_nothing
    assert heads[0].startswith(b"CONNECT far.invalid:443 HTTP/1.1\r\n")


def _httpx_exceptions() -> list[type[Exception]]:
    return [
        member
        for member in vars(httpx).values()
        if inspect.isclass(member) and issubclass(member, Exception)
    ]


def test_every_exception_of_httpx_has_a_place() -> None:
    """A new one, after an update, fails here and not at night."""
    placed = BEFORE_HEAD_AND_IN_BODY.keys() | MISUSES

    assert set(_httpx_exceptions()) == placed
    assert not BEFORE_HEAD_AND_IN_BODY.keys() & MISUSES


@pytest.mark.parametrize("kind", BEFORE_HEAD_AND_IN_BODY, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("has_head", [False, True], ids=["before-head", "in-body"])
def test_a_timeout_stays_a_timeout_and_the_place_decides_the_rest(
    kind: type[httpx.HTTPError], has_head: bool
) -> None:
    """Every mapped error is one of the port's own kinds, never the bare one."""
    error = upstream_error(kind("text"), has_head=has_head)

    assert type(error) is not UpstreamError
    assert error.is_timeout is issubclass(kind, httpx.TimeoutException)
    assert not (has_head and isinstance(error, ResetBeforeResponse))
    assert not (not has_head and isinstance(error, ResponseCut))
