"""Custom providers: vendors that an operator describes, and where their JSON holds what we read."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from contracts.config.provider_settings import CustomProvider, ProviderSetting, RouteConfig
from contracts.ids import new_id, to_text
from gateway.administration.custom_providers_wire import (
    CustomProviderChange,
    NewCustomProvider,
    NewRouteConfig,
    wire_config,
)
from gateway.administration.invalid import Conflict, Invalid, NotFound, holds_nul
from gateway.administration.provider_setting_rules import host_of
from gateway.administration.store import Change, Query, Reading, may_redirect
from gateway.ports import CheckUpstreamUrl
from gateway.providers.registry import PROVIDERS
from rating.json_location import BadLocation, parse_location

NAME_BYTES_MAX: Final = 255
"""Of a provider's name and of its authentication parameter. The name travels in every event."""
PATH_BYTES_MAX: Final = 1024
TEXT_BYTES_MAX: Final = 4096
"""Of a target URL and of the word that ends a stream."""
ROUTE_CONFIGS_MAX: Final = 100
EMPTY_MESSAGES_MAX: Final = 2**31 - 1

RESERVED_NAMES: Final = frozenset(
    {"openai", "anthropic", "azure", "deepinfra", "vllm", "bedrock", *PROVIDERS}
)

_REQUIRED: Final = (
    "path",
    "target_url",
    "model_location",
    "request_prompt_location",
    "response_completion_location",
)
_LOCATIONS: Final = (
    "model_location",
    "request_prompt_location",
    "response_completion_location",
    "stream_location",
    "stream_response_completion_location",
)


async def check(new: NewCustomProvider, check_url: CheckUpstreamUrl) -> None:
    """All that needs no database, names being looked up in the network. Raises Invalid."""
    name = new.provider.lower()
    configs = new.route_configs or []
    if name in RESERVED_NAMES:
        raise Invalid("provider cannot be named openai or anthropic")
    if _has_space(name):
        raise Invalid("provider cannot contain white space")
    if any(char in "/?#%" for char in name):
        raise Invalid("provider cannot contain any of / ? # %")
    _check_size("provider", name, NAME_BYTES_MAX)
    _check_paths(configs)
    _check_authentication_param(new.authentication_param)
    empty = [
        *(["provider"] if not name else []),
        *(["route_configs"] if not configs else []),
        *[field for i, config in enumerate(configs) for field in _empty_fields(i, config)],
    ]
    if empty:
        raise Invalid(f"empty fields in provider: {','.join(empty)}")
    if holds_nul([name]):
        raise Invalid("NUL is not allowed")
    _check_configs(configs)
    await _check_urls(configs, check_url)


async def create(new: NewCustomProvider, change: Change) -> CustomProvider:
    """Of what `check` has passed. Raises Invalid."""
    provider = provider_of(to_text(new_id()), new, created_at=int(time.time()))
    try:
        await change.put(provider.id, provider)
    except Conflict:
        raise Invalid(
            "provider must be unique",
            kind="custom-provider-manager",
            title="creating a custom provider error",
        ) from None
    await _check_hosts(provider, (), change)
    return provider


def provider_of(provider_id: str, new: NewCustomProvider, *, created_at: int) -> CustomProvider:
    """Of what `check` has passed."""
    return CustomProvider(
        id=provider_id,
        provider=new.provider.lower(),
        route_configs=tuple(_stored(config) for config in new.route_configs or ()),
        authentication_param=new.authentication_param.lower(),
        created_at=created_at,
        updated_at=created_at,
    )


async def check_change(sent: CustomProviderChange, check_url: CheckUpstreamUrl) -> None:
    """All that needs no database. Raises Invalid."""
    configs = sent.route_configs or []
    _check_paths(configs)
    _check_authentication_param(sent.authentication_param or "")
    _check_configs(configs)
    await _check_urls(configs, check_url)


async def patch(provider_id: str, sent: CustomProviderChange, change: Change) -> CustomProvider:
    """Of what `check_change` has passed. Members that are not empty win; new paths come last.

    Raises NotFound, Invalid.
    """
    existing = await get(provider_id, change)
    merged = {config.path: wire_config(config) for config in existing.route_configs}
    empty: list[str] = []
    for i, config in enumerate(sent.route_configs or ()):
        before = merged.get(config.path)
        merged[config.path] = config if before is None else _merged(before, config)
        empty += _empty_fields(i, merged[config.path])
    if empty:
        raise Invalid(f"empty fields in provider: {','.join(empty)}")
    _check_count(len(merged))
    param = sent.authentication_param
    provider = msgspec.structs.replace(
        existing,
        route_configs=tuple(_stored(config) for config in merged.values()),
        authentication_param=existing.authentication_param if param is None else param.lower(),
        updated_at=int(time.time()),
    )
    await _check_hosts(provider, existing.route_configs, change)
    await change.put(provider_id, provider)
    return provider


async def get(provider_id: str, reading: Reading) -> CustomProvider:
    """Raises NotFound."""
    provider = await reading.get(CustomProvider, provider_id)
    if provider is None:
        raise NotFound(f"custom provider is not found for id: {provider_id}")
    return provider


async def delete(provider_id: str, is_forced: bool, change: Change) -> None:
    """Raises NotFound, and Invalid while provider settings use it, unless forced."""
    provider = await get(provider_id, change)
    if not is_forced:
        users = await change.count(ProviderSetting, Query(holds={"provider": provider.provider}))
        if users:
            raise Invalid(
                f"{users} provider settings use provider {provider.provider};"
                " delete them first or add force=true"
            )
    await change.delete(CustomProvider, provider_id)


async def _check_hosts(
    provider: CustomProvider, before: Sequence[RouteConfig], change: Change
) -> None:
    """Raises Invalid when a token would have stored credentials shown to a host that is new."""
    known = {host_of(config.target_url) for config in before}
    new = [one.target_url for one in provider.route_configs if host_of(one.target_url) not in known]
    if not new or may_redirect(change.actor):
        return
    settings = await change.find(ProviderSetting, Query(holds={"provider": provider.provider}))
    holding = sum(bool(setting.sealed) for setting in settings)
    if holding:
        raise Invalid(
            f"{new[0]} is on another host, and {holding} provider settings hold secrets for"
            f" provider {provider.provider}: an admin token cannot send them there"
        )


def _check_paths(configs: Sequence[NewRouteConfig]) -> None:
    seen: set[str] = set()
    for config in configs:
        if _has_space(config.path):
            raise Invalid("route configs path cannot contain white space")
        if not config.path.startswith("/"):
            raise Invalid('route configs path must start with "/"')
        if config.path in seen:
            raise Invalid("route configs cannot contain duplicated paths")
        seen.add(config.path)


def _empty_fields(i: int, config: NewRouteConfig) -> list[str]:
    stream = ("stream_end_word", "stream_response_completion_location")
    fields = (*(stream if config.stream_location else ()), *_REQUIRED)
    return [f"route_configs.[{i}].{field}" for field in fields if not getattr(config, field)]


def _check_configs(configs: Sequence[NewRouteConfig]) -> None:
    """Sizes and spellings; what is empty is not looked at."""
    _check_count(len(configs))
    for i, config in enumerate(configs):
        place = f"route_configs.[{i}]"
        _check_size(f"{place}.path", config.path, PATH_BYTES_MAX)
        _check_size(f"{place}.target_url", config.target_url, TEXT_BYTES_MAX)
        _check_size(f"{place}.stream_end_word", config.stream_end_word, TEXT_BYTES_MAX)
        if holds_nul(text for text in msgspec.structs.astuple(config) if isinstance(text, str)):
            raise Invalid(f"{place} must not hold NUL")
        for field in _LOCATIONS:
            text = getattr(config, field)
            try:
                if text:
                    parse_location(text)
            except BadLocation as error:
                raise Invalid(f"{place}.{field}: {error}") from None
        if not 0 <= config.stream_max_empty_messages <= EMPTY_MESSAGES_MAX:
            raise Invalid(f"{place}.stream_max_empty_messages is out of range")


def _check_count(count: int) -> None:
    if count > ROUTE_CONFIGS_MAX:
        raise Invalid(f"route_configs must not be more than {ROUTE_CONFIGS_MAX}")


async def _check_urls(configs: Sequence[NewRouteConfig], check_url: CheckUpstreamUrl) -> None:
    outcomes = await asyncio.gather(
        *(
            _check_url(f"route_configs.[{i}].target_url", config.target_url, check_url)
            for i, config in enumerate(configs)
            if config.target_url
        ),
        return_exceptions=True,
    )
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


async def _check_url(place: str, url: str, check_url: CheckUpstreamUrl) -> None:
    try:
        await check_url(url)
    except Invalid as error:
        raise Invalid(f"{place}: {error}") from None
    parts = urlsplit(url)
    if not (parts.path + parts.query).isascii():
        raise Invalid(f"{place}: path and query must be written in ASCII")
    if "#" in url:
        raise Invalid(f"{place}: a fragment is never sent; leave it out")


def _check_authentication_param(text: str) -> None:
    if _has_space(text):
        raise Invalid("authentication_param cannot contain white space")
    _check_size("authentication_param", text.lower(), NAME_BYTES_MAX)
    if holds_nul([text]):
        raise Invalid("NUL is not allowed")


def _check_size(name: str, text: str, bytes_max: int) -> None:
    if len(text.encode()) > bytes_max:
        raise Invalid(f"{name} must not be longer than {bytes_max} bytes")


def _has_space(text: str) -> bool:
    return any(char.isspace() for char in text)


def _merged(before: NewRouteConfig, config: NewRouteConfig) -> NewRouteConfig:
    given = {name: value for name, value in msgspec.structs.asdict(config).items() if value}
    return msgspec.structs.replace(before, **given)


def _stored(config: NewRouteConfig) -> RouteConfig:
    return RouteConfig(**msgspec.structs.asdict(config))
