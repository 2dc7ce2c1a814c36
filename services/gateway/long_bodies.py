"""What takes time with long bodies, done in a thread so that nobody else waits."""

import asyncio
from collections.abc import Callable
from typing import Final

from contracts.exchange import Body
from gateway.recording.record import body_for_event, without_content

_THREAD_BYTES: Final = 256 * 1024
"""Longer ones are hashed, cut and edited in a thread."""


async def body_in_event(content: bytes, bytes_max: int) -> Body:
    """A body as it travels in an event."""
    length = len(content)
    return Body(content, length, None) if length <= bytes_max else await cut(content, bytes_max)


async def cut(content: bytes, bytes_max: int) -> Body:
    """The same of one that is too long."""
    if len(content) <= _THREAD_BYTES:
        return body_for_event(content, bytes_max)
    return await asyncio.to_thread(body_for_event, content, bytes_max)


async def without_body(body: Body, content: bytes) -> Body:
    """The same without its content: length and hash."""
    if body.sha256 is None and len(content) > _THREAD_BYTES:
        return await asyncio.to_thread(without_content, body, content)
    return without_content(body, content)


async def edited(edit: Callable[[bytes], bytes], body: bytes) -> bytes:
    """A body with a splice. Raises what `edit` raises."""
    return await asyncio.to_thread(edit, body) if len(body) > _THREAD_BYTES else edit(body)
