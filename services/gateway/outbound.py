"""What goes out from here, as the settings have it: the HTTP client, and what it may call."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.adapters.upstream_guard import UpstreamGuard
from gateway.adapters.upstream_settings import CheckAddress, UpstreamSettings
from gateway.adapters.upstreams import open_upstream
from gateway.ports import Upstream
from gateway.routing.targets import parse_base
from gateway.routing.upstream_addresses import literal
from gateway.settings import GatewaySettings


@asynccontextmanager
async def upstream(
    settings: GatewaySettings, check_address: CheckAddress | None = None
) -> AsyncIterator[Upstream]:
    """The HTTP client engine that the settings ask for."""
    engine = open_upstream(
        settings.upstream_engine,
        UpstreamSettings(
            connect_timeout_s=float(settings.upstream_connect_timeout),
            pool_timeout_s=float(settings.upstream_pool_timeout),
            write_timeout_s=float(settings.upstream_write_timeout),
            connections_per_origin_max=settings.upstream_connections_max,
            idle_connections_max=settings.upstream_idle_max,
            idle_timeout_s=float(settings.upstream_idle_timeout),
            ca_file=settings.upstream_ca_file,
            proxy_url=settings.upstream_proxy_url,
        ),
        check_address,
    )
    try:
        yield engine
    finally:
        await engine.close()


def upstream_guard(settings: GatewaySettings) -> UpstreamGuard:
    """What may be called from here, at writing and at connecting."""
    reporting, _ = parse_base(settings.reporting_url)
    at = literal(reporting.host)
    is_here = reporting.host == "localhost" or (at is not None and at.is_loopback)
    return UpstreamGuard(
        allows_private=settings.allow_private_upstreams,
        own_ports=frozenset(
            {settings.proxy_port, settings.admin_port, *([reporting.port] if is_here else [])}
        ),
        own_origins=(reporting,),
    )
