"""The `httpx` engine: HTTP/2 and outbound proxies, for everything off the hot path."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx

from gateway.adapters.addresses import check_unresolved, resolve
from gateway.adapters.httpx_errors import upstream_error
from gateway.adapters.request_head import authority, check_head, framing
from gateway.adapters.tls_context import tls_context
from gateway.adapters.upstream_settings import CheckAddress, UpstreamSettings, needs_proxy
from gateway.ports import (
    ConnectFailed,
    ConnectTimedOut,
    HeaderPairs,
    MalformedResponse,
    Origin,
    ResponseTooLarge,
    UpstreamRequest,
)

_ORIGINS_MAX = 256
_VERSIONS = (b"HTTP/1.1", b"HTTP/2", b"HTTP/1.0")
_SENDING = "send_request_headers.started"
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search


class HttpxUpstream:
    """An `Upstream` over httpx's transports.

    The client class above them is left out: it would add headers, keep cookies and log addresses.
    Every origin has a transport of its own, so that a connection opened to a checked address is
    only ever used for the name whose certificate was verified on it.

    A connection is kept for nobody: httpcore would hand bytes that trail one answer to the request
    after it, which may be another tenant's. Over HTTP/2, whose streams say what belongs to whom,
    requests share a connection while they overlap.
    """

    def __init__(
        self, settings: UpstreamSettings, check_address: CheckAddress | None = None
    ) -> None:
        self._settings = settings
        self._check_address = check_address
        self._tls = tls_context(settings.ca_file, "h2", "http/1.1")
        self._transports: dict[Origin, httpx.AsyncHTTPTransport] = {}
        self._busy: dict[httpx.AsyncHTTPTransport, int] = {}
        self._is_closed = False

    async def send(self, request: UpstreamRequest) -> "HttpxResponse":
        check_head(request)
        transport = await self._transport(request.origin)
        self._busy[transport] = self._busy.get(transport, 0) + 1
        try:
            response = await transport.handle_async_request(await self._translate(request))
        except httpx.HTTPError as error:
            self.leave(transport)
            raise upstream_error(error, has_head=False) from error
        except BaseException:
            self.leave(transport)
            raise
        answer = HttpxResponse(response, self, transport)
        try:
            answer.check(self._settings.head_bytes_max)
        except BaseException:
            await answer.close()
            raise
        return answer

    async def close(self) -> None:
        self._is_closed = True
        transports = list(self._transports.values())
        self._transports.clear()
        for transport in transports:
            await transport.aclose()

    def leave(self, transport: httpx.AsyncHTTPTransport) -> None:
        """An answer is done with its transport."""
        left = self._busy.pop(transport, 1) - 1
        if left:
            self._busy[transport] = left

    async def _translate(self, request: UpstreamRequest) -> httpx.Request:
        origin = request.origin
        settings = self._settings
        extensions: dict[str, Any] = {
            "timeout": {
                "connect": settings.connect_timeout_s,
                "pool": settings.pool_timeout_s,
                "write": settings.write_timeout_s,
                "read": request.read_timeout_s,
            },
        }
        trail = request.trail
        if trail is not None:

            async def mark(step: str, _: object) -> None:
                trail.is_sent = trail.is_sent or step.endswith(_SENDING)

            extensions["trace"] = mark
        host = origin.host
        if self._check_address is not None and needs_proxy(settings, origin):
            # Names are the proxy's to resolve.
            check_unresolved(host, origin.port, self._check_address)
        elif self._check_address is not None:
            try:
                async with asyncio.timeout(settings.connect_timeout_s):
                    addresses = await resolve(host, origin.port, self._check_address)
            except TimeoutError as error:
                raise ConnectTimedOut(f"name {host!r} was not resolved in time") from error
            extensions["sni_hostname"] = host
            host = addresses[0]
        body = request.body
        translated = httpx.Request(
            request.method.decode("ascii"),
            httpx.URL(scheme=origin.scheme, host=host, port=origin.port, path="/"),
            headers=[(b"Host", authority(origin)), *request.headers, *framing(request)],
            stream=httpx.ByteStream(body)
            if isinstance(body, bytes)
            else _Pieces(body, request.content_length),
            extensions=extensions,
        )
        translated.url = _RawUrl(translated.url, request.target)
        return translated

    async def _transport(self, origin: Origin) -> httpx.AsyncHTTPTransport:
        if self._is_closed:
            raise ConnectFailed("the engine was closed")
        transport = self._transports.pop(origin, None)
        surplus = None
        if transport is None:
            transport = self._open(origin)
            if len(self._transports) >= _ORIGINS_MAX:
                surplus = next(
                    (o for o, t in self._transports.items() if t not in self._busy), None
                )
        # Put back at the end: the first one is the one that was used least lately.
        self._transports[origin] = transport
        if surplus is not None:
            await self._transports.pop(surplus).aclose()
        return transport

    def _open(self, origin: Origin) -> httpx.AsyncHTTPTransport:
        settings = self._settings
        return httpx.AsyncHTTPTransport(
            verify=self._tls,
            http2=True,
            trust_env=False,
            proxy=settings.proxy_url if needs_proxy(settings, origin) else None,
            limits=httpx.Limits(
                max_connections=settings.connections_per_origin_max, max_keepalive_connections=0
            ),
        )


class HttpxResponse:
    """An answer of httpx, undecoded."""

    def __init__(
        self,
        response: httpx.Response,
        engine: HttpxUpstream,
        transport: httpx.AsyncHTTPTransport,
    ) -> None:
        self.status = response.status_code
        self.headers: HeaderPairs = response.headers.raw
        self._version = response.extensions.get("http_version")
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self._stream = response.stream
        self._engine = engine
        self._transport = transport
        self._is_whole = False
        self._is_closed = False

    def check(self, head_bytes_max: int) -> None:
        """Raises what the other engine's parser finds by itself."""
        if self._version not in _VERSIONS:
            raise MalformedResponse(f"version {self._version!r} was not asked for")
        if self.status < 200:
            raise MalformedResponse(f"status {self.status} answers no request of ours")
        if sum(len(name) + len(value) + 4 for name, value in self.headers) > head_bytes_max:
            raise ResponseTooLarge("the head is too long")
        if any(_CONTROL(value) for _, value in self.headers):
            raise MalformedResponse("a header value holds a control character")
        names = {name.lower() for name, _ in self.headers}
        if b"content-length" in names and b"transfer-encoding" in names:
            raise MalformedResponse("both Content-Length and Transfer-Encoding")

    def is_finished(self) -> bool:
        return self._is_whole

    async def read(self, bytes_max: int) -> bytes:
        pieces = []
        total_bytes = 0
        async with aclosing(self.chunks()) as chunks:
            async for piece in chunks:
                total_bytes += len(piece)
                if total_bytes > bytes_max:
                    raise ResponseTooLarge(f"the body is longer than {bytes_max} bytes")
                pieces.append(piece)
        return b"".join(pieces)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in self._stream:
                if piece:
                    yield piece
            self._is_whole = True
        except httpx.HTTPError as error:
            raise upstream_error(error, has_head=True) from error
        finally:
            await self.close()

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._engine.leave(self._transport)
        await self._stream.aclose()


class _RawUrl(httpx.URL):
    """An address whose path and query go out as they came in, where httpx would tidy them up.

    The transport's own way to say so is a request extension, which the requests that open a proxy
    tunnel inherit.
    """

    def __init__(self, url: httpx.URL, target: bytes) -> None:
        super().__init__(url)
        self._target = target

    @property
    def raw_path(self) -> bytes:
        return self._target


class _Pieces(httpx.AsyncByteStream):
    """A request body that comes piece by piece."""

    def __init__(self, body: AsyncIterator[bytes], content_length: int | None) -> None:
        self._body = body
        self._left = content_length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._body:
            if not piece:
                continue
            if self._left is not None:
                self._left -= len(piece)
                if self._left < 0:
                    break
            yield piece
        if self._left:
            raise ValueError("the body is not as long as its head said")

    async def aclose(self) -> None:
        return None
