"""Guards what may be called: URLs when they are written, addresses when they are connected to."""

import asyncio
import ipaddress
import socket
import time
from typing import Final

import psutil

from gateway.administration.invalid import Invalid
from gateway.ports import Origin, UpstreamRefused
from gateway.routing.targets import BadBaseUrl, parse_origin
from gateway.routing.upstream_addresses import (
    Address,
    check_address,
    check_name,
    check_spelling,
    literal,
)

RESOLVE_TIMEOUT_S: Final = 2.0
"""A name that takes longer is taken as one that does not resolve; connecting checks it again."""

URL_CHARACTERS_MAX: Final = 8192

_OWN_ADDRESSES_TTL_S: Final = 30.0


class UpstreamGuard:
    """Knows this machine and this installation; `own_origins` are Tollway's elsewhere."""

    def __init__(
        self, *, allows_private: bool, own_ports: frozenset[int], own_origins: tuple[Origin, ...]
    ) -> None:
        self._allows_private = allows_private
        self._own_ports = own_ports
        self._own_places = {(origin.host.lower(), origin.port) for origin in own_origins}
        self._own_addresses: frozenset[Address] = frozenset()
        self._own_addresses_until = 0.0

    def check_address(self, address: str, port: int) -> None:
        """For an engine, before it connects. Raises UpstreamRefused."""
        check_address(
            ipaddress.ip_address(address),
            port,
            allows_private=self._allows_private,
            own_ports=self._own_ports,
            own_addresses=self._addresses_of_this_machine(),
        )

    async def check_url(self, url: str) -> None:
        """For whoever writes one. Implements CheckUpstreamUrl.

        Raises Invalid; a name is judged by its addresses now, and again at each connection.
        """
        if len(url) > URL_CHARACTERS_MAX:
            raise Invalid(f"the URL is over the limit of {URL_CHARACTERS_MAX} characters")
        try:
            origin = parse_origin(url)
            if (origin.host.lower(), origin.port) in self._own_places:
                raise UpstreamRefused(f"{origin.host} port {origin.port} is Tollway itself")
            check_name(origin.host)
            address = literal(origin.host)
            if address is None:
                addresses = await _addresses_of(origin)
            else:
                addresses = [str(address)]
            for one in addresses:
                self.check_address(one, origin.port)
            if address is not None and not self._allows_private:
                check_spelling(origin.host, address)
        except (BadBaseUrl, UpstreamRefused) as error:
            raise Invalid(str(error)) from None

    def _addresses_of_this_machine(self) -> frozenset[Address]:
        now = time.monotonic()
        if now >= self._own_addresses_until:
            self._own_addresses = frozenset(
                ipaddress.ip_address(address.address.partition("%")[0])
                for addresses in psutil.net_if_addrs().values()
                for address in addresses
                if address.family in (socket.AF_INET, socket.AF_INET6)
            )
            self._own_addresses_until = now + _OWN_ADDRESSES_TTL_S
        return self._own_addresses


async def _addresses_of(origin: Origin) -> list[str]:
    """The addresses of a name; none when it does not resolve at the moment."""
    if f".{origin.host}".rstrip(".").endswith(".localhost"):
        return ["127.0.0.1"]  # Also where the resolver at hand does not know it.
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
