"""One ASGI app on one inherited listening socket, in this process, until told to stop.

The socket is bound once by a supervisor and inherited by its workers: a worker that dies resets
nobody else's queued connections, which sockets bound apiece with SO_REUSEPORT would.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

BACKLOG: Final = 2048


class Listening(msgspec.Struct, frozen=True):
    """Where a server listens."""

    host: str
    port: int


def bind(host: str, port: int) -> socket.socket:
    """A listening socket that children may inherit. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.listen(BACKLOG)
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener


class _InheritedSocketServer(Server):  # type: ignore[misc]
    """Granian's embeddable server, given a socket instead of an address."""

    def __init__(self, app: Any, listener: socket.socket, headers_bytes_max: int) -> None:
        super().__init__(
            app,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            log_enabled=False,
            http1_settings=HTTP1Settings(max_buffer_size=headers_bytes_max),
        )
        self._listener = listener

    def _init_shared_socket(self) -> None:
        # The stub file of this release still describes an older constructor.
        self._shd = SocketHolder(self._listener.fileno(), False, BACKLOG)  # type: ignore[call-arg]


async def serve(
    app: Any,
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    headers_bytes_max: int = 65_536,
    on_stopping: Sequence[Callable[[], None]] = (),
) -> None:
    """Serves until `stop` is set, then stops accepting and returns.

    Requests under way go on as tasks of this loop: draining them is the caller's.
    """
    server = _InheritedSocketServer(app, listener, headers_bytes_max)
    serving = asyncio.create_task(server.serve(), name="serve")
    stopping = asyncio.create_task(stop.wait(), name="serve.stop")
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for call in on_stopping:
        call()
    if not serving.done():
        server.stop()
    stopping.cancel()
    await serving
