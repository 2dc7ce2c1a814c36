"""Routes: ordered steps over providers of one dialect, under a path of their own."""

import time
from collections.abc import Mapping, Sequence
from typing import Final, Literal, cast

import msgspec

from contracts.config.keys import ApiKey
from contracts.config.provider_settings import ProviderSetting
from contracts.config.routes import CacheConfig, Route, RouteStep
from contracts.ids import new_id, to_text
from gateway.administration.invalid import Conflict, Invalid, NotFound
from gateway.administration.route_rules import KIND, check
from gateway.administration.routes_wire import NewRoute, RouteChange, StepWire, as_sent
from gateway.administration.store import Change, Query, Reading
from gateway.values import Provider

_CREATING: Final = "creating a route error"
_UPDATING: Final = "updating a route error"


def dialects(providers: Mapping[str, Provider]) -> dict[str, frozenset[str]]:
    """The dialects of every provider that a step may name."""
    return {name: frozenset(one.auth) for name, one in providers.items() if one.auth}


async def create(new: NewRoute, change: Change, providers: Mapping[str, Provider]) -> Route:
    """Raises Invalid."""
    check(new, dialects(providers), _CREATING)
    key_ids = tuple(dict.fromkeys(new.key_ids or ()))
    keys = await change.find(ApiKey, Query(ids=key_ids))
    if len(keys) != len(key_ids):
        raise Invalid("specified key ids are not found")
    await _check_coverage(new.steps or (), keys, change, _CREATING)
    now = int(time.time())
    route = route_of(to_text(new_id()), new, created_at=now, updated_at=now)
    await _put(route, change)
    return route


async def patch(
    route_id: str, sent: RouteChange, change: Change, providers: Mapping[str, Provider]
) -> Route:
    """What is given replaces, and the whole is checked as a new one is. Raises NotFound, Invalid.

    Keys that were deleted since do not stand in the way of a change that does not name them.
    """
    existing = await get(route_id, change)
    given = {
        name: value for name, value in msgspec.structs.asdict(sent).items() if value is not None
    }
    new = msgspec.structs.replace(as_sent(existing), **given)
    check(new, dialects(providers), _UPDATING)
    key_ids = tuple(dict.fromkeys(new.key_ids or ()))
    keys = await change.find(ApiKey, Query(ids=key_ids))
    if sent.key_ids is not None and len(keys) != len(key_ids):
        raise Invalid("specified key ids are not found")
    if sent.key_ids is not None or sent.steps is not None:
        await _check_coverage(new.steps or (), keys, change, _UPDATING)
    route = route_of(route_id, new, created_at=existing.created_at, updated_at=int(time.time()))
    await _put(route, change)
    return route


async def get(route_id: str, reading: Reading) -> Route:
    """Raises NotFound."""
    route = await reading.get(Route, route_id)
    if route is None:
        raise NotFound(f"route is not found for id: {route_id}")
    return route


async def _put(route: Route, change: Change) -> None:
    try:
        await change.put(route.id, route)
    except Conflict:
        raise Invalid("path is not unique") from None


async def _check_coverage(
    steps: Sequence[StepWire], keys: Sequence[ApiKey], change: Change, title: str
) -> None:
    """Every key must have a setting for every provider that its calls may go to."""
    wanted = {step.provider for step in steps}
    setting_ids = tuple({setting_id for key in keys for setting_id in key.setting_ids})
    settings = await change.find(ProviderSetting, Query(ids=setting_ids))
    provider_by_setting = {setting.id: setting.provider for setting in settings}
    for key in keys:
        if not wanted <= {provider_by_setting.get(one) for one in key.setting_ids}:
            raise Invalid(
                "provider settings assosciated with the key cannot for accessing models"
                " specified in the route",
                kind=KIND,
                title=title,
            )


def route_of(route_id: str, new: NewRoute, *, created_at: int, updated_at: int) -> Route:
    """Of what `check` has passed, with the defaults filled in."""
    cache_config = new.cache_config
    assert cache_config is not None
    ttl = cache_config.ttl or ("168h" if cache_config.enabled else "")
    return Route(
        id=route_id,
        name=new.name,
        path=new.path,
        created_at=created_at,
        updated_at=updated_at,
        key_ids=tuple(dict.fromkeys(new.key_ids or ())),
        steps=tuple(_step(step) for step in new.steps or ()),
        cache_config=CacheConfig(enabled=cache_config.enabled, ttl=ttl),
        retry_strategy=new.retry_strategy,
        request_format=new.request_format,
        failover_on=cast(Literal["retryable", "any"], new.failover_on),
    )


def _step(step: StepWire) -> RouteStep:
    return RouteStep(
        provider=step.provider,
        model=step.model,
        retries=step.retries,
        retry_interval=step.retry_interval or "1s",
        timeout=step.timeout or "5m",
        params=step.params,
        request_params="" if step.request_params is None else bytes(step.request_params).decode(),
    )
