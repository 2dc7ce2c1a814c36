"""Chooses the engine: the fast one, unless an origin is behind an outbound proxy."""

from typing import Literal

from gateway.adapters.fast_upstream import FastUpstream
from gateway.adapters.upstream_settings import CheckAddress, UpstreamSettings, needs_proxy
from gateway.ports import Upstream, UpstreamRequest, UpstreamResponse

Engine = Literal["auto", "fast", "httpx"]


def open_upstream(
    engine: Engine, settings: UpstreamSettings, check_address: CheckAddress | None = None
) -> Upstream:
    """An engine, to be closed by the caller. Connects to nothing yet.

    Raises ValueError when `fast` is asked for together with a proxy, which it cannot speak to,
    and OSError when the file of certificates cannot be read.
    """
    if engine == "fast" and settings.proxy_url:
        raise ValueError("the fast engine cannot use an outbound proxy; take auto or httpx")
    if engine == "fast" or (engine == "auto" and not settings.proxy_url):
        return FastUpstream(settings, check_address)
    # Imported here: a worker that never needs httpx does not pay for it.
    from gateway.adapters.httpx_upstream import HttpxUpstream

    httpx_upstream = HttpxUpstream(settings, check_address)
    if engine == "httpx":
        return httpx_upstream
    return _ByOrigin(settings, FastUpstream(settings, check_address), httpx_upstream)


class _ByOrigin:
    """Two engines behind one port: what needs the proxy goes through the one that knows it."""

    def __init__(self, settings: UpstreamSettings, direct: Upstream, proxied: Upstream) -> None:
        self._settings = settings
        self._direct = direct
        self._proxied = proxied

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        engine = self._proxied if needs_proxy(self._settings, request.origin) else self._direct
        return await engine.send(request)

    async def close(self) -> None:
        await self._direct.close()
        await self._proxied.close()
