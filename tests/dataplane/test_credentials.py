"""Credentials of ours in answers that began well: the client does not get to see them."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import loopback
from support.body_provider import Request, body_provider
from support.journals import end_of

from gateway.dispatch.redaction import StreamRedactor

SECRET = "sk-upstream"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TEXT = b'data: {"error":{"message":"bad key %b"}}\n\n' % SECRET.encode()


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


@pytest.mark.parametrize("cut", [b"sk-", b"upstream", b'"}}'])
async def test_an_error_in_the_middle_of_a_stream_is_searched_for_the_credential(gateway, cut):
    """Wherever the provider cuts its pieces; in the event too."""
    name = f"streamed-{TEXT.index(cut)}"

    async def tell(request: Request, writer: asyncio.StreamWriter) -> None:
        await request.read()
        at = TEXT.index(cut)
        writer.write(HEAD + chunk(b'data: {"choices":[]}\n\n') + chunk(TEXT[:at]))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(chunk(TEXT[at:]) + b"0\r\n\r\n")

    async with body_provider(tell) as provider:
        setting = await asyncio.to_thread(gateway.setting, provider.url)
        await asyncio.to_thread(gateway.key, name, setting)
        async with loopback.AsyncClient(base_url=gateway.proxy_url) as client:
            answer = await client.post(
                "/v1/chat/completions",
                json={"model": "m", "messages": [], "stream": True},
                headers={"x-api-key": name, "x-custom-event-id": name},
            )
        end = await asyncio.to_thread(end_of, gateway, name)

    assert b"bad key ********" in answer.content
    assert SECRET.encode() not in end.response.content
    assert end.response.content == answer.content


async def test_headers_of_a_good_answer_do_not_tell_the_credential(gateway):
    """A provider that repeats what it was sent, or redirects with it."""

    async def tell(request: Request, writer: asyncio.StreamWriter) -> None:
        await request.read()
        writer.write(
            b"HTTP/1.1 302 Found\r\nlocation: /x?key=sk-upstream\r\nx-request-id: sk-upstream\r\n"
            b"content-length: 0\r\n\r\n"
        )

    async with body_provider(tell) as provider:
        setting = await asyncio.to_thread(gateway.setting, provider.url)
        await asyncio.to_thread(gateway.key, "redirected", setting)
        async with loopback.AsyncClient(base_url=gateway.proxy_url) as client:
            answer = await client.get(
                "/v1/files", headers={"x-api-key": "redirected", "x-custom-event-id": "redirected"}
            )
        end = await asyncio.to_thread(end_of, gateway, "redirected")

    assert answer.headers["location"] == "/x?key=********"
    assert end.attempts[0].upstream_request_id == "********"


SECRETS = (b"aabaabaac", b"aabb")


@given(st.lists(st.text("abc", max_size=6).map(str.encode), max_size=12))
def test_a_stream_is_searched_as_if_it_came_in_one_piece(pieces):
    """No secret comes out, all else does, and nothing is held that cannot become a secret."""
    redactor = StreamRedactor(SECRETS[:1])
    passed = b""
    for count, piece in enumerate(pieces, 1):
        passed += redactor.feed(piece)
        whole = b"".join(pieces[:count]).replace(SECRETS[0], b"*" * 8)
        held = len(whole) - len(passed)
        assert whole.startswith(passed)
        assert whole[len(passed) :] == SECRETS[0][:held]
        assert not any(whole.endswith(SECRETS[0][:more]) for more in range(held + 1, 9))

    assert passed + redactor.finish() == b"".join(pieces).replace(SECRETS[0], b"*" * 8)


def test_each_of_several_secrets_is_looked_for():
    """Cut anywhere."""
    for secret in SECRETS:
        for at in range(len(secret) + 1):
            redactor = StreamRedactor(SECRETS)
            text = redactor.feed(b"x" + secret[:at]) + redactor.feed(secret[at:] + b"y")
            assert text + redactor.finish() == b"x********y"
