"""Engines under test, scripted servers, a test CA, and the check that nothing is left over."""

import asyncio
import gc
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from upstream.scripted_server import Script, ScriptedServer

from gateway.adapters.upstream_settings import UpstreamSettings
from gateway.adapters.upstreams import open_upstream
from gateway.ports import Origin, Upstream, UpstreamRequest

OpenEngine = Callable[..., Upstream]
Serve = Callable[..., Awaitable[ScriptedServer]]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    """The loop that production runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def few_objects() -> None:
    """What the interpreter holds by now is set aside, so that collecting is quick."""
    gc.collect()
    gc.freeze()


@pytest.fixture
async def nothing_left(few_objects: None) -> AsyncIterator[None]:
    """No task and no unclosed transport outlives a test."""
    before = asyncio.all_tasks()
    yield
    for _ in range(10):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        # One that is ending may end; one that nobody ended stays.
        _, left = await asyncio.wait(left, timeout=20)
    assert not left, left
    # An unclosed transport warns when it is collected, and warnings are errors.
    gc.collect()


@pytest.fixture
async def serve(nothing_left: None) -> AsyncIterator[Serve]:
    """Starts scripted servers; their scripts must not have failed."""
    servers: list[ScriptedServer] = []

    async def start(
        *scripts: Script, tls: ssl.SSLContext | None = None, port: int = 0
    ) -> ScriptedServer:
        server = ScriptedServer(*scripts)
        await server.start(tls, port)
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()
    assert [failure for server in servers for failure in server.failures] == []


@pytest.fixture(params=["fast", "httpx"])
def engine(request: pytest.FixtureRequest) -> str:
    """Both engines."""
    return request.param


@pytest.fixture
async def open_engine(nothing_left: None, engine: str) -> AsyncIterator[OpenEngine]:
    """Opens the engine under test with the given settings, and closes it after the test."""
    opened: list[Upstream] = []

    def open_with(check_address: Any = None, **settings: Any) -> Upstream:
        # A test that waits for a limit sets it; no other is to meet one on a busy machine.
        limits = {"connect_timeout_s": 60.0, "pool_timeout_s": 60.0, "write_timeout_s": 60.0}
        values = {"tick_s": 0.01, **limits, **settings}
        upstream = open_upstream(engine, UpstreamSettings(**values), check_address)
        opened.append(upstream)
        return upstream

    yield open_with
    for upstream in opened:
        await upstream.close()


@pytest.fixture
def upstream(open_engine: OpenEngine) -> Upstream:
    """The engine under test with ordinary settings."""
    return open_engine()


def ask(
    origin: Origin,
    body: bytes | AsyncIterator[bytes] = b"{}",
    *,
    method: bytes = b"POST",
    target: bytes = b"/v1/chat/completions",
    headers: list[tuple[bytes, bytes]] | None = None,
    read_timeout_s: float = 60.0,
    is_repeatable: bool = False,
) -> UpstreamRequest:
    """A request with what a test does not care about filled in."""
    return UpstreamRequest(
        origin, method, target, headers or [], body, read_timeout_s, is_repeatable
    )


class TestCa:
    """Files of a certificate authority made for this run, and of servers it vouches for."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca_file = folder / "ca.pem"

    def make(self) -> None:
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2"),
            *("-subj", "/CN=Test authority"),
        )
        self._vouch("good", "DNS:localhost,IP:127.0.0.1", "2")
        self._vouch("other-name", "DNS:elsewhere.test", "2")
        self._vouch("expired", "DNS:localhost,IP:127.0.0.1", "-1")

    def server(self, name: str, protocols: list[str]) -> ssl.SSLContext:
        """The server's side: `good`, `other-name` or `expired`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        context.set_alpn_protocols(protocols)
        return context

    def _vouch(self, name: str, alternatives: str, days: str) -> None:
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={alternatives}\n")
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
        )
        validity = ("-days", days)
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-out", f"{name}.pem", "-extfile", f"{name}.ext", *validity),
        )

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=60
        )


@pytest.fixture(scope="session")
def test_ca(tmp_path_factory: pytest.TempPathFactory) -> TestCa:
    """A certificate authority; skips where the openssl program is not installed."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program to make certificates")
    authority = TestCa(tmp_path_factory.mktemp("ca"))
    authority.make()
    return authority
