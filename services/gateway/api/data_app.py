"""The 8002 app: everything that is proxied goes through one ASGI route into the corridor."""

import time
from collections.abc import Callable

from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send

from gateway.api.reply import AsgiReply
from gateway.exchange import Corridor
from gateway.values import Inbound

_PLAIN = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]


def data_app(corridor: Corridor, is_ready: Callable[[], bool]) -> Litestar:
    """The application of one data worker."""

    @asgi("/", is_mount=True, copy_scope=False)
    async def proxied(scope: Scope, receive: Receive, send: Send) -> None:
        reply = AsgiReply(receive, send)
        path = scope["path"]
        if path.endswith("/") and len(path) > 1:
            path = path[:-1]
        if path == "/health":
            ready = is_ready()
            body = b"OK" if ready else b"stopping"
            headers = [*_PLAIN, (b"content-length", b"%d" % len(body))]
            await reply.whole(200 if ready else 503, headers, body)
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

    return Litestar([proxied], openapi_config=None, logging_config=None)
