"""Every kind of configuration: its name in the store and its struct. A new kind is one line here."""

from typing import Final

import msgspec

from contracts.config.admin_tokens import AdminToken
from contracts.config.keys import ApiKey, TagLimits
from contracts.config.policies import Policy
from contracts.config.provider_settings import CustomProvider, ModelAlias, ProviderSetting
from contracts.config.routes import Route
from contracts.config.users import User

KIND_BY_STRUCT: Final[dict[type[msgspec.Struct], str]] = {
    ApiKey: "key",
    ProviderSetting: "provider_setting",
    User: "user",
    ModelAlias: "model_alias",
    CustomProvider: "custom_provider",
    Route: "route",
    Policy: "policy",
    TagLimits: "tag_limits",
    AdminToken: "admin_token",
}

STRUCT_BY_KIND: Final = {kind: struct for struct, kind in KIND_BY_STRUCT.items()}

SECRET_MEMBERS: Final = frozenset({"sealed", "shown_key", "token_hash"})
"""Members of a document that no log may show."""
