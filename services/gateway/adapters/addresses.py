"""Names to addresses, each shown to the guard before anyone connects to it."""

import asyncio
import socket

from gateway.adapters.upstream_settings import CheckAddress
from gateway.ports import ConnectFailed
from gateway.routing.upstream_addresses import check_name, literal


def check_unresolved(host: str, port: int, check_address: CheckAddress) -> None:
    """As far as a name can be judged that an outbound proxy resolves. Raises ConnectFailed."""
    address = literal(host)
    try:
        check_name(host)
        if address is not None:
            check_address(str(address), port)
    except ValueError as error:
        raise ConnectFailed(f"{host!r} may not be connected to") from error


async def resolve(host: str, port: int, check_address: CheckAddress | None) -> list[str]:
    """The addresses of a name that may be connected to, in the resolver's order.

    Raises ConnectFailed when the name has none, or the guard refused every one.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConnectFailed(f"name {host!r} has no address: {error}") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if check_address is None:
        return addresses
    allowed = []
    refusal: ValueError | None = None
    for address in addresses:
        try:
            check_address(address, port)
        except ValueError as error:
            refusal = error
        else:
            allowed.append(address)
    if not allowed:
        raise ConnectFailed(f"no address of {host!r} may be connected to") from refusal
    return allowed
