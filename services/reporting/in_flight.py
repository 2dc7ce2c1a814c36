"""Counts the requests under way, so that stopping can wait for them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class InFlight:
    """An ASGI app around another."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._requests = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        self._requests += 1
        self._is_idle.clear()
        try:
            await self._app(scope, receive, send)
        finally:
            self._requests -= 1
            if self._requests == 0:
                self._is_idle.set()

    async def drain(self, timeout_s: float) -> int:
        """Waits until nothing is under way; how many requests still are when time is up."""
        try:
            await asyncio.wait_for(self._is_idle.wait(), timeout_s)
        except TimeoutError:
            pass
        return self._requests
