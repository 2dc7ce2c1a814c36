"""Provider settings: where and as whom to call a provider."""

import time
from typing import Any, Final, Literal, cast

import msgspec

from contracts.config.provider_settings import CostMap, ProviderSetting
from contracts.ids import new_id, to_text
from gateway.administration.invalid import Invalid, holds_nul
from gateway.administration.store import Change
from gateway.ports import Sealer
from gateway.routing.targets import BadBaseUrl, parse_base
from gateway.values import Provider

COST_MAP_BYTES_MAX = 65_536
"""It travels in every event that it prices."""

SECRET_FIELDS: Final = frozenset({"apikey", "awsSecretAccessKey", "awsAccessKeyId"})


class NewProviderSetting(msgspec.Struct, rename="camel"):
    """What a client sends to create one. `cost_map` keeps its own JSON text."""

    provider: str = ""
    setting: dict[str, str] | None = None
    name: str | None = None
    allowed_models: list[str] | None = None
    cost_map: msgspec.Raw | None = None
    usage_on_streams: str | None = None


def checked_cost_map(raw: msgspec.Raw | None) -> str | None:
    """A cost map's JSON text. Raises Invalid when a price is no non-negative JSON number."""
    if raw is None or bytes(raw) == b"null":
        return None
    if len(bytes(raw)) > COST_MAP_BYTES_MAX:
        raise Invalid(f"costMap is over the limit of {COST_MAP_BYTES_MAX} bytes")
    try:
        read = msgspec.json.decode(bytes(raw), type=CostMap)
    except RecursionError:
        raise Invalid("costMap is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise Invalid(f"costMap is not valid: {error}") from None
    for prices in (
        read.prompt_cost_per_model,
        read.completion_cost_per_model,
        read.embeddings_cost_per_model,
    ):
        for model, price in (prices or {}).items():
            text = bytes(price).decode()
            if not text[:1].isdigit():
                raise Invalid(f"costMap: the price of {model} must be a non-negative number")
    return bytes(raw).decode()


async def create(
    new: NewProviderSetting, change: Change, sealer: Sealer, providers: dict[str, Provider]
) -> ProviderSetting:
    """Raises Invalid, SealUnavailable."""
    if not new.provider:
        raise Invalid("provider field cannot be empty")
    provider = providers.get(new.provider)
    if provider is None:
        raise Invalid(f"provider {new.provider} is not supported")
    values = new.setting or {}
    missing = [field for field in provider.required if not values.get(field)]
    if missing:
        raise Invalid(f"provider {new.provider} is missing fields {','.join(missing)}")
    _check_values(values)
    if holds_nul([new.name or "", *(new.allowed_models or ())]):
        raise Invalid("name and allowedModels must not hold NUL")
    if new.usage_on_streams not in (None, "ask", "never"):
        raise Invalid("usageOnStreams must be ask or never")
    now = int(time.time())
    setting_id = to_text(new_id())
    setting = ProviderSetting(
        id=setting_id,
        provider=new.provider,
        name=new.name or "",
        setting={name: value for name, value in values.items() if name not in SECRET_FIELDS},
        sealed=await sealer.seal(
            {name: value for name, value in values.items() if name in SECRET_FIELDS}, setting_id
        ),
        allowed_models=tuple(new.allowed_models or ()),
        cost_map=checked_cost_map(new.cost_map),
        usage_on_streams=cast(Literal["ask", "never"], new.usage_on_streams or "ask"),
        created_at=now,
        updated_at=now,
    )
    await change.put(setting_id, setting)
    return setting


def _check_values(values: dict[str, str]) -> None:
    if "url" in values:
        try:
            parse_base(values["url"])
        except BadBaseUrl as error:
            raise Invalid(f"setting.url: {error}") from None
    for name, value in values.items():
        if holds_nul((name, value)):
            raise Invalid("setting must not hold NUL")
        if name == "apikey" and not _is_header_safe(value):
            raise Invalid("setting.apikey must be printable ASCII")


def _is_header_safe(value: str) -> bool:
    return all(0x21 <= ord(char) <= 0x7E for char in value)


def to_wire(setting: ProviderSetting) -> dict[str, Any]:
    """One as clients see it: secrets left out, `setting` left out when nothing else is in it."""
    wire: dict[str, Any] = {
        "createdAt": setting.created_at,
        "updatedAt": setting.updated_at,
        "provider": setting.provider,
    }
    if setting.setting:
        wire["setting"] = setting.setting
    wire |= {
        "id": setting.id,
        "name": setting.name,
        "allowedModels": setting.allowed_models,
        "costMap": None if setting.cost_map is None else msgspec.Raw(setting.cost_map.encode()),
    }
    if setting.usage_on_streams != "ask":
        wire["usageOnStreams"] = setting.usage_on_streams
    return wire
