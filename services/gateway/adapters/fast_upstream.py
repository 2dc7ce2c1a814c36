"""The `fast` engine: HTTP/1.1 over asyncio and httptools, for the hot path."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from gateway.adapters.addresses import resolve
from gateway.adapters.fast_connection import FastConnection
from gateway.adapters.fast_pool import IdleConnections, OriginPool
from gateway.adapters.fast_response import FastResponse
from gateway.adapters.request_head import authority, encode_head
from gateway.adapters.tick_clock import TickClock
from gateway.adapters.tls_context import tls_context
from gateway.adapters.upstream_settings import CheckAddress, UpstreamSettings
from gateway.ports import (
    ConnectFailed,
    ConnectTimedOut,
    Origin,
    ResetBeforeResponse,
    UpstreamError,
    UpstreamRequest,
)

_JOINED_BYTES_MAX = 65_536


class FastUpstream:
    """An `Upstream`. Belongs to the event loop it is first used in."""

    def __init__(
        self, settings: UpstreamSettings, check_address: CheckAddress | None = None
    ) -> None:
        self._settings = settings
        self._check_address = check_address
        self._tls = tls_context(settings.ca_file, "http/1.1")
        self._clock = TickClock(settings.tick_s)
        self._pools: dict[Origin, OriginPool] = {}
        self._idle: IdleConnections = {}
        self._is_closed = False

    async def send(self, request: UpstreamRequest) -> FastResponse:
        pool = self._pools.get(request.origin)
        if pool is None:
            pool = self._make_pool(request.origin)
        head = encode_head(request, pool.host_line)
        connection = pool.take() or await pool.open()
        while True:
            is_reused = connection.answers > 0
            response, error = self._begin(connection, request, head)
            if error is None:
                if not isinstance(request.body, bytes):
                    await _send_stream(connection, response, request.body, request.content_length)
                while not response.status and response.error is None:
                    await response.change()
                if response.status:
                    return response
                error = response.error
                assert error is not None
            if not is_reused or not _may_repeat(request, connection, error):
                raise error
            # One stale connection is seldom alone: ask for a new one, so that this ends.
            pool = self._pools.get(request.origin) or self._make_pool(request.origin)
            connection = await pool.open_fresh()

    async def close(self) -> None:
        """Every connection is closed when this returns; requests under way get an error."""
        self._is_closed = True
        for pool in list(self._pools.values()):
            pool.close()
        await self._clock.abort_all()

    def connection_count(self) -> int:
        """Connections whose sockets are open, busy or idle."""
        return self._clock.watched_count()

    def _begin(
        self, connection: FastConnection, request: UpstreamRequest, head: bytes
    ) -> tuple[FastResponse, UpstreamError | None]:
        body = request.body
        response = connection.begin(
            self._clock.ticks(request.read_timeout_s), is_head_request=request.method == b"HEAD"
        )
        if not isinstance(body, bytes):
            is_written = connection.write((head,))
        elif len(body) <= _JOINED_BYTES_MAX:
            is_written = connection.write((head + body,))
        else:
            is_written = connection.write((head, body))
        if is_written:
            if request.trail is not None:
                request.trail.is_sent = True
            return response, None
        connection.abort()
        return response, ConnectFailed("the connection had ended before the request was written")

    def _make_pool(self, origin: Origin) -> OriginPool:
        if self._is_closed:
            raise ConnectFailed("the engine was closed")
        return OriginPool(
            origin,
            b" HTTP/1.1\r\nHost: %b\r\n" % authority(origin),
            self._settings,
            self._clock,
            self._idle,
            self._connect,
            self._enter,
            self._drop_pool,
        )

    def _enter(self, pool: OriginPool) -> None:
        self._pools[pool.origin] = pool

    def _drop_pool(self, pool: OriginPool) -> None:
        if self._pools.get(pool.origin) is pool:
            del self._pools[pool.origin]

    async def _connect(self, pool: OriginPool) -> FastConnection:
        host = pool.origin.host
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                connection = await self._dial(pool)
        except TimeoutError as error:
            raise ConnectTimedOut(f"no connection to {host} in time") from error
        if pool.is_closed:
            connection.abort()
            raise ConnectFailed("the engine was closed")
        return connection

    async def _dial(self, pool: OriginPool) -> FastConnection:
        loop = asyncio.get_running_loop()
        origin = pool.origin
        ends_at = loop.time() + self._settings.connect_timeout_s
        addresses = await resolve(origin.host, origin.port, self._check_address)
        failure: Exception | None = None
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                # A silent address must leave time for the ones behind it.
                async with asyncio.timeout((ends_at - loop.time()) / left):
                    _, connection = await loop.create_connection(
                        lambda: FastConnection(pool, self._clock, self._settings),
                        address,
                        origin.port,
                        ssl=self._tls if origin.scheme == "https" else None,
                        server_hostname=origin.host if origin.scheme == "https" else None,
                    )
                return connection
            except (OSError, ValueError) as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise failure
        raise ConnectFailed(f"no connection to {origin.host}: {failure}") from failure


def _may_repeat(request: UpstreamRequest, connection: FastConnection, error: UpstreamError) -> bool:
    """Whether a request that died with its reused connection is sent once more."""
    if error.sent_nothing:
        return True
    return (
        isinstance(error, ResetBeforeResponse)
        and connection.is_untouched()
        and request.is_repeatable
        and isinstance(request.body, bytes)
    )


async def _send_stream(
    connection: FastConnection,
    response: FastResponse,
    body: AsyncIterator[bytes],
    content_length: int | None,
) -> None:
    """Returns when the body is written whole, or the upstream has answered or gone before that."""
    connection.start_sending()
    pump = asyncio.create_task(
        _pump(connection, body, content_length), name="upstream-request-body"
    )
    pump.add_done_callback(lambda _: response.wake())
    try:
        while not response.status and response.error is None and not pump.done():
            await response.change()
    finally:
        if not pump.done():
            pump.cancel()
            await asyncio.wait([pump])
    failure = None if pump.cancelled() else pump.exception()
    if response.status or response.error is not None:
        connection.give_up_sending()
    elif failure is not None:
        connection.abort()
        raise failure


async def _pump(
    connection: FastConnection, body: AsyncIterator[bytes], content_length: int | None
) -> None:
    left = content_length
    try:
        async for piece in body:
            if not piece:
                continue
            if left is None:
                framed: tuple[bytes, ...] = (b"%x\r\n" % len(piece), piece, b"\r\n")
            else:
                left -= len(piece)
                if left < 0:
                    break
                framed = (piece,)
            if not connection.write(framed):
                return
            await connection.drain()
        if left:
            raise ValueError("the body is not as long as its head said")
        if left == 0 or connection.write((b"0\r\n\r\n",)):
            await connection.drain()
            connection.stop_sending()
    finally:
        if isinstance(body, AsyncGenerator):
            await body.aclose()
