"""What both upstream engines are told: time limits, sizes of pools and buffers, trust, proxy."""

from collections.abc import Callable

import msgspec

from gateway.ports import Origin

CheckAddress = Callable[[str, int], None]
"""Is given every address, as text, and port before it is connected to. Raises ValueError."""


class UpstreamSettings(msgspec.Struct, frozen=True):
    """Limits of an engine. Times are seconds and are never cut short, at most rounded up a tick.

    A connection idle for `idle_check_after_s` is asked whether it still lives before it is used.
    `ca_file` holds certificates trusted beside the system's. `proxy_url` is the outbound proxy of
    every origin that `proxy_exempt_hosts` does not name (a name there covers its subdomains).
    """

    connect_timeout_s: float = 10.0
    pool_timeout_s: float = 10.0
    write_timeout_s: float = 30.0
    connections_per_origin_max: int = 1024
    idle_connections_max: int = 256
    idle_timeout_s: float = 60.0
    idle_check_after_s: float = 1.0
    head_bytes_max: int = 65_536
    informational_heads_max: int = 16
    read_buffer_bytes: int = 262_144
    tick_s: float = 0.1
    ca_file: str = ""
    proxy_url: str = ""
    proxy_exempt_hosts: tuple[str, ...] = ()


def needs_proxy(settings: UpstreamSettings, origin: Origin) -> bool:
    """Whether requests to an origin leave through the outbound proxy."""
    if not settings.proxy_url:
        return False
    host = origin.host.lower()
    return not any(
        host == exempt or host.endswith("." + exempt)
        for exempt in (name.lower().lstrip(".") for name in settings.proxy_exempt_hosts)
    )
