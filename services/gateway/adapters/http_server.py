"""Clients' connections on one inherited listening socket, in this process, until told to stop."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Final

import msgspec

from gateway.adapters.client_connection import ClientConnection, Handler

BACKLOG: Final = 2048
_TICK_S: Final = 0.5
log = logging.getLogger(__name__)


class ServerLimits(msgspec.Struct, frozen=True):
    """What clients are held to; names as in the settings table.

    `head_s` is the time of one request's head, `idle_s` how long a connection is kept that asks for
    nothing.
    """

    head_bytes_max: int
    connections_max: int
    head_s: float
    idle_s: float


class HttpServer:
    """The connections there are, and one clock for all of them instead of a timer apiece."""

    def __init__(self, handler: Handler, limits: ServerLimits) -> None:
        self.handler = handler
        self.head_bytes_max = limits.head_bytes_max
        self.is_closing = False
        self.now = 0.0
        self.date_line = b""
        self._limits = limits
        self._connections: set[ClientConnection] = set()
        self._is_empty = asyncio.Event()

    def connection(self) -> ClientConnection:
        """For a client that has just come."""
        limits = self._limits
        return ClientConnection(self, head_s=limits.head_s, idle_s=limits.idle_s)

    def enter(self, connection: ClientConnection) -> bool:
        """Whether there is room for one more."""
        if self.is_closing or len(self._connections) >= self._limits.connections_max:
            return False
        self._connections.add(connection)
        return True

    def leave(self, connection: ClientConnection) -> None:
        """It is closed."""
        self._connections.discard(connection)
        if self.is_closing and not self._connections:
            self._is_empty.set()

    def tick(self) -> None:
        """Looks at the clock, and ends what takes too long."""
        now = self.now = asyncio.get_running_loop().time()
        self.date_line = b"date: %b" % formatdate(time.time(), usegmt=True).encode()
        late = [one for one in self._connections if one.deadline is not None and one.deadline < now]
        for connection in late:
            connection.expire()

    def finish(self) -> None:
        """From now on an answer is the last of its connection, and idle ones close."""
        self.is_closing = True
        for connection in tuple(self._connections):
            connection.finish()

    async def wait_closed(self, seconds: float) -> None:
        """Until every connection is closed, or so long; what is left then is cut."""
        if self._connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._is_empty.wait()
        for connection in tuple(self._connections):
            connection.abort()

    async def run(self) -> None:
        """Ticks until cancelled."""
        while True:
            try:
                self.tick()
            except Exception:
                # Without a clock nobody would ever be cut off again.
                log.exception("clients.tick_failed")
            await asyncio.sleep(_TICK_S)


async def serve(
    handler: Handler,
    listener: socket.socket,
    stop: asyncio.Event,
    limits: ServerLimits,
    drain: Callable[[], Awaitable[object]],
    end_s: float = 5.0,
) -> None:
    """Serves until `stop` is set, then closes `listener`, awaits `drain`, and returns.

    `drain` ends the requests under way in time; what is left of their answers has `end_s` more.
    """
    house = HttpServer(handler, limits)
    house.tick()
    ticking = asyncio.create_task(house.run(), name="serve.tick")
    server = await asyncio.get_running_loop().create_server(
        house.connection, sock=listener, backlog=BACKLOG
    )
    try:
        await stop.wait()
        server.close()
        house.finish()
        await drain()
        await house.wait_closed(end_s)
    finally:
        server.close()
        ticking.cancel()
