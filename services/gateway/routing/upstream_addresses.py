"""Which addresses an upstream may have; pure, so that writing and connecting judge alike."""

import ipaddress
import socket
from collections.abc import Collection
from typing import Final

from gateway.ports import UpstreamRefused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA_NETWORKS: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.169.0/24",  # AWS, Azure, Google, OpenStack, DigitalOcean, Oracle
        "169.254.170.0/24",  # credentials of AWS's containers
        "169.254.0.23/32",  # Tencent
        "169.254.42.42/32",  # Scaleway
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's agent
        "192.0.0.192/32",  # Oracle, older
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254/128",  # Google
        "fd00:c1::a9fe:a9fe/128",  # Oracle
        "fd00:42::42/128",  # Scaleway
        "fe80::a9fe:a9fe/128",  # OpenStack
    )
)

_METADATA_NAMES: Final = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
        "metadata.tencentyun.com",
        "metadata.platformequinix.com",
    }
)

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64: Final = ipaddress.ip_network("64:ff9b:1::/48")
_V4_COMPATIBLE: Final = ipaddress.ip_network("::/96")
_V4_TRANSLATED: Final = ipaddress.ip_network("::ffff:0:0:0/96")

MEND: Final = "set ALLOW_PRIVATE_UPSTREAMS=true to allow it"


def check_name(host: str) -> None:
    """Refuses names of metadata services. Raises UpstreamRefused."""
    if host.rstrip(".").lower() in _METADATA_NAMES:
        raise UpstreamRefused(f"{host} is a cloud's metadata service")


def literal(host: str) -> Address | None:
    """The address that a host name is, in any spelling the resolver would take; None for a name."""
    text = host.rstrip(".")
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    try:
        # 2130706433, 0x7f.1 and 0177.0.0.1 are 127.0.0.1 to every resolver.
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except (OSError, UnicodeError, ValueError):
        return None


def check_spelling(host: str, address: Address) -> None:
    """Refuses an address written to look like another, or like none. Raises UpstreamRefused."""
    if isinstance(address, ipaddress.IPv6Address):
        if _embedded(address) is not None:
            raise UpstreamRefused(f"{host} holds an IPv4 address in an IPv6 one; {MEND}")
    elif host != str(address):
        raise UpstreamRefused(f"{host} is another spelling of {address}; {MEND}")


def check_address(
    address: Address,
    port: int,
    *,
    allows_private: bool,
    own_ports: Collection[int],
    own_addresses: Collection[Address],
) -> None:
    """Refuses what must not be connected to. Raises UpstreamRefused, which says what it is."""
    for one in (address, _embedded(address)):
        if one is None:
            continue
        if any(one in network for network in _METADATA_NETWORKS):
            raise UpstreamRefused(f"{address} is a cloud's metadata service")
        is_here = one.is_loopback or one.is_unspecified or _without_scope(one) in own_addresses
        if port in own_ports and is_here:
            raise UpstreamRefused(f"{address} port {port} is Tollway itself")
        kind = "" if allows_private else _not_public(one)
        if kind:
            raise UpstreamRefused(f"{address} is {kind}; {MEND}")


def _not_public(address: Address) -> str:
    """What keeps an address from being a public one; "" when it is public."""
    if address.is_loopback:
        return "a loopback address"
    if address.is_unspecified:
        return "the unspecified address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_site_local or address in _LOCAL_NAT64:
            return "a private address"
        if _embedded(address) is not None:
            return ""  # The address inside decides, and is judged beside this one.
    if not address.is_global or address.is_reserved:
        return "a private or reserved address"
    return ""


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to an IPv6 address would reach in the end."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    is_compatible = address in _V4_COMPATIBLE and int(address) > 1
    if is_compatible or any(address in one for one in (_NAT64, _LOCAL_NAT64, _V4_TRANSLATED)):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _without_scope(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return ipaddress.IPv6Address(int(address))
    return address
