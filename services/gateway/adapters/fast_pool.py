"""The connections to one origin: taken last in first out, counted, waited for in order."""

import asyncio
import contextlib
import math
import select
from collections import deque
from collections.abc import Awaitable, Callable

from gateway.adapters.fast_connection import FastConnection
from gateway.adapters.tick_clock import TickClock
from gateway.adapters.upstream_settings import UpstreamSettings
from gateway.ports import ConnectFailed, Origin, PoolTimedOut

IdleConnections = dict[FastConnection, None]


class OriginPool:
    """A slot is a connection, or the right to open one. `slots_taken` never exceeds its limit.

    `idle_everywhere` holds the idle connections of all pools, the longest idle first, so that
    their number can be bounded by closing the one that is least likely to be missed.
    """

    def __init__(
        self,
        origin: Origin,
        host_line: bytes,
        settings: UpstreamSettings,
        clock: TickClock,
        idle_everywhere: IdleConnections,
        connect: Callable[["OriginPool"], Awaitable[FastConnection]],
        on_first: Callable[["OriginPool"], None],
        on_empty: Callable[["OriginPool"], None],
    ) -> None:
        self.origin = origin
        self.host_line = host_line
        self.slots_taken = 0
        self.is_closed = False
        self._settings = settings
        self._clock = clock
        self._members: set[FastConnection] = set()
        self._idle: IdleConnections = {}
        self._idle_everywhere = idle_everywhere
        self._waiters: deque[asyncio.Future[FastConnection | None]] = deque()
        self._connect = connect
        self._on_first = on_first
        self._on_empty = on_empty
        self._check_after_ticks = math.ceil(settings.idle_check_after_s / settings.tick_s)

    def take(self) -> FastConnection | None:
        """The connection that was used last, if one is idle."""
        while self._idle:
            connection, _ = self._idle.popitem()
            del self._idle_everywhere[connection]
            idle_ticks = self._clock.tick - connection.idle_since_tick
            if idle_ticks < self._check_after_ticks or _is_quiet(connection):
                return connection
            connection.abort()
        return None

    async def open(self) -> FastConnection:
        """A connection when none was idle: a new one, or the next that comes free.

        Raises PoolTimedOut, ConnectFailed, ConnectTimedOut.
        """
        while True:
            if self.slots_taken < self._settings.connections_per_origin_max:
                self.slots_taken += 1
                if self.slots_taken == 1:
                    self._on_first(self)
            else:
                connection = await self._wait()
                if connection is not None:
                    if connection.is_closed:
                        continue
                    return connection
            try:
                connection = await self._connect(self)
            except BaseException:
                self._give_slot()
                raise
            if connection.is_closed:
                self._give_slot()
                raise ConnectFailed(f"{self.origin.host} closed the connection at once")
            # Not before: of a connect that was given up, no end is ever told.
            self._members.add(connection)
            self._clock.watch(connection)
            return connection

    async def open_fresh(self) -> FastConnection:
        """A new connection, in the place of an idle one if there are too many."""
        if self.slots_taken >= self._settings.connections_per_origin_max and self._idle:
            next(iter(self._idle)).abort()
        return await self.open()

    def release(self, connection: FastConnection) -> None:
        connection.idle_since_tick = self._clock.tick
        connection.deadline_tick = self._clock.tick + connection.idle_ticks_max()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle[connection] = None
        self._idle_everywhere[connection] = None
        if len(self._idle_everywhere) > self._settings.idle_connections_max:
            next(iter(self._idle_everywhere)).abort()

    def forget(self, connection: FastConnection) -> None:
        if connection not in self._members:
            return  # Its connect was given up; whoever waited for it gives the slot back.
        self._members.remove(connection)
        if self._idle.pop(connection, connection) is None:
            del self._idle_everywhere[connection]
        self._give_slot()

    def close(self) -> None:
        """No one is served any more. Open connections are the engine's to close."""
        self.is_closed = True
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(ConnectFailed("the engine was closed"))

    async def _wait(self) -> FastConnection | None:
        waiter: asyncio.Future[FastConnection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self._settings.pool_timeout_s):
                return await waiter
        except BaseException as error:
            # What was handed over in the same moment goes to the next in line.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                connection = waiter.result()
                if connection is None:
                    self._give_slot()
                elif not connection.is_closed:
                    self.release(connection)
            else:
                with contextlib.suppress(ValueError):
                    self._waiters.remove(waiter)
            if isinstance(error, TimeoutError):
                raise PoolTimedOut(
                    f"{self.slots_taken} connections to {self.origin.host} stayed busy"
                ) from error
            raise

    def _give_slot(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.slots_taken -= 1
        if not self.slots_taken:
            self._on_empty(self)


def _is_quiet(connection: FastConnection) -> bool:
    """Whether nothing has come in on an idle connection that the loop has not yet looked at.

    What can come is its end, and finding that here is what saves a request that may not be sent
    twice. The question is a system call, so connections in lively use are not asked.
    """
    transport = connection.transport
    if transport is None or transport.is_closing():
        return False
    descriptor = transport.get_extra_info("socket").fileno()
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP | select.POLLERR)
    return not poll.poll(0)
