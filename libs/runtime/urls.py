"""URLs of servers, one or several in a text: where they point, and whether that can be."""

import re
from typing import Final
from urllib.parse import SplitResult, parse_qs, urlsplit

PORT_MAX: Final = 65_535
_NEXT_URL: Final = re.compile(r",(?=\s*[A-Za-z][A-Za-z0-9+.-]*://)")


def split_urls(text: str) -> list[SplitResult]:
    """Those of a comma separated list; several hosts may share one. Raises ValueError."""
    parts = [part.strip() for part in _NEXT_URL.split(text)]
    try:
        return [urlsplit(part if "://" in part else f"//{part}") for part in parts]
    except ValueError:
        raise ValueError("this is no URL") from None


def require_ports(text: str) -> None:
    """Every port that URLs name can be connected to. Raises ValueError.

    It shows none of them: a slip makes a part of a password a port.
    """
    for url in split_urls(text):
        # What other queries mean is their servers' business.
        is_postgres = url.scheme in ("postgresql", "postgres")
        named = ",".join(parse_qs(url.query).get("port", [])) if is_postgres else ""
        for port in (*map(_port, _hosts(url)), *named.split(",")):
            if port and not _is_port(port):
                raise ValueError(f"its port is no number from 1 to {PORT_MAX}")


def without_password(text: str) -> str:
    """Where URLs point, to be shown. Raises ValueError as `require_ports` does.

    Of a host without a port only the scheme is shown: a slip makes a part of a password a host.
    """
    require_ports(text)
    shown = []
    for url in split_urls(text):
        hosts = _hosts(url)
        where = ",".join(hosts) if all(map(_port, hosts)) else ""
        shown.append(f"{url.scheme}://{where}" if url.scheme and where else url.scheme or where)
    return ", ".join(shown)


def _hosts(url: SplitResult) -> list[str]:
    return url.netloc.rpartition("@")[2].split(",")


def _port(host: str) -> str:
    return host.rpartition("]")[2].partition(":")[2]


def _is_port(text: str) -> bool:
    return text.isdecimal() and text.isascii() and 1 <= int(text) <= PORT_MAX
