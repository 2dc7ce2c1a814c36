"""The ways in which vendors want to be shown a key."""

from collections.abc import Mapping

from gateway.values import AuthHeaders


def bearer(setting: Mapping[str, str]) -> AuthHeaders:
    """`Authorization: Bearer`, the way OpenAI and most others want it."""
    return ((b"authorization", b"Bearer " + setting["apikey"].encode("latin-1")),)


def bearer_if_any(setting: Mapping[str, str]) -> AuthHeaders:
    """The same, for servers of one's own, which may want no key."""
    return bearer(setting) if setting.get("apikey") else ()


def x_api_key(setting: Mapping[str, str]) -> AuthHeaders:
    """`x-api-key`, for Anthropic's own API."""
    return ((b"x-api-key", setting["apikey"].encode("latin-1")),)


def api_key(setting: Mapping[str, str]) -> AuthHeaders:
    """`api-key`, for Azure."""
    return ((b"api-key", setting["apikey"].encode("latin-1")),)
