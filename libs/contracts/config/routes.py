"""A route: ordered steps over providers of one dialect."""

from typing import Literal

import msgspec


class RouteStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """One provider to try. Durations are Go texts. `request_params` is a JSON object as sent."""

    provider: str
    model: str
    retries: int = 0
    retry_interval: str = ""
    timeout: str = ""
    params: dict[str, str] = {}
    request_params: str = ""


class CacheConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether answers are kept, and for how long (a Go duration)."""

    enabled: bool = False
    ttl: str = ""


class Route(msgspec.Struct, frozen=True, omit_defaults=True):
    """Found under `/api/routes` + `path` by the keys in `key_ids`. Times are Unix seconds.

    `failover_on` says which answers of a step go on to the next: those that another provider may
    heal, or any but 200.
    """

    id: str
    name: str
    path: str
    created_at: int
    updated_at: int
    key_ids: tuple[str, ...] = ()
    steps: tuple[RouteStep, ...] = ()
    cache_config: CacheConfig = CacheConfig()
    retry_strategy: str = ""
    request_format: str = ""
    failover_on: Literal["retryable", "any"] = "retryable"
