"""A provider setting made ready for the hot path, and the join of base and path."""

import re
from typing import Final
from urllib.parse import urlsplit

from contracts.config.provider_settings import ProviderSetting
from contracts.exchange import SettingRef
from gateway.ports import Origin
from gateway.values import Provider, Target

_HOST: Final = re.compile(r"[A-Za-z0-9._:-]+").fullmatch
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class BadBaseUrl(ValueError):
    """`setting.url` cannot be called."""


def parse_base(url: str) -> tuple[Origin, bytes]:
    """Origin and base path (no slash at its end) of a base URL. Raises BadBaseUrl."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadBaseUrl(f"{url!r} is no URL: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise BadBaseUrl(f"{url!r} must begin with http:// or https://")
    if not parts.hostname:
        raise BadBaseUrl(f"{url!r} names no host")
    if parts.username is not None or parts.password is not None:
        raise BadBaseUrl("a base URL must not hold credentials")
    if parts.query or parts.fragment:
        raise BadBaseUrl(f"{url!r} must end with its path")
    try:
        path = parts.path.rstrip("/").encode("ascii")
        host = parts.hostname.encode("idna").decode("ascii")
    except UnicodeError:
        raise BadBaseUrl(f"{url!r} must be written in ASCII") from None
    if any(byte <= 0x20 or byte == 0x7F for byte in path):
        raise BadBaseUrl(f"{url!r} must not hold spaces or control characters")
    if port == 0 or not _HOST(host):
        raise BadBaseUrl(f"{url!r} names no host and port that can be asked")
    return Origin(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme]), path


def join_path(base_path: bytes, path: bytes) -> bytes:
    """Base and path; a base that ends in /v1 before a path that begins with /v1 drops one."""
    if base_path.endswith(b"/v1") and path.startswith(b"/v1/"):
        return base_path[:-3] + path
    return base_path + path


def make_target(
    setting: ProviderSetting,
    revision: int,
    secrets: dict[str, str],
    providers: dict[str, Provider],
) -> Target:
    """Raises KeyError for an unknown provider, BadBaseUrl for a base that cannot be called."""
    provider = providers[setting.provider]
    values = setting.setting | secrets
    origin, base_path = parse_base(values.get("url") or provider.default_base)
    return Target(
        ref=SettingRef(setting.id, revision, setting.provider),
        origin=origin,
        base_path=base_path,
        auth_headers=provider.auth_headers(values),
        allowed_models=frozenset(setting.allowed_models),
        cost_map=None if setting.cost_map is None else setting.cost_map.encode(),
        asks_usage_on_streams=setting.usage_on_streams == "ask",
    )
