"""The price book in memory: provider, model and instant in, the price in force out, else None."""

import hashlib
from collections import OrderedDict
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

import msgspec

from contracts.meters import Meter
from rating.model_match import (
    MODEL_NAME_CHARACTERS_MAX,
    Matches,
    compile_match,
    with_dashed_date,
)
from rating.prices import ModelPrice, UnitPrice, price_by_meter, unit_price

SOURCE_BOOK: Final = "book"
LOOKUPS_KEPT_MAX: Final = 4096
PROVIDER_ID_BY_NAME: Final = {
    "azure-openai": "azure",
    "azure_openai": "azure",
    "bedrock": "aws",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "moonshot": "moonshotai",
    "together_ai": "together",
    "togetherai": "together",
    "vertex": "google",
    "vertexai": "google",
    "xai": "x-ai",
}
"""Our names of providers that the book knows under another one. Every other name is the book's own
or unknown to it: a custom provider is never priced because its name resembles a known one."""

_DAY_MS: Final = 86_400_000
_FOREVER_MS: Final = 2**62


class _Tiered(msgspec.Struct, frozen=True):
    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...]


class _Period(msgspec.Struct, frozen=True):
    prices: dict[str, Decimal | _Tiered]
    when: dict[str, str] = {}
    from_: date | None = msgspec.field(default=None, name="from")
    hours: tuple[int, int] | None = None


class _Model(msgspec.Struct, frozen=True):
    id: str
    match: dict[str, Any]
    periods: tuple[_Period, ...]
    variants: tuple[_Period, ...] = ()
    minimums: dict[Meter, int] = {}


class _Provider(msgspec.Struct, frozen=True):
    fallback: tuple[str, ...]
    models: tuple[_Model, ...]


class _Document(msgspec.Struct, frozen=True):
    format: int
    source: str
    units: dict[str, int]
    providers: dict[str, _Provider]


class PriceBook:
    """An immutable price book. Make it with `from_json`; one per version and process is enough."""

    def __init__(self, version: str, document: _Document) -> None:
        self.version: Final = version
        self.source: Final = document.source
        self._document = document
        self._matchers: dict[str, tuple[tuple[Matches, _Model], ...]] = {}
        self._lookups: OrderedDict[tuple[str, str], _Schedule | None] = OrderedDict()

    @classmethod
    def from_json(cls, content: bytes, version: str | None = None) -> "PriceBook":
        """The book in canonical JSON, as `rating.compile_book` writes it.

        Raises ValueError when `version` is given and is not the content's own SHA-256, or when the
        content is of another format; msgspec.DecodeError when it is not a book at all.
        """
        actual = hashlib.sha256(content).hexdigest()
        if version is not None and version != actual:
            raise ValueError(f"price book {version} has the content of {actual}")
        document = msgspec.json.decode(content, type=_Document)
        if document.format != 1:
            raise ValueError(f"price book {actual} has format {document.format}, this code reads 1")
        return cls(actual, document)

    def find(self, provider: str, model: str, at_ms: int) -> ModelPrice | None:
        """The price of `model` as sold by `provider` at an instant (Unix ms), None when unknown.

        An Azure deployment has a name of its own: ask with the model that was served.
        """
        key = (provider, model)
        lookups = self._lookups
        try:
            schedule = lookups[key]
            lookups.move_to_end(key)
        except KeyError:
            schedule = lookups[key] = self._look_up(provider, model)
            if len(lookups) > LOOKUPS_KEPT_MAX:
                lookups.popitem(last=False)
        return None if schedule is None else schedule.price_at(at_ms)

    def _look_up(self, provider: str, model: str) -> "_Schedule | None":
        if not model or len(model) > MODEL_NAME_CHARACTERS_MAX:
            return None
        name = provider.strip().lower()
        provider_id = PROVIDER_ID_BY_NAME.get(name, name)
        if provider_id not in self._document.providers:
            return None
        asked = model.lower()
        found = self._match(provider_id, asked)
        if found is None and (dashed := with_dashed_date(asked)) != asked:
            found = self._match(provider_id, dashed)
        return None if found is None else _Schedule(found, self._document.units)

    def _match(self, provider_id: str, model: str) -> _Model | None:
        for candidate in (provider_id, *self._document.providers[provider_id].fallback):
            for matches, priced in self._matchers_of(candidate):
                if matches(model):
                    return priced
        return None

    def _matchers_of(self, provider_id: str) -> tuple[tuple[Matches, _Model], ...]:
        matchers = self._matchers.get(provider_id)
        if matchers is None:
            provider = self._document.providers.get(provider_id)
            models = () if provider is None else provider.models
            matchers = tuple((compile_match(model.match), model) for model in models)
            self._matchers[provider_id] = matchers
        return matchers


class _Schedule:
    """One model's prices over time; remembers the stretch of time it was last asked about."""

    def __init__(self, model: _Model, units: dict[str, int]) -> None:
        self._model = model
        self._units = units
        self._from_ms = self._until_ms = 0
        self._price = ModelPrice(SOURCE_BOOK, {})

    def price_at(self, at_ms: int) -> ModelPrice:
        if not self._from_ms <= at_ms < self._until_ms:
            self._price = self._resolve(at_ms)
            self._from_ms, self._until_ms = self._stretch(at_ms)
        return self._price

    def _resolve(self, at_ms: int) -> ModelPrice:
        periods = self._model.periods
        # The last active one wins; when none is active the first one stands.
        in_force = next((p for p in reversed(periods) if _is_active(p, at_ms)), periods[0])
        standard = self._unit_prices(in_force)
        variants = [v for v in self._model.variants if _is_active(v, at_ms)]
        by_service_tier: dict[str, dict[Meter, UnitPrice]] = {}
        for tier in sorted({value for variant in variants for value in variant.when.values()}):
            facts = _facts_of(tier)
            overrides: dict[str, UnitPrice] = {}
            for variant in variants:
                if all(facts.get(name) == value for name, value in variant.when.items()):
                    # The first variant that names a price wins.
                    overrides = {**self._unit_prices(variant), **overrides}
            if overrides:
                by_service_tier[tier] = price_by_meter({**standard, **overrides})
        return ModelPrice(
            SOURCE_BOOK, price_by_meter(standard), by_service_tier, self._model.minimums
        )

    def _unit_prices(self, period: _Period) -> dict[str, UnitPrice]:
        return {
            key: unit_price(price, self._units[key])
            if isinstance(price, Decimal)
            else unit_price(price.base, self._units[key], price.tiers)
            for key, price in period.prices.items()
        }

    def _stretch(self, at_ms: int) -> tuple[int, int]:
        """The longest [from, until) around `at_ms` in which the price is certain not to change."""
        midnight_ms = at_ms - at_ms % _DAY_MS
        edges = [-_FOREVER_MS, _FOREVER_MS]
        for period in (*self._model.periods, *self._model.variants):
            if period.from_ is not None:
                edges.append(_start_ms(period.from_))
            if period.hours is not None:
                edges += [midnight_ms, midnight_ms + _DAY_MS]
                edges += [midnight_ms + second * 1000 for second in period.hours]
        return max(e for e in edges if e <= at_ms), min(e for e in edges if e > at_ms)


def _is_active(period: _Period, at_ms: int) -> bool:
    if period.from_ is not None:
        return at_ms >= _start_ms(period.from_)
    if period.hours is not None:
        start_ms, end_ms = (second * 1000 for second in period.hours)
        of_day_ms = at_ms % _DAY_MS
        if end_ms < start_ms:
            return of_day_ms >= start_ms or of_day_ms < end_ms
        return start_ms <= of_day_ms < end_ms
    return True


def _start_ms(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp()) * 1000


def _facts_of(service_tier: str) -> dict[str, str]:
    """What a service tier says about a request, in the book's words.

    Providers report one word; the book files batch processing and fast inference under names of
    their own.
    """
    facts = {"service_tier": service_tier}
    if service_tier == "batch":
        facts["processing"] = "batch"
    if service_tier == "fast":
        facts["speed"] = "fast"
    return facts
