"""A provider setting: where and as whom to call a provider."""

from typing import Literal

import msgspec


class CostMap(msgspec.Struct, frozen=True, rename="camel"):
    """A setting's own prices by model, USD per 1,000 tokens, as JSON numbers in text.

    Each map may be absent. Numbers are kept as the text they were written in: money is no float.
    """

    prompt_cost_per_model: dict[str, msgspec.Raw] | None = None
    completion_cost_per_model: dict[str, msgspec.Raw] | None = None
    embeddings_cost_per_model: dict[str, msgspec.Raw] | None = None


class ProviderSetting(msgspec.Struct, frozen=True, omit_defaults=True):
    """Immutable per revision. Times are Unix seconds.

    `setting` holds what may be shown; secrets are in `sealed`, one text for all of them, whose
    first word names how it is sealed. `cost_map` is the JSON text as it was sent. Among a key's
    settings the lowest `priority` goes first, and `weight` shares the calls within one.
    """

    id: str
    provider: str
    created_at: int
    updated_at: int
    name: str = ""
    setting: dict[str, str] = {}
    sealed: str = ""
    allowed_models: tuple[str, ...] = ()
    cost_map: str | None = None
    usage_on_streams: Literal["ask", "never"] = "ask"
    weight: int = 1
    priority: int = 0


class ModelAlias(msgspec.Struct, frozen=True, omit_defaults=True):
    """A name, or a pattern with `*`, for a model; the lowest `position` is tried first."""

    id: str
    alias: str
    model: str
    created_at: int
    updated_at: int
    setting_id: str = ""
    position: int = 0


class RouteConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """One path of a custom provider. Locations are paths into JSON, as gjson writes them."""

    path: str
    target_url: str
    model_location: str
    request_prompt_location: str
    response_completion_location: str
    stream_location: str = ""
    stream_end_word: str = ""
    stream_response_completion_location: str = ""
    stream_max_empty_messages: int = 0


class CustomProvider(msgspec.Struct, frozen=True, omit_defaults=True):
    """A provider that an operator described."""

    id: str
    provider: str
    created_at: int
    updated_at: int
    route_configs: tuple[RouteConfig, ...] = ()
    authentication_param: str = ""
