"""A route: ordered steps over providers of one dialect."""

import re
from typing import Final, Literal

import msgspec

EMBEDDINGS_FORMAT: Final = "openai_embeddings"
"""The request format of a route whose steps answer with vectors."""

_EMBEDDING_MODEL: Final = re.compile(r"embed|(?:^|[^a-z])ada(?:[^a-z]|$)", re.IGNORECASE)


def is_embedding_model(model: str) -> bool:
    """Whether a model's name says that it answers with vectors: `text-embedding-3-large`, `ada`."""
    return _EMBEDDING_MODEL.search(model) is not None


class RouteStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """One provider to try. Durations are Go texts; "" of an interval is a second.

    `params` says what the provider's URL needs, `request_params` is a JSON object as it was sent,
    whose members replace those of a request.
    """

    provider: str
    model: str
    retries: int = 0
    retry_interval: str = ""
    timeout: str = ""
    params: dict[str, str] | None = None
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

    @property
    def wants_embeddings(self) -> bool:
        """Whether it answers with vectors: its format says so, or else its first step's model."""
        if self.request_format:
            return self.request_format == EMBEDDINGS_FORMAT
        return bool(self.steps) and is_embedding_model(self.steps[0].model)
