"""The 8002 app: everything that is proxied goes through one ASGI route into the corridor."""

import logging
import time
from collections.abc import Callable
from typing import Any

from litestar import Litestar, Request, Response, asgi
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.types import Receive, Scope, Send

from contracts.ids import new_id, to_text
from gateway.api.reply import AsgiReply
from gateway.exchange import Corridor
from gateway.values import Inbound

log = logging.getLogger(__name__)

_PLAIN = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]


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


def data_app(corridor: Corridor, is_ready: Callable[[], bool]) -> Litestar:
    """The application of one data worker."""

    @asgi("/", is_mount=True, copy_scope=False)
    async def proxied(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] != ScopeType.WEBSOCKET, "websockets are off"
        reply = AsgiReply(receive, send)
        # As it was sent: what the framework normalises must not change what is matched or billed.
        path = scope["raw_path"].decode("latin-1")
        if path == "/health":
            is_up = is_ready()
            body = b"OK" if is_up else b"stopping"
            headers = [*_PLAIN, (b"content-length", b"%d" % len(body))]
            await reply.whole(200 if is_up else 503, headers, body)
            return
        inbound = Inbound(
            scope["method"],
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
