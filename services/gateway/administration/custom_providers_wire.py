"""Custom providers as clients send and see them."""

import msgspec

from contracts.config.provider_settings import CustomProvider, RouteConfig


class NewRouteConfig(msgspec.Struct):
    """One path, as clients send it."""

    path: str = ""
    target_url: str = ""
    model_location: str = ""
    request_prompt_location: str = ""
    response_completion_location: str = ""
    stream_location: str = ""
    stream_end_word: str = ""
    stream_response_completion_location: str = ""
    stream_max_empty_messages: int = 0


class NewCustomProvider(msgspec.Struct):
    """What a client sends to create one."""

    provider: str = ""
    route_configs: list[NewRouteConfig] | None = None
    authentication_param: str = ""


class CustomProviderChange(msgspec.Struct):
    """What a client sends to change one: route configs are merged by path, the rest replaced."""

    route_configs: list[NewRouteConfig] | None = None
    authentication_param: str | None = None


class CustomProviderWire(msgspec.Struct, frozen=True):
    """One as clients see it."""

    id: str
    created_at: int
    updated_at: int
    provider: str
    route_configs: list[NewRouteConfig]
    authentication_param: str


def to_wire(provider: CustomProvider) -> CustomProviderWire:
    """One as clients see it."""
    return CustomProviderWire(
        id=provider.id,
        created_at=provider.created_at,
        updated_at=provider.updated_at,
        provider=provider.provider,
        route_configs=[wire_config(config) for config in provider.route_configs],
        authentication_param=provider.authentication_param,
    )


def wire_config(config: RouteConfig) -> NewRouteConfig:
    """One path as clients see it."""
    return NewRouteConfig(**msgspec.structs.asdict(config))
