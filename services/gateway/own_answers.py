"""Answers that need no provider (lists of models, kept answers): recorded without an attempt, sent."""

from typing import Final

from contracts.exchange import EMPTY_BODY, Body
from gateway.asked import Asked
from gateway.dispatch.keeping import CACHE_HIT
from gateway.long_bodies import body_in_event
from gateway.means import Means
from gateway.ports import CachedAnswer, HeaderPairs, JournalUnavailable
from gateway.recording.record import Exchange
from gateway.refusals import metering_unavailable
from gateway.values import Reply

_JSON: Final = "application/json"
_REPLAY_PIECE_BYTES: Final = 65_536


async def answer_listing(means: Means, asked: Asked, exchange: Exchange, content: bytes) -> None:
    """A list of models. Raises Refusal (503) when it cannot be recorded."""
    response = await body_in_event(content, means.limits.event_body_bytes_max)
    _complete(means, asked, exchange, EMPTY_BODY, response, _JSON, is_cache_hit=False)
    headers = [*_headers(asked, _JSON), (b"content-length", b"%d" % len(content))]
    await asked.reply.whole(200, headers, content)


async def answer_kept(means: Means, asked: Asked, exchange: Exchange, kept: CachedAnswer) -> None:
    """What an earlier call like it was answered. Raises Refusal (503) as above."""
    bytes_max = means.limits.event_body_bytes_max
    request = await asked.body_in_event(bytes_max)
    response = await body_in_event(kept.content, bytes_max)
    _complete(means, asked, exchange, request, response, kept.content_type, is_cache_hit=True)
    headers = [*_headers(asked, kept.content_type), CACHE_HIT]
    if kept.is_stream:
        await _replay(asked.reply, headers, kept.content)
        return
    headers.append((b"content-length", b"%d" % len(kept.content)))
    await asked.reply.whole(200, headers, kept.content)


def _complete(
    means: Means,
    asked: Asked,
    exchange: Exchange,
    request: Body,
    response: Body,
    content_type: str,
    *,
    is_cache_hit: bool,
) -> None:
    principal = asked.principal
    try:
        exchange.complete(
            "answered",
            200,
            None,
            request=request,
            response=response,
            content_type=content_type,
            is_cache_hit=is_cache_hit,
            metadata=asked.head.metadata,
            policy_id=principal.policy_id,
            stores_request=principal.stores_request,
            stores_response=principal.stores_response,
        )
    except JournalUnavailable:
        if not means.limits.serves_unmetered:
            means.counters.metering_unavailable += 1
            raise metering_unavailable() from None
        means.counters.unmetered += 1
    means.counters.answered += 1
    means.counters.succeeded += 1


def _headers(asked: Asked, content_type: str) -> HeaderPairs:
    return [
        (b"content-type", content_type.encode("latin-1")),
        (b"x-request-id", asked.request_id),
    ]


async def _replay(reply: Reply, headers: HeaderPairs, answer: bytes) -> None:
    """A stream that was kept, as a stream."""
    await reply.start(200, headers)
    for at in range(0, len(answer), _REPLAY_PIECE_BYTES):
        await reply.piece(answer[at : at + _REPLAY_PIECE_BYTES])
    await reply.end()
