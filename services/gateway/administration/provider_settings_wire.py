"""Provider settings as clients send and see them."""

from typing import Annotated, Final

import msgspec

from contracts.config.provider_settings import ProviderSetting
from gateway.administration.go_json import Placed, bare_name
from gateway.administration.provider_setting_rules import SHOWN_MEMBERS

CostMapText = Annotated[
    msgspec.Raw,
    msgspec.Meta(
        extra_json_schema={
            "type": "object",
            "properties": {
                name: {"type": ["object", "null"], "additionalProperties": {"type": "number"}}
                for name in (
                    "promptCostPerModel",
                    "completionCostPerModel",
                    "embeddingsCostPerModel",
                )
            },
        }
    ),
]
"""A cost map digit for digit: USD per 1,000 tokens by model."""


_BESIDE: Final = {
    bare_name(name): name
    for name in ("allowedModels", "costMap", "usageOnStreams", "weight", "priority")
}
_INSIDE: Final = {
    bare_name(name): name
    for name in (*SHOWN_MEMBERS, "apikey", "awsAccessKeyId", "awsSecretAccessKey")
}


class _SettingBody(Placed):
    """Of `setting` and of what stands beside it, each in its place.

    `setting` takes any name, and unknown names beside it are passed over: a price or an address
    in the wrong place would be lost without a word.
    """

    @classmethod
    def check_places(cls, members: dict[str, msgspec.Raw]) -> None:
        """Raises ValidationError."""
        for name, raw in members.items():
            if name.lower() == "setting" and bytes(raw)[:1] == b"{":
                for inner in msgspec.json.decode(bytes(raw), type=dict[str, msgspec.Raw]):
                    if bare_name(inner) in _BESIDE:
                        meant = _BESIDE[bare_name(inner)]
                        raise msgspec.ValidationError(f"{meant} belongs beside setting, not in it")
            elif bare_name(name) in _INSIDE:
                meant = _INSIDE[bare_name(name)]
                raise msgspec.ValidationError(f"{meant} belongs in setting, not beside it")


class NewProviderSetting(_SettingBody, rename="camel"):
    """What a client sends to create one. `cost_map` keeps its own JSON text."""

    provider: str = ""
    setting: dict[str, str] | None = None
    name: str | None = None
    allowed_models: list[str] | None = None
    cost_map: msgspec.Raw | None = None
    usage_on_streams: str | None = None
    weight: int | None = None
    priority: int | None = None


class ProviderSettingChange(_SettingBody, rename="camel"):
    """What a client sends to change one; absent keeps. A `setting` holds every required member."""

    setting: dict[str, str] | None = None
    name: str | None = None
    allowed_models: list[str] | None = None
    cost_map: msgspec.Raw | None = None
    usage_on_streams: str | None = None
    weight: int | None = None
    priority: int | None = None


class ProviderSettingWire(msgspec.Struct, frozen=True, rename="camel"):
    """One as clients see it: secrets left out, `setting` too when nothing else is in it."""

    created_at: int
    updated_at: int
    provider: str
    id: str
    name: str
    allowed_models: tuple[str, ...]
    cost_map: CostMapText | None
    setting: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    usage_on_streams: str | msgspec.UnsetType = msgspec.UNSET
    weight: int | msgspec.UnsetType = msgspec.UNSET
    priority: int | msgspec.UnsetType = msgspec.UNSET


def to_wire(setting: ProviderSetting) -> ProviderSettingWire:
    """Our own members are shown only where they are not the default."""
    unset = msgspec.UNSET
    return ProviderSettingWire(
        created_at=setting.created_at,
        updated_at=setting.updated_at,
        provider=setting.provider,
        id=setting.id,
        name=setting.name,
        allowed_models=setting.allowed_models,
        cost_map=None if setting.cost_map is None else msgspec.Raw(setting.cost_map.encode()),
        setting=setting.setting or unset,
        usage_on_streams=unset if setting.usage_on_streams == "ask" else setting.usage_on_streams,
        weight=unset if setting.weight == 1 else setting.weight,
        priority=setting.priority or unset,
    )
