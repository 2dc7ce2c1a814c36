"""What an operator sets, as services see it: keys and provider settings. Secrets included."""

import msgspec


class AllowedPath(msgspec.Struct, frozen=True):
    """A route template and a method, as `allowedPaths` names them."""

    path: str
    method: str


class CostMap(msgspec.Struct, frozen=True, rename="camel"):
    """A setting's own prices by model, USD per 1,000 tokens, as JSON numbers in text.

    Each map may be absent. Numbers are kept as the text they were written in: money is no float.
    """

    prompt_cost_per_model: dict[str, msgspec.Raw] | None = None
    completion_cost_per_model: dict[str, msgspec.Raw] | None = None
    embeddings_cost_per_model: dict[str, msgspec.Raw] | None = None


class ProviderSetting(msgspec.Struct, frozen=True):
    """Where and as whom to call a provider; immutable per revision."""

    id: str
    provider: str
    name: str
    setting: dict[str, str]
    allowed_models: tuple[str, ...]
    cost_map: bytes | None
    usage_on_streams: str
    revision: int
    created_at: int
    updated_at: int


class ApiKey(msgspec.Struct, frozen=True):
    """A client's key. `key_hash` is lower-case hex SHA-256 of what the client sends."""

    key_id: str
    key_hash: str
    name: str
    tags: tuple[str, ...]
    setting_ids: tuple[str, ...]
    allowed_paths: tuple[AllowedPath, ...] | None
    revoked: bool
    revoked_reason: str
    stores_request: bool
    stores_response: bool
    rotation_enabled: bool
    policy_id: str
    created_at: int
    updated_at: int
    revision: int
