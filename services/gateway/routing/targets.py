"""A provider setting made ready for the hot path, and the join of base and path."""

import re
from collections.abc import Mapping
from string import Formatter
from typing import Final
from urllib.parse import urlsplit

from contracts.config.provider_settings import ProviderSetting
from contracts.exchange import SettingRef
from gateway.ports import Origin
from gateway.values import AuthHeaders, Provider, Target

_LABEL: Final = re.compile(r"[A-Za-z0-9-]{1,63}").fullmatch
_HOST: Final = re.compile(r"[A-Za-z0-9._:-]+").fullmatch
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HEADER_SAFE: Final = re.compile(r"[\x21-\x7e]+").fullmatch

CUSTOM_DIALECT: Final = "custom"
"""Of providers that an operator described: no path of a vendor's API leads to them."""
_BY_NAME: Final = "member:"
_NOWHERE: Final = Origin("https", "nowhere.invalid", 443)


class BadBaseUrl(ValueError):
    """`setting.url` cannot be called."""


def parse_base(url: str) -> tuple[Origin, bytes]:
    """Origin and base path (no slash at its end) of a base URL. Raises BadBaseUrl."""
    origin = parse_origin(url)
    if "?" in url or "#" in url:
        raise BadBaseUrl("the URL must end with its path")
    try:
        return origin, urlsplit(url).path.rstrip("/").encode("ascii")
    except UnicodeError:
        raise BadBaseUrl("the URL's path must be written in ASCII") from None


def parse_origin(url: str) -> Origin:
    """Where a URL's connections go. Raises BadBaseUrl, which never shows the URL's credentials."""
    # The splitter drops some of these without a word.
    if any(char <= " " or char in "\x7f\\" for char in url):
        raise BadBaseUrl("the URL must not hold spaces, backslashes or control characters")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BadBaseUrl("the URL cannot be read") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise BadBaseUrl("the URL must begin with http:// or https://")
    if "@" in parts.netloc:
        raise BadBaseUrl("the URL must not hold credentials")
    try:
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except ValueError:
        raise BadBaseUrl("the URL names no host and port that can be asked") from None
    if port == 0 or not _HOST(host):
        raise BadBaseUrl("the URL names no host and port that can be asked")
    return Origin(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme])


def base_of(provider: Provider, values: Mapping[str, str]) -> str:
    """The base URL of a setting with these values. Raises BadBaseUrl when one has no place in it."""
    url = values.get("url")
    if url:
        return url
    names = [name for _, name, _, _ in Formatter().parse(provider.base) if name]
    for name in names:
        if not _LABEL(values.get(name, "")):
            raise BadBaseUrl(f"{name} must be letters, digits and hyphens")
    return provider.base.format_map(values)


def upstream_path(target: Target, path: bytes) -> bytes:
    """A path of a vendor's API as this target wants it: under its base, its `/v1` put in place."""
    v1 = target.provider.v1
    if v1 != b"/v1" and path.startswith(b"/v1/"):
        path = v1 + path[3:]
    return join_path(target.base_path, path)


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
    """Raises BadBaseUrl for a base that cannot be called.

    A provider that is not among `providers` is one that an operator described: where to call it is
    with its paths, and which of the values it is shown, too. One that is not called goes nowhere,
    and is shown nothing.
    """
    provider = providers.get(setting.provider)
    values = setting.setting | secrets
    if provider is None:
        provider = Provider(setting.provider, {CUSTOM_DIALECT: _no_headers}, (), "")
        origin, base_path = _NOWHERE, b""
        auth = _auth_by_name(values)
    elif not provider.auth:
        origin, base_path, auth = _NOWHERE, b"", {}
    else:
        origin, base_path = parse_base(base_of(provider, values))
        auth = {dialect: make(values) for dialect, make in provider.auth.items()}
    return Target(
        ref=SettingRef(setting.id, revision, setting.provider),
        provider=provider,
        origin=origin,
        base_path=base_path,
        auth_headers=auth,
        secrets=tuple(value.encode("latin-1") for value in secrets.values() if len(value) >= 8),
        allowed_models=frozenset(setting.allowed_models),
        cost_map=None if setting.cost_map is None else setting.cost_map.encode(),
        asks_usage_on_streams=setting.usage_on_streams == "ask" and provider.takes_stream_options,
        weight=setting.weight,
        priority=setting.priority,
    )


def auth_of_custom(target: Target, member: str) -> AuthHeaders | None:
    """How a custom provider is shown the member of its setting; None when it holds none such."""
    return target.auth_headers.get(_BY_NAME + member)


def _auth_by_name(values: Mapping[str, str]) -> dict[str, AuthHeaders]:
    """Which member is the credential is said elsewhere, and may change: a header for each."""
    headers: dict[str, AuthHeaders] = {CUSTOM_DIALECT: ()}
    for name, value in values.items():
        if _HEADER_SAFE(value):
            headers[_BY_NAME + name] = ((b"authorization", b"Bearer " + value.encode("ascii")),)
    return headers


def _no_headers(_: Mapping[str, str]) -> AuthHeaders:
    return ()
