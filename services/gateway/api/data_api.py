"""What 8002 answers: a few paths of its own, and everything else by way of the corridor."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from contracts.ids import new_id, to_text
from gateway.api.stats import Stats
from gateway.exchange import Corridor, dialect_of
from gateway.passage import BrokenAnswer
from gateway.ports import HeaderPairs
from gateway.values import Inbound, Refusal, Reply

log = logging.getLogger(__name__)

ShowError = Callable[[str, Refusal, bytes], tuple[HeaderPairs, bytes]]
"""Of a dialect: the headers and body of a refusal."""

_PLAIN: Final = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]


class DataApi:
    """Every request of a data worker comes here first."""

    def __init__(
        self,
        corridor: Corridor,
        is_ready: Callable[[], bool],
        stats: Stats,
        show_error: ShowError,
    ) -> None:
        self._corridor = corridor
        self._is_ready = is_ready
        self._stats = stats
        self._show_error = show_error
        self._own: Final[dict[str, Callable[[Inbound, Reply], Awaitable[None]]]] = {
            "/health": self._health,
            "/api/health": self._up,
            "/stats": self._tell_stats,
        }

    async def handle(self, inbound: Inbound, reply: Reply) -> None:
        """Answers whatever happens, as far as anything can still be said."""
        own = self._own.get(inbound.path)
        if own is None and inbound.method == "OPTIONS":
            own = _allow
        try:
            if own is None:
                await self._corridor.handle(inbound, reply)
            else:
                await own(inbound, reply)
        except Refusal as refusal:
            await self.refuse(inbound.path, refusal, reply)
        except BrokenAnswer as error:
            # Recorded, and told to the client as far as its dialect can: here it just ends.
            log.info("answer.broken_off reason=%s", error)
        except Exception as error:
            log.error("exchange.failed", exc_info=error)
            if not reply.is_started:
                internal = Refusal(500, "api_error", "internal", "internal error")
                await self.refuse(inbound.path, internal, reply)

    async def refuse(self, path: str, refusal: Refusal, reply: Reply) -> None:
        """In the shape of the dialect that the path belongs to."""
        headers, body = self._show_error(dialect_of(path), refusal, new_id())
        await reply.whole(refusal.status, headers, body)

    async def _health(self, _: Inbound, reply: Reply) -> None:
        """Whether this worker takes requests."""
        is_up = self._is_ready()
        body = b"OK" if is_up else b"stopping"
        await reply.whole(200 if is_up else 503, [*_PLAIN, _request_id()], body)

    async def _up(self, _: Inbound, reply: Reply) -> None:
        """The same without a word."""
        await reply.whole(200 if self._is_ready() else 503, [*_PLAIN, _request_id()], b"")

    async def _tell_stats(self, inbound: Inbound, reply: Reply) -> None:
        """How all workers do. Raises Refusal."""
        body = await self._stats.answer(inbound.headers, inbound.query)
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            _request_id(),
        ]
        await reply.whole(200, headers, body)


async def _allow(inbound: Inbound, reply: Reply) -> None:
    """What a browser asks before it lets a page call us: everything is allowed, keys decide."""
    said = dict(inbound.headers)
    origin = said.get(b"origin")
    if origin is not None:
        reply.for_origin(origin)
    headers = [
        (b"access-control-allow-methods", said.get(b"access-control-request-method", b"*")),
        (b"access-control-allow-headers", said.get(b"access-control-request-headers", b"*")),
        (b"access-control-max-age", b"3600"),
        _request_id(),
    ]
    await reply.whole(204, headers, b"")


def _request_id() -> tuple[bytes, bytes]:
    return b"x-request-id", to_text(new_id()).encode()
