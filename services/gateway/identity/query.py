"""Credentials in a query: as good as those in headers, and never passed on either."""

from typing import Final
from urllib.parse import unquote_to_bytes

_CREDENTIALS: Final = frozenset(
    {b"api_key", b"api-key", b"apikey", b"x-api-key", b"key", b"access_token"}
)


def without_credentials(query: bytes) -> bytes:
    """The raw query without the parameters that carry a credential; all others byte for byte."""
    parts = query.split(b"&")
    return b"&".join(part for part in parts if _name(part) not in _CREDENTIALS)


def credential_in(query: bytes) -> str | None:
    """The credential that a query carries, None when it carries none."""
    for part in query.split(b"&"):
        if _name(part) in _CREDENTIALS:
            return unquote_to_bytes(part.partition(b"=")[2]).decode("latin-1") or None
    return None


def _name(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[0]).strip().lower()
