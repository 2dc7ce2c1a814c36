"""The answer of the fast engine: filled by its connection, emptied by its reader."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol

from gateway.ports import HeaderPairs, ResponseCut, ResponseTooLarge, UpstreamError


class Source(Protocol):
    """The connection, as the answer sees it."""

    def resume(self) -> None:
        """Read on, after the buffer was full."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class FastResponse:
    """One answer. `status` is 0 until the final head is whole.

    The connection appends to `parts`, sets `is_whole` or `error`, and wakes `waiter`. Once the
    answer is whole the connection has left it and may serve another.
    """

    __slots__ = (
        "buffered_bytes",
        "error",
        "headers",
        "is_paused",
        "is_whole",
        "parts",
        "source",
        "status",
        "waiter",
    )

    def __init__(self, source: Source) -> None:
        self.status = 0
        self.headers: HeaderPairs = []
        self.parts: list[bytes] = []
        self.buffered_bytes = 0
        self.is_paused = False
        self.is_whole = False
        self.error: UpstreamError | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.source: Source | None = source

    def is_finished(self) -> bool:
        return self.is_whole

    def wake(self) -> None:
        """Let the reader look again."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def change(self) -> None:
        """Wait until the connection has something to say. Cancelling closes it."""
        self.waiter = waiter = asyncio.get_running_loop().create_future()
        try:
            await waiter
        except asyncio.CancelledError:
            self.abandon()
            raise

    def take(self) -> list[bytes]:
        """What has queued."""
        parts = self.parts
        self.parts = []
        self.buffered_bytes = 0
        if self.is_paused and self.source is not None:
            self.is_paused = False
            self.source.resume()
        return parts

    async def read(self, bytes_max: int) -> bytes:
        pieces: list[bytes] = []
        total_bytes = 0
        while True:
            total_bytes += self.buffered_bytes
            if total_bytes > bytes_max:
                self.abandon()
                raise ResponseTooLarge(f"the body is longer than {bytes_max} bytes")
            # Taken before looking at the end: a pause is lifted here, and only then can it come.
            pieces += self.take()
            if self.is_whole:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            if self.error is not None:
                raise self.error
            await self.change()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                if self.parts:
                    parts = self.take()
                    yield parts[0] if len(parts) == 1 else b"".join(parts)
                elif self.is_whole:
                    return
                elif self.error is not None:
                    raise self.error
                else:
                    # As in `change`, without a coroutine of its own for every piece.
                    self.waiter = waiter = asyncio.get_running_loop().create_future()
                    await waiter
        finally:
            self.abandon()

    async def close(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        """Close the connection, unless the answer is whole and the connection elsewhere."""
        source = self.source
        if source is None:
            return
        self.source = None
        if not self.is_whole:
            if self.error is None:
                self.error = ResponseCut("the answer was closed before its end")
            source.abort()
