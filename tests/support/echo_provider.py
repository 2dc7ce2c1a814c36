"""A provider that remembers what it was sent, byte for byte, and answers what it is told to."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Told:
    """What the next requests are answered with."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: list[tuple[str, str]] = [("content-type", "application/json")]
        self.body = b"{}"


class Heard:
    """A request as it arrived."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body


class EchoProvider:
    """Runs in a thread; `heard` holds every request in order."""

    def __init__(self) -> None:
        self.told = Told()
        self.heard: list[Heard] = []
        told, heard = self.told, self.heard

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body of an answer go out in two writes, which must not wait for each other.
            disable_nagle_algorithm = True

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self._answer
                raise AttributeError(name)

            def _answer(self) -> None:
                body = self._body()
                headers = {name.lower(): value for name, value in self.headers.items()}
                # All at once: after an empty answer's head the next one may be told already.
                status, said, content = told.status, told.headers, told.body
                heard.append(Heard(self.command, self.path, headers, body))
                self.send_response_only(status)
                for name, value in said:
                    self.send_header(name, value)
                if status not in (204, 304):
                    self.send_header("content-length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD" and status not in (204, 304):
                    self.wfile.write(content)

            def _body(self) -> bytes:
                if self.headers.get("transfer-encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("content-length", 0)))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def tell(
        self,
        body: bytes,
        *,
        status: int = 200,
        content_type: str = "application/json",
        **headers: str,
    ) -> None:
        """Answer like this from now on."""
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        self.told.status = status
        self.told.headers = [("content-type", content_type), *named]
        self.told.body = body

    def serve(self) -> None:
        """Until stopped."""
        self._server.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        """No more answers."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def echo_provider() -> Iterator[EchoProvider]:
    """One, until the end of the block."""
    provider = EchoProvider()
    thread = Thread(target=provider.serve, name="echo-provider", daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.stop()
        thread.join(5)
