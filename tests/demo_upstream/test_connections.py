"""The demo provider's HTTP to raw sockets: pipelining, pauses, framing, limits."""

import asyncio
from urllib.parse import urlsplit

BODY = b'{"model":"m","messages":[]}'


def request(extra: bytes = b"", path: bytes = b"/v1/chat/completions", body: bytes = BODY) -> bytes:
    head = b"POST %b HTTP/1.1\r\nhost: d\r\nauthorization: Bearer x\r\n%bcontent-length: %d\r\n\r\n"
    return head % (path, extra, len(body)) + body


async def connect(demo_url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(demo_url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def read_answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


async def test_pipelined_requests_are_answered_in_order(demo_url):
    """A slow first answer holds back the quick ones behind it."""
    reader, writer = await connect(demo_url)
    writer.write(request(b"x-demo-latency-ms: 50\r\nx-demo-model: one\r\n"))
    writer.write(request(b"x-demo-model: two\r\n") + request(b"x-demo-model: three\r\n"))
    models = [(await read_answer(reader))[1].split(b'"model":"')[1].split(b'"')[0] for _ in "123"]
    writer.close()
    await writer.wait_closed()

    assert models == [b"one", b"two", b"three"]


async def test_the_head_of_a_stream_comes_before_a_slow_first_event(demo_url):
    """first-chunk-ms pauses after the head; the connection is then as good as before."""
    body = BODY[:-1] + b',"stream":true}'
    reader, writer = await connect(demo_url)
    writer.write(request(b"x-demo-first-chunk-ms: 60000\r\n", body=body))
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    await asyncio.sleep(0.05)
    assert not reader._buffer
    writer.close()
    await writer.wait_closed()

    reader, writer = await connect(demo_url)
    writer.write(request(b"x-demo-first-chunk-ms: 100\r\n", body=body))
    await reader.readuntil(b"0\r\n\r\n")
    writer.write(request())
    head, _ = await read_answer(reader)
    writer.close()
    await writer.wait_closed()

    assert head.startswith(b"HTTP/1.1 200")


async def test_a_request_that_is_no_http_ends_the_connection(demo_url):
    """400 and closed."""
    reader, writer = await connect(demo_url)
    writer.write(b"nonsense\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 400")


async def test_a_client_that_waits_for_continue_gets_it(demo_url):
    """Expect: 100-continue is answered before the body."""
    reader, writer = await connect(demo_url)
    head, body = request(b"expect: 100-continue\r\n").split(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    answer, _ = await read_answer(reader)
    writer.close()
    await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_client_that_leaves_mid_stream_leaves_an_incomplete_row(demo_url):
    """Nothing hangs on the pauses of an answer nobody reads."""
    reader, writer = await connect(demo_url)
    mark = b"left-%d" % id(writer)
    extra = b"x-demo-chunk-delay-ms: 20\r\nx-demo-chunks: 3000\r\nx-custom-event-id: " + mark
    writer.write(request(extra + b"\r\n", body=BODY[:-1] + b',"stream":true}'))
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()

    rows: list[bytes] = []
    async with asyncio.timeout(60):
        while not rows:
            reader, writer = await connect(demo_url)
            writer.write(b"GET /demo/record/rows HTTP/1.1\r\nhost: d\r\n\r\n")
            rows = [row for row in (await read_answer(reader))[1].splitlines() if mark in row]
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0.02)

    assert len(rows) == 1
    assert b'"is_complete":false' in rows[0]
