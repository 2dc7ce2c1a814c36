"""A provider that says the same bytes to everyone, or nothing, and hangs up or does not."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread


@contextmanager
def raw_provider(said: bytes = b"", *, hangs_up: bool = True) -> Iterator[str]:
    """Its URL, until the end of the block. It reads what fits into one segment first."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                client.recv(65_536)
                client.sendall(said)
            except OSError:
                hung_up = True
            else:
                hung_up = hangs_up
            if hung_up:
                client.close()
            else:
                held.append(client)

    thread = Thread(target=serve, name="raw-provider", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        # Closing alone would not wake who waits in accept.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for client in held:
            client.close()
        thread.join(5)
