"""Plays rows through a gateway over a fixed number of connections."""

import asyncio
import time
from collections import deque
from typing import Final
from urllib.parse import urlsplit

import msgspec

from infra.cli.trace.account import Account
from infra.cli.trace.client import Connection, connect
from infra.cli.trace.rows import Row

REQUEST_TIMEOUT_S: Final = 60.0
RECONNECT_PAUSE_S: Final = 0.1
RECONNECTS_FAILED_MAX: Final = 50
_SWEEP_S: Final = 1.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where, as whom and how fast. `speed` None is as fast as it goes, else the trace's pace
    times so much. `run` marks the custom ids of this replay.
    """

    url: str
    key: str
    concurrency: int
    speed: float | None
    run: str


class Player:
    """One replay. `account` is right at any moment."""

    def __init__(self, plan: Plan, rows: list[Row]) -> None:
        self._plan = plan
        self._due: deque[Row] = deque()
        self._rows = rows
        self._idle: list[Connection] = []
        self._row_by_connection: dict[Connection, Row] = {}
        self._done = asyncio.Event()
        self._reconnects: set[asyncio.Task[None]] = set()
        self._reconnects_failed = 0
        self._feeding: asyncio.Future[None] | None = None
        self.account = Account()
        parts = urlsplit(plan.url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
            f"authorization: Bearer {plan.key}\r\ncontent-type: application/json\r\n"
        ).encode()

    async def play(self) -> None:
        """Until every row has an answer or has failed. Raises OSError when nobody listens."""
        if not self._rows:
            return
        width = min(self._plan.concurrency, len(self._rows))
        for _ in range(width):
            self._idle.append(await self._connect())
        sweeping = asyncio.ensure_future(self._sweep())
        self._feeding = asyncio.ensure_future(self._feed())
        try:
            await self._done.wait()
        finally:
            tasks = (sweeping, self._feeding, *self._reconnects)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for connection in [*self._idle, *self._row_by_connection]:
                connection.close()
            # The sockets are closed by callbacks of the next turns.
            await asyncio.sleep(0.01)

    async def _connect(self) -> Connection:
        return await connect(self._host, self._port, self._on_answer, self._on_failure)

    async def _feed(self) -> None:
        """Make rows due: all at once, or by the clock."""
        speed = self._plan.speed
        if speed is None:
            self._due.extend(self._rows)
            self._kick()
            return
        loop = asyncio.get_running_loop()
        began, first = loop.time(), self._rows[0].at_s
        for row in self._rows:
            wait = began + (row.at_s - first) / speed - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            self._due.append(row)
            self._kick()

    def _kick(self) -> None:
        while self._due and self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                self._send(connection, self._due.popleft())
            else:
                self._replace()

    def _send(self, connection: Connection, row: Row) -> None:
        self._row_by_connection[connection] = row
        connection.sent_at = time.perf_counter()
        self.account.sent(row)
        connection.send(self._request(row))

    def _request(self, row: Row) -> bytes:
        body = (
            f'{{"model":"{row.model}","messages":[{{"role":"user",'
            f'"content":"request {row.number} of {row.file}"}}]}}'
        ).encode()
        head = (
            f"x-custom-event-id: {self._plan.run}/{row.file}/{row.number}\r\n"
            f"x-demo-usage: prompt={row.prompt_tokens},completion={row.completion_tokens}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode()
        return self._head + head + body

    def _on_answer(self, connection: Connection, status: int, body: bytes) -> None:
        row = self._row_by_connection.pop(connection)
        latency_ms = (time.perf_counter() - connection.sent_at) * 1e3
        self.account.answered(row, status, body, latency_ms)
        self._free(connection)

    def _on_failure(self, connection: Connection, reason: str) -> None:
        self._row_by_connection.pop(connection)
        self.account.failed(reason)
        self._free(connection)

    def _free(self, connection: Connection) -> None:
        if self.account.done >= len(self._rows):
            self._done.set()
            self._idle.append(connection)
        elif not connection.is_usable:
            self._replace()
        elif self._due:
            self._send(connection, self._due.popleft())
        else:
            self._idle.append(connection)

    def _replace(self) -> None:
        task = asyncio.ensure_future(self._reconnect())
        self._reconnects.add(task)
        task.add_done_callback(self._reconnects.discard)

    async def _reconnect(self) -> None:
        while True:
            try:
                self._idle.append(await self._connect())
            except (OSError, TimeoutError) as error:
                self._reconnects_failed += 1
                if self._reconnects_failed >= RECONNECTS_FAILED_MAX:
                    self._give_up(f"the gateway is gone: {error}")
                    return
                await asyncio.sleep(RECONNECT_PAUSE_S)
            else:
                self._reconnects_failed = 0
                self._kick()
                return

    def _give_up(self, reason: str) -> None:
        """What was never sent has failed too: the account covers every row."""
        left = len(self._rows) - self.account.done - len(self._row_by_connection)
        self._due.clear()
        if self._feeding is not None:
            self._feeding.cancel()
        for _ in range(left):
            self.account.failed(reason)
        if self.account.done >= len(self._rows):
            self._done.set()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            oldest = time.perf_counter() - REQUEST_TIMEOUT_S
            for connection in list(self._row_by_connection):
                if connection.sent_at < oldest:
                    connection.fail(f"no answer within {REQUEST_TIMEOUT_S:g} s")
