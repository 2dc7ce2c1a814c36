"""One ASGI app on one inherited listening socket, in this process, until told to stop."""

import asyncio
import os
import socket
from typing import Any, Final

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from runtime.ports import BACKLOG

HEAD_BYTES_MAX: Final = 65_536


class _InheritedSocketServer(Server):  # type: ignore[misc]
    """Granian's embeddable server, given a socket instead of an address."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        super().__init__(
            app,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            log_enabled=False,
            http1_settings=HTTP1Settings(max_buffer_size=HEAD_BYTES_MAX),
        )
        self._listener = listener

    def _init_shared_socket(self) -> None:
        # It closes what it is given. (This release's stub file describes an older constructor.)
        self._shd = SocketHolder(
            os.dup(self._listener.fileno()),
            False,
            BACKLOG,  # type: ignore[call-arg]
        )


async def serve(
    app: Any,
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    end_s: float = 5.0,
) -> None:
    """Serves until `stop` is set, then closes `listener`, gives requests under way `end_s`, returns.

    Raises what the server raises when it ends by itself.
    """
    server = _InheritedSocketServer(app, listener)
    serving = asyncio.create_task(server.serve(), name="serve")
    stopping = asyncio.create_task(stop.wait(), name="serve.stop")
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not serving.done():
        server.stop()
        # The server closed its own descriptor; with ours the kernel would still queue connections.
        listener.close()
        await asyncio.wait({serving}, timeout=end_s)
    if serving.done():
        serving.result()
    else:
        serving.cancel()
