"""What commands say when reporting does not answer as they need."""

import asyncio

import pytest
from support.servers import free_port

from infra.cli.problems import Problem
from infra.cli.reports import Reports


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "set ADMIN_PASS"), (500, "answered 500: broken"), (None, "reporting")],
)
async def test_a_refusal_is_told_in_words(status, said):
    """A missing password, a fault of the ledger, nobody there."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} No\r\ncontent-length: 6\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + b"broken")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    port = free_port()
    server = None
    if status is not None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
    reports = Reports(f"http://127.0.0.1:{port}", "")
    try:
        with pytest.raises(Problem, match=said):
            await reports.totals("key", 0, 1)
    finally:
        await reports.close()
        if server is not None:
            server.close()
            await server.wait_closed()
