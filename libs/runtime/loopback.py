"""What only this machine can reach, and what a web page may have sent."""

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_local_authority(authority: str) -> bool:
    """Whether a Host header names this machine by a name that nobody else can give away.

    A page of another site can make its own name resolve to 127.0.0.1 (DNS rebinding); it cannot
    make a browser send `localhost` or a loopback address for it.
    """
    try:
        host = urlsplit(f"//{authority}").hostname
    except ValueError:
        return False
    return host is not None and is_loopback(host)


def is_same_origin(origin: str, authority: str) -> bool:
    """Whether an Origin header is of the very server that `authority` (its Host header) names."""
    scheme, separator, rest = origin.partition("://")
    return bool(separator) and scheme in ("http", "https") and rest.lower() == authority.lower()
