"""Compiles the price book from the genai-prices snapshot: canonical JSON, versioned by its hash.

The only module that imports genai_prices. It keeps what a price depends on (how a model is
recognised, from when, at which hours, for which prompt size and service tier) and drops the prose.

    python -m rating.compile_book > book.json
"""

import hashlib
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version as distribution_version
from typing import Any, Final

import msgspec

FORMAT: Final = 1
SOURCE: Final = "genai-prices"
_COMBINATIONS: Final = {"or_": "or", "and_": "and"}
_COMPARISONS: Final = ("equals", "starts_with", "ends_with", "contains", "regex")

# The source keeps this rule in code, not in data: audio shorter than ten seconds is billed as ten.
_MINIMUMS: Final = {
    ("groq", "whisper-large-v3"): {"audio_ms": 10_000},
    ("groq", "whisper-large-v3-turbo"): {"audio_ms": 10_000},
}


def compile_book() -> tuple[str, bytes]:
    """(version, canonical JSON) of the snapshot inside the installed genai-prices.

    `version` is the SHA-256 of the JSON, in hex. Nothing is fetched. Raises ValueError when the
    snapshot holds a kind of rule or price that this walker does not know: a price that is dropped
    in silence would be a wrong bill.
    """
    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.data_units import unit_data

    document = {
        "format": FORMAT,
        "source": f"{SOURCE} {distribution_version(SOURCE)}",
        "units": {unit["price_key"]: unit["per"] for unit in _with_price_keys(unit_data)},
        "providers": {provider.id: _provider(provider) for provider in get_snapshot().providers},
    }
    content = msgspec.json.encode(document, order="deterministic")
    return hashlib.sha256(content).hexdigest(), content


def _with_price_keys(unit_data: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"price_key": usage_key, **unit} for usage_key, unit in unit_data.items()]


def _provider(provider: Any) -> dict[str, Any]:
    return {
        "fallback": list(provider.fallback_model_providers or ()),
        "models": [_model(provider.id, model) for model in provider.models],
    }


def _model(provider_id: str, model: Any) -> dict[str, Any]:
    periods = model.prices if isinstance(model.prices, list) else None
    compiled: dict[str, Any] = {
        "id": model.id,
        "match": _match(model.match),
        "periods": [{"prices": _prices(model.prices)}]
        if periods is None
        else [_limited(period, {"prices": _prices(period.prices)}) for period in periods],
    }
    if model.price_variants:
        compiled["variants"] = [
            _limited(variant, {"when": dict(variant.when), "prices": _prices(variant.prices)})
            for variant in model.price_variants
        ]
    minimums = _MINIMUMS.get((provider_id, model.id))
    if minimums is not None:
        compiled["minimums"] = minimums
    return compiled


def _limited(source: Any, compiled: dict[str, Any]) -> dict[str, Any]:
    """`compiled` with the instant or the hours (seconds of the UTC day) it is limited to."""
    constraint = source.constraint
    if constraint is None:
        return compiled
    match vars(constraint):
        case {"start_date": date() as start_date, **rest} if not rest:
            return {**compiled, "from": start_date.isoformat()}
        case {"start_time": time() as start, "end_time": time() as end, **rest} if not rest:
            return {**compiled, "hours": [_second_of_day(start), _second_of_day(end)]}
    raise ValueError(f"unknown constraint {constraint!r}")


def _second_of_day(at: time) -> int:
    aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    utc = datetime.combine(date(1970, 1, 1), aware).astimezone(UTC)
    if utc.microsecond:
        raise ValueError(f"{at} is finer than a second")
    return utc.hour * 3600 + utc.minute * 60 + utc.second


def _match(clause: Any) -> dict[str, Any]:
    ((name, value),) = vars(clause).items()
    if name in _COMBINATIONS:
        return {_COMBINATIONS[name]: [_match(part) for part in value]}
    if name in _COMPARISONS:
        return {name: value}
    raise ValueError(f"unknown clause {clause!r}")


def _prices(prices: Any) -> dict[str, Any]:
    return {key: _price(value) for key, value in vars(prices).items() if value is not None}


def _price(value: Any) -> Any:
    if isinstance(value, Decimal):
        return _decimal_text(value)
    tiers = sorted((tier.start, _decimal_text(tier.price)) for tier in value.tiers)
    return {"base": _decimal_text(value.base), "tiers": [list(tier) for tier in tiers]}


def _decimal_text(value: Decimal) -> str:
    """USD as the shortest plain decimal: one price has one text, so one book has one hash."""
    if not value.is_finite() or value < 0:
        raise ValueError(f"{value} is not a price")
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


if __name__ == "__main__":
    sys.stdout.buffer.write(compile_book()[1])
