"""How an answer goes down: whole, or piece by piece, or event by event; its record goes first.

The guarantees named in `exchange` are kept here, at the numbered comments.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from contracts.exchange import Body, Outcome
from gateway.account import CLIENT_LEFT, Account
from gateway.dispatch.headers import Down
from gateway.dispatch.keeping import CACHE_MISS, Gathered, Keeper
from gateway.dispatch.redaction import StreamRedactor
from gateway.dispatch.relay import Transcript, UsageStripper
from gateway.dispatch.uploads import Kept
from gateway.long_bodies import body_in_event, without_body
from gateway.ports import ResponseCut
from gateway.recording.record import usage_only
from gateway.values import Endpoint, Refusal


class Delivery(Protocol):
    """An answer of which a part has gone down."""

    def broken(self) -> tuple[Body, str, bytes | None]:
        """What is recorded of one that breaks: body, content type, usage document."""
        ...

    async def say(self, refusal: Refusal) -> None:
        """Why it breaks, if that can still be said."""
        ...


async def deliver_whole(
    account: Account,
    keeper: Keeper | None,
    status: int,
    down: Down,
    content: bytes,
    model: str | None,
) -> None:
    """An answer that is no stream: recorded, then sent in one go."""
    asked, limits = account.asked, account.means.limits
    exchange, reply = account.exchange, asked.reply
    exchange.first_byte_us = exchange.elapsed_us()
    request = await asked.body_in_event(limits.event_body_bytes_max)
    kept = await body_in_event(content, limits.event_body_bytes_max)
    document = None
    if not limits.keeps_bodies or kept.sha256 is not None:
        document = usage_only(content)
        if document is not None and not limits.keeps_bodies:
            request = await asked.without_body(request)
            kept = await without_body(kept, content)
    headers = down.headers
    if keeper is not None:
        headers.append(CACHE_MISS)
        if status == 200:
            keeper.keep(down.content_type, content, model, is_stream=False)
    if reply.is_gone:
        account.complete(CLIENT_LEFT, 0, CLIENT_LEFT, request, kept, down.content_type, document)
        return
    # Guarantee 2: the record before the last byte.
    account.complete("answered", status, None, request, kept, down.content_type, document)
    if down.length is not None and asked.inbound.method == "HEAD":
        headers.append((b"content-length", down.length))
    account.status = status
    await reply.whole(status, headers, content)


class Pieces:
    """Sound, pictures, files: piece by piece; the last byte waits for the record."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._kept = Kept(account.means.limits.event_body_bytes_max)

    def broken(self) -> tuple[Body, str, bytes | None]:
        return self._kept.body(), "", None

    async def say(self, _: Refusal) -> None:
        """Nothing: whatever came would be taken for a part of it."""

    async def run(self, status: int, down: Down, pieces: AsyncIterator[bytes]) -> None:
        """All of them."""
        account, kept = self._account, self._kept
        exchange, reply = account.exchange, account.asked.reply
        left = down.length_bytes
        if left is not None:
            down.headers.append((b"content-length", b"%d" % left))
        account.status = status
        exchange.first_byte_us = exchange.elapsed_us()
        await reply.start(status, down.headers)
        last = b""
        async for content in pieces:
            if reply.is_gone:
                break
            kept.add(content)
            if left is not None:
                left -= len(content)
                if left <= 0:
                    last += content
                    continue
            await reply.piece(content)
        if left and not reply.is_gone:
            raise ResponseCut("the body is not as long as its head said")
        request = await account.asked.body_in_event(account.means.limits.event_body_bytes_max)
        outcome: Outcome = CLIENT_LEFT if reply.is_gone else "answered"
        error = None if outcome == "answered" else outcome
        # Guarantee 2: the record before the last byte.
        account.complete(outcome, status, error, request, kept.body(), down.content_type, None)
        if error is None:
            await reply.piece(last)
            await reply.end()


class Stream:
    """Events: every piece goes on as it comes; the end waits for the record.

    `strips` takes out the usage that only we asked for.
    """

    def __init__(self, account: Account, endpoint: Endpoint, *, strips: bool) -> None:
        limits = account.means.limits
        self._account = account
        self._endpoint = endpoint
        self._stripper = UsageStripper(limits.stream_hold_bytes_max) if strips else None
        self._transcript = Transcript(limits.event_body_bytes_max)
        self._last_pieces = (b"", b"")

    def broken(self) -> tuple[Body, str, bytes | None]:
        body = self._transcript.body()
        content_type = "text/event-stream" if body.length_bytes else ""
        return body, content_type, self._transcript.usage_document()

    async def say(self, refusal: Refusal) -> None:
        """As an event, if it stands between two events."""
        account = self._account
        reply = account.asked.reply
        if reply.is_gone:
            return
        last = self._last_pieces[0][-4:] + self._last_pieces[1]
        if not last or last.endswith((b"\n\n", b"\r\n\r\n")):
            event_id = account.asked.event_id
            await reply.piece(account.means.show_error_event(self._endpoint, refusal, event_id))

    async def run(
        self,
        status: int,
        down: Down,
        pieces: AsyncIterator[bytes],
        secrets: tuple[bytes, ...],
        keeper: Keeper | None,
        model: str | None,
    ) -> None:
        """All of it."""
        account = self._account
        means, reply = account.means, account.asked.reply
        gathered = None
        if keeper is not None:
            down.headers.append(CACHE_MISS)
            if status == 200:
                gathered = Gathered(keeper.bytes_max)
        account.status = status
        await reply.start(status, down.headers)
        means.counters.streams_open += 1
        try:
            await self._relay(pieces, StreamRedactor(secrets), gathered)
            outcome: Outcome = CLIENT_LEFT if reply.is_gone else "answered"
            # Guarantee 2: the record before the last byte.
            await self._complete(outcome, status, down.content_type)
            if outcome == "answered":
                whole = None if gathered is None else gathered.whole()
                if whole is not None and keeper is not None:
                    keeper.keep(down.content_type, whole, model, is_stream=True)
                await reply.end()
        finally:
            means.counters.streams_open -= 1

    async def _relay(
        self,
        pieces: AsyncIterator[bytes],
        redactor: StreamRedactor,
        gathered: Gathered | None,
    ) -> None:
        account, transcript, stripper = self._account, self._transcript, self._stripper
        exchange, reply = account.exchange, account.asked.reply
        async for piece in pieces:
            if exchange.first_byte_us is None:
                exchange.first_byte_us = exchange.elapsed_us()
            content = redactor.feed(piece)
            transcript.add(content)
            if reply.is_gone:
                if not account.means.limits.drains_when_client_gone:
                    break
                continue
            passed = content if stripper is None else stripper.feed(content)
            if passed:
                self._last_pieces = (self._last_pieces[1], passed)
                if gathered is not None:
                    gathered.add(passed)
                await reply.piece(passed)
        rest = redactor.finish()
        transcript.add(rest)
        if stripper is not None:
            rest = stripper.feed(rest) + stripper.finish()
            transcript.document = stripper.document
        if rest and not reply.is_gone:
            if gathered is not None:
                gathered.add(rest)
            await reply.piece(rest)

    async def _complete(self, outcome: Outcome, status: int, content_type: str) -> None:
        account, transcript = self._account, self._transcript
        limits, asked = account.means.limits, account.asked
        request = await asked.body_in_event(limits.event_body_bytes_max)
        kept = transcript.body()
        document = transcript.usage_document()
        if document is not None and not limits.keeps_bodies:
            request = await asked.without_body(request)
            kept = await without_body(kept, kept.content)
        error = None if outcome == "answered" else outcome
        account.complete(outcome, status, error, request, kept, content_type, document)
