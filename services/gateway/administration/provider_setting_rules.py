"""What may stand in a provider setting. Every rule raises Invalid."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final, Literal, cast
from urllib.parse import urlsplit

import msgspec

from contracts.config.provider_settings import CostMap
from gateway.administration.invalid import Invalid, holds_nul
from rating.cost_map import is_price

COST_MAP_BYTES_MAX: Final = 65_536
"""It travels in every event that it prices."""
NAME_BYTES_MAX: Final = 65_536
SETTING_BYTES_MAX: Final = 65_536
"""Of all names and values in `setting` together."""
ALLOWED_MODELS_BYTES_MAX: Final = 262_144
SHARE_MAX: Final = 1_000_000
"""Of `weight` and of `priority`."""

SHOWN_MEMBERS: Final = frozenset(
    {
        "url",
        "resourceName",
        "deploymentId",
        "apiVersion",
        "awsRegion",
        "region",
        "location",
        "project",
        "projectId",
        "accountId",
        "organization",
    }
)
"""What of `setting` may be shown. Everything else is a secret, whatever it is called."""

_LABELS: Final = frozenset({"resourceName", "awsRegion", "region", "location"})
"""They become part of a host name."""
_is_label: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?").fullmatch
_is_header_safe: Final = re.compile(r"[\x21-\x7e]+").fullmatch
_is_text: Final = re.compile(r"[\t\r\n\x20-\x7e]+").fullmatch


def check_members(values: dict[str, str], credential: str) -> None:
    """The names and values of `setting`, the URL's address aside.

    `credential` names the member that is sent to the provider in a header.
    """
    if sum(len(text.encode()) for pair in values.items() for text in pair) > SETTING_BYTES_MAX:
        raise Invalid(f"setting is over the limit of {SETTING_BYTES_MAX} bytes")
    if holds_nul([text for pair in values.items() for text in pair]):
        raise Invalid("setting must not hold NUL")
    for name, value in values.items():
        if name in _LABELS and not _is_label(value):
            raise Invalid(f"setting.{name} must be letters, digits and hyphens")
        if name not in SHOWN_MEMBERS and not _is_text(value):
            raise Invalid(f"setting.{name} must be ASCII")
        if name in ("apikey", credential) and not _is_header_safe(value):
            raise Invalid(f"setting.{name} must be printable ASCII")


def check_required(provider: str, required: Iterable[str], values: dict[str, str]) -> None:
    """The members a provider's setting cannot do without."""
    missing = [field for field in required if not values.get(field)]
    if missing:
        raise Invalid(f"provider {provider} is missing fields {','.join(missing)}")


def host_of(url: str) -> tuple[str, str]:
    """What decides who is called: the scheme, and the host with its port as it is written."""
    parts = urlsplit(url.lower())
    return parts.scheme, parts.netloc


def checked_name(name: str) -> str:
    """Any text up to NAME_BYTES_MAX."""
    if len(name.encode()) > NAME_BYTES_MAX:
        raise Invalid(f"name is over the limit of {NAME_BYTES_MAX} bytes")
    if holds_nul([name]):
        raise Invalid("name must not hold NUL")
    return name


def checked_models(models: list[str]) -> tuple[str, ...]:
    """Any texts, together up to ALLOWED_MODELS_BYTES_MAX."""
    if sum(len(model.encode()) for model in models) > ALLOWED_MODELS_BYTES_MAX:
        raise Invalid(f"allowedModels is over the limit of {ALLOWED_MODELS_BYTES_MAX} bytes")
    if holds_nul(models):
        raise Invalid("allowedModels must not hold NUL")
    return tuple(models)


def checked_usage(text: str) -> Literal["ask", "never"]:
    """Whether the usage of streams is asked for."""
    if text not in ("ask", "never"):
        raise Invalid("usageOnStreams must be ask or never")
    return cast(Literal["ask", "never"], text)


def checked_share(name: str, value: int, least: int) -> int:
    """A weight or a priority."""
    if not least <= value <= SHARE_MAX:
        raise Invalid(f"{name} must be from {least} to {SHARE_MAX}")
    return value


def checked_cost_map(raw: msgspec.Raw | None) -> str | None:
    """A cost map's JSON text; every price is a JSON number that can be charged.

    An unknown member would be shown as if it set prices.
    """
    if raw is None or bytes(raw) == b"null":
        return None
    if len(bytes(raw)) > COST_MAP_BYTES_MAX:
        raise Invalid(f"costMap is over the limit of {COST_MAP_BYTES_MAX} bytes")
    try:
        read = msgspec.json.decode(bytes(raw), type=CostMap)
        names = msgspec.json.decode(bytes(raw), type=dict[str, msgspec.Raw]).keys()
    except RecursionError:
        raise Invalid("costMap is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise Invalid(f"costMap is not valid: {error}") from None
    unknown = sorted(names - set(CostMap.__struct_encode_fields__))
    if unknown:
        raise Invalid(f"costMap: {unknown[0][:100]} is no member of a cost map")
    for prices in (
        read.prompt_cost_per_model,
        read.completion_cost_per_model,
        read.embeddings_cost_per_model,
    ):
        for model, price in (prices or {}).items():
            text = bytes(price).decode()
            if not text[:1].isdigit():
                raise Invalid(f"costMap: the price of {model} must be a non-negative number")
            if not _can_be_charged(text):
                raise Invalid(f"costMap: the price of {model} is no amount of money")
    return bytes(raw).decode()


def _can_be_charged(text: str) -> bool:
    try:
        return is_price(Decimal(text))
    except ArithmeticError:  # An exponent beyond all bounds.
        return False
