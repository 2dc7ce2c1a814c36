"""Routes as clients send and see them."""

from typing import Literal

import msgspec

from contracts.config.routes import CacheConfig, Route, RouteStep
from gateway.administration.wire import Object


class StepWire(msgspec.Struct, rename="camel"):
    """One provider to try, sent and seen alike. `request_params` keeps its own JSON text."""

    retries: int = 0
    retry_interval: str = ""
    provider: str = ""
    request_params: Object | None = None
    params: dict[str, str] | None = None
    model: str = ""
    timeout: str = ""


class CacheConfigWire(msgspec.Struct, rename="camel"):
    """Whether answers are kept, and for how long."""

    enabled: bool = False
    ttl: str = ""


class NewRoute(msgspec.Struct, rename="camel"):
    """What a client sends to create one."""

    name: str = ""
    path: str = ""
    key_ids: list[str] | None = None
    steps: list[StepWire] | None = None
    cache_config: CacheConfigWire | None = None
    retry_strategy: str = ""
    request_format: str = ""
    failover_on: str = "retryable"


class RouteChange(msgspec.Struct, rename="camel"):
    """What a client sends to change one: what is absent stays, what is given replaces."""

    name: str | None = None
    path: str | None = None
    key_ids: list[str] | None = None
    steps: list[StepWire] | None = None
    cache_config: CacheConfigWire | None = None
    retry_strategy: str | None = None
    request_format: str | None = None
    failover_on: str | None = None


class RouteWire(msgspec.Struct, frozen=True, rename="camel"):
    """One as clients see it; `failover_on` only where it was set."""

    id: str
    retry_strategy: str
    request_format: str
    created_at: int
    updated_at: int
    name: str
    path: str
    key_ids: tuple[str, ...]
    steps: list[StepWire]
    cache_config: CacheConfigWire
    failover_on: Literal["any"] | msgspec.UnsetType = msgspec.UNSET


def to_wire(route: Route) -> RouteWire:
    """One as clients see it."""
    return RouteWire(
        id=route.id,
        retry_strategy=route.retry_strategy,
        request_format=route.request_format,
        created_at=route.created_at,
        updated_at=route.updated_at,
        name=route.name,
        path=route.path,
        key_ids=route.key_ids,
        steps=[_step(step) for step in route.steps],
        cache_config=_cache_config(route.cache_config),
        failover_on="any" if route.failover_on == "any" else msgspec.UNSET,
    )


def as_sent(route: Route) -> NewRoute:
    """What a client would send to create one like it."""
    return NewRoute(
        name=route.name,
        path=route.path,
        key_ids=list(route.key_ids),
        steps=[_step(step) for step in route.steps],
        cache_config=_cache_config(route.cache_config),
        retry_strategy=route.retry_strategy,
        request_format=route.request_format,
        failover_on=route.failover_on,
    )


def _step(step: RouteStep) -> StepWire:
    return StepWire(
        retries=step.retries,
        retry_interval=step.retry_interval,
        provider=step.provider,
        request_params=msgspec.Raw(step.request_params.encode()) if step.request_params else None,
        params=None if step.params is None else dict(sorted(step.params.items())),
        model=step.model,
        timeout=step.timeout,
    )


def _cache_config(config: CacheConfig) -> CacheConfigWire:
    return CacheConfigWire(enabled=config.enabled, ttl=config.ttl)
