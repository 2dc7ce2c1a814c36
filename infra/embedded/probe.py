"""Asking a loopback port one question, without a client library."""

import asyncio
from typing import Final

PROBE_TIMEOUT_S: Final = 1.0
_ANSWER_BYTES_MAX: Final = 4096


async def ask(host: str, port: int, question: bytes) -> bytes:
    """The first bytes of the answer; empty when nobody answers within `PROBE_TIMEOUT_S`."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                if question:
                    writer.write(question)
                    await writer.drain()
                return await reader.read(_ANSWER_BYTES_MAX)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""
