"""Keeps a request body on disk while it is read through, in a file that no path leads to."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from gateway.values import Refusal

_T = TypeVar("_T")

PIECE_BYTES: Final = 262_144
"""What is written and read at a time, in a thread each."""


class SpoolDirectory:
    """Where bodies wait, and how many bytes of them a worker may keep there at a time."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self.bytes_kept = 0

    async def open(self) -> "Spool":
        """An empty one. Raises Refusal (503) when the disk has no place for it."""
        try:
            return Spool(await asyncio.to_thread(self._create), self)
        except OSError:
            raise _no_room() from None

    def reserve(self, count: int) -> None:
        """Room for so many bytes more. Raises Refusal (503) when other bodies take it up."""
        if self.bytes_kept + count > self._bytes_max:
            raise _no_room()
        self.bytes_kept += count

    def _create(self) -> int:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Mode 0600, and without a name from the start: whatever kills us leaves nothing behind.
        descriptor, name = tempfile.mkstemp(prefix="body-", dir=self._path)
        Path(name).unlink()
        return descriptor


class Spool:
    """One body: written from front to end, then read, as often as it is needed."""

    def __init__(self, descriptor: int, directory: SpoolDirectory) -> None:
        self._descriptor: int | None = descriptor
        self._busy: asyncio.Future[object] | None = None
        self._directory = directory
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.length_bytes = 0

    async def add(self, piece: bytes) -> None:
        """The next bytes. Raises Refusal (503) when there is no room for them."""
        self._directory.reserve(len(piece))
        self.length_bytes += len(piece)
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes >= PIECE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Everything that was added can be read. Raises Refusal (503) when the disk is full."""
        content, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
        if content:
            try:
                await self._in_thread(lambda: self._write(content))
            except OSError:
                raise _no_room() from None

    async def pieces(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """[start, end) of what was flushed, to its end if none is given."""
        stop = self.length_bytes if end is None else end
        while start < stop:
            piece = await self._read(min(PIECE_BYTES, stop - start), start)
            if not piece:
                raise OSError("a spooled body is shorter than what was written")
            start += len(piece)
            yield piece

    def close(self) -> None:
        """Its bytes are gone. Idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        self._directory.bytes_kept -= self.length_bytes
        self._waiting = []
        busy = self._busy
        if busy is None or busy.done():
            os.close(descriptor)
        else:
            # Whoever awaited it was cancelled; its number must not become another file's meanwhile.
            busy.add_done_callback(partial(_close, descriptor))

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        future = asyncio.get_running_loop().run_in_executor(None, work)
        self._busy = future  # type: ignore[assignment]
        return await asyncio.shield(future)

    def _write(self, content: bytes) -> None:
        assert self._descriptor is not None
        descriptor = self._descriptor
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]

    async def _read(self, count: int, start: int) -> bytes:
        descriptor = self._descriptor
        assert descriptor is not None
        return await self._in_thread(lambda: os.pread(descriptor, count, start))


def _close(descriptor: int, done: asyncio.Future[object]) -> None:
    done.exception()
    os.close(descriptor)


def _no_room() -> Refusal:
    return Refusal(
        503,
        "api_error",
        "spool_full",
        "there is no room for the request body at the moment; try again later",
        retry_after_s=5,
    )
