"""The 8002 app: everything that is proxied goes through one ASGI route into the corridor."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from litestar import Litestar, Request, Response, asgi
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.types import Receive, Scope, Send

from contracts.ids import new_id, to_text
from gateway.api.reply import AsgiReply
from gateway.api.stats import Stats
from gateway.exchange import Corridor
from gateway.identity.head import bad_framing, sort_headers
from gateway.ports import HeaderPairs
from gateway.values import Inbound, Refusal

log = logging.getLogger(__name__)

ShowError = Callable[[str, Refusal, bytes], tuple[HeaderPairs, bytes]]
"""Of a dialect: the headers and body of a refusal."""

_PLAIN: Final = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]


def _show_exception(_: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """What the corridor did not foresee, or the framework refused, in OpenAI's shape."""
    if isinstance(error, HTTPException):
        status, kind, code, message = (
            error.status_code,
            "invalid_request_error",
            "bad_request",
            error.detail,
        )
    else:
        log.error("exchange.failed", exc_info=error)
        status, kind, code, message = 500, "api_error", "internal", "internal error"
    return Response(
        {"error": {"message": message, "type": kind, "param": None, "code": code}},
        status_code=status,
        media_type="application/json",
        headers={"x-request-id": to_text(new_id())},
    )


class _Own:
    """What is answered here, whoever asks: by path, else by method."""

    def __init__(self, is_ready: Callable[[], bool], stats: Stats, show_error: ShowError) -> None:
        self._is_ready = is_ready
        self._stats = stats
        self._show_error = show_error
        self.by_path: Final = {
            "/health": self.health,
            "/api/health": self.up,
            "/stats": self.stats,
            # An authority as target has no path.
            "": self.tunnel,
        }
        self.by_method: Final = {"OPTIONS": _allow, "CONNECT": self.tunnel}

    async def reply(
        self, answer: Callable[[Scope, AsgiReply], Awaitable[None]], scope: Scope, reply: AsgiReply
    ) -> None:
        """The answer, or the refusal of a head that the corridor would have refused."""
        try:
            # Probes of load balancers speak HTTP/1.0, which knows of no Host and no chunks.
            if scope["http_version"] != "1":
                sort_headers(list(scope["headers"]), drops_user_agent=False)
            await answer(scope, reply)
        except Refusal as refusal:
            dialect = "anthropic" if b"/anthropic/" in scope["raw_path"] else "openai"
            headers, body = self._show_error(dialect, refusal, new_id())
            await reply.whole(refusal.status, headers, body)

    async def tunnel(self, _: Scope, __: AsgiReply) -> None:
        """Nobody gets a connection to elsewhere. Raises Refusal."""
        raise bad_framing("this is no proxy: the target must be a path")

    async def health(self, _: Scope, reply: AsgiReply) -> None:
        """Whether this worker takes requests."""
        is_up = self._is_ready()
        body = b"OK" if is_up else b"stopping"
        await reply.whole(200 if is_up else 503, [*_PLAIN, _length(body), _request_id()], body)

    async def up(self, _: Scope, reply: AsgiReply) -> None:
        """The same without a word."""
        await reply.whole(
            200 if self._is_ready() else 503, [*_PLAIN, _length(b""), _request_id()], b""
        )

    async def stats(self, scope: Scope, reply: AsgiReply) -> None:
        """How all workers do. Raises Refusal."""
        body = await self._stats.answer(list(scope["headers"]), scope["query_string"])
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            _length(body),
            _request_id(),
        ]
        await reply.whole(200, headers, body)


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % len(body)


def _request_id() -> tuple[bytes, bytes]:
    return b"x-request-id", to_text(new_id()).encode()


async def _allow(scope: Scope, reply: AsgiReply) -> None:
    """What a browser asks before it lets a page call us: everything is allowed, keys decide."""
    said = dict(scope["headers"])
    origin = said.get(b"origin")
    if origin is not None:
        reply.for_origin(origin)
    headers = [
        (
            b"access-control-allow-methods",
            said.get(b"access-control-request-method", b"*"),
        ),
        (
            b"access-control-allow-headers",
            said.get(b"access-control-request-headers", b"*"),
        ),
        (b"access-control-max-age", b"3600"),
        _request_id(),
    ]
    await reply.whole(204, headers, b"")


def data_app(
    corridor: Corridor, is_ready: Callable[[], bool], stats: Stats, show_error: ShowError
) -> Litestar:
    """The application of one data worker."""
    own = _Own(is_ready, stats, show_error)
    by_path, by_method = own.by_path, own.by_method

    @asgi("/", is_mount=True, copy_scope=False)
    async def proxied(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] != ScopeType.WEBSOCKET, "websockets are off"
        reply = AsgiReply(receive, send)
        # As it was sent: what the framework normalises must not change what is matched or billed.
        path = scope["raw_path"].decode("latin-1")
        method = scope["method"]
        if path in by_path or method in by_method:
            await own.reply(by_path.get(path) or by_method[method], scope, reply)
            return
        inbound = Inbound(
            method,
            path,
            scope["query_string"],
            scope["headers"],  # type: ignore[arg-type]
            time.time_ns() // 1_000_000,
            time.monotonic_ns(),
        )
        await corridor.handle(inbound, reply)

    return Litestar(
        [proxied],
        openapi_config=None,
        logging_config=None,
        exception_handlers={Exception: _show_exception},
    )
