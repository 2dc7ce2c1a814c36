"""A provider setting's own prices: USD per 1,000 tokens, over the price book's."""

from decimal import Decimal
from typing import Final

import msgspec

from contracts.meters import INPUT_METERS, OUTPUT_METERS, Meter
from rating.prices import ModelPrice, UnitPrice, unit_price

SOURCE_COST_MAP: Final = "cost_map"
SOURCE_COST_MAP_AND_BOOK: Final = "cost_map+book"
EMBEDDINGS: Final = "embeddings"
PRICES_KEPT_MAX: Final = 1024

# A setting's map is the same bytes in every event; deriving its price costs 25 us, finding it 0.3.
_kept: Final[dict[tuple[bytes, str, str], tuple[ModelPrice | None, ModelPrice | None]]] = {}

_TOKENS_PER_PRICE: Final = 1000
# Enough for any price, and far from the exponents that would build numbers of a gigabyte.
_PRICE_DIGITS_MAX: Final = 30
_PRICE_USD_MAX: Final = Decimal(10) ** 9
_PRICE_EXPONENT_MIN: Final = -30


class _CostMap(msgspec.Struct, frozen=True, rename="camel"):
    prompt_cost_per_model: dict[str, Decimal] | None = None
    completion_cost_per_model: dict[str, Decimal] | None = None
    embeddings_cost_per_model: dict[str, Decimal] | None = None


def cost_map_price(
    cost_map: bytes, model: str, operation: str = "", book_price: ModelPrice | None = None
) -> ModelPrice | None:
    """The price of `model` by a setting's cost map, None when the map does not list it.

    - Names are exact. Embeddings are priced by `embeddingsCostPerModel`, every other operation by
      `promptCostPerModel` and `completionCostPerModel`.
    - A side's price holds for all tokens of that side (cached, audio, reasoning), in every service
      tier, for prompts of any size.
    - Listed on one side only: the other side's price is the book's, and without a book's price it
      has none, so an exchange with tokens on that side is unpriced. Zero is a price; absence is not.
    - What is not tokens (searches, seconds) keeps the book's price. A price per request does not:
      the map replaces what a request costs.
    - A map that cannot be read, or a price that is negative or absurd, leaves the model without
      prices: a broken override must show, not fall back to other prices in silence.
    """
    key = (cost_map, model, operation)
    kept = _kept.get(key)
    if kept is None or kept[0] is not book_price:
        if len(_kept) >= PRICES_KEPT_MAX:
            _kept.clear()
        kept = _kept[key] = (book_price, _derived(cost_map, model, operation, book_price))
    return kept[1]


def _derived(
    cost_map: bytes, model: str, operation: str, book_price: ModelPrice | None
) -> ModelPrice | None:
    listed = _prices_of(cost_map)
    if listed is None:
        return ModelPrice(SOURCE_COST_MAP, {})
    if operation == EMBEDDINGS:
        sides = [(listed.embeddings_cost_per_model or {}, INPUT_METERS | OUTPUT_METERS)]
    else:
        sides = [
            (listed.prompt_cost_per_model or {}, INPUT_METERS),
            (listed.completion_cost_per_model or {}, OUTPUT_METERS),
        ]
    overrides: dict[Meter, UnitPrice] = {}
    covered: frozenset[Meter] = frozenset()
    for cost_by_model, meters in sides:
        cost = cost_by_model.get(model)
        if cost is None:
            continue
        if not is_price(cost):
            return ModelPrice(SOURCE_COST_MAP, {})
        overrides |= dict.fromkeys(meters, unit_price(cost, _TOKENS_PER_PRICE))
        covered |= meters
    if not covered:
        return None
    is_whole = covered == INPUT_METERS | OUTPUT_METERS
    source = SOURCE_COST_MAP if is_whole else SOURCE_COST_MAP_AND_BOOK
    if book_price is None:
        return ModelPrice(source, overrides)
    return ModelPrice(
        source,
        _overlaid(book_price.prices, overrides),
        {tier: _overlaid(prices, overrides) for tier, prices in book_price.by_service_tier.items()},
        book_price.minimums,
    )


def _overlaid(
    book: dict[Meter, UnitPrice], overrides: dict[Meter, UnitPrice]
) -> dict[Meter, UnitPrice]:
    prices = {**book, **overrides}
    prices.pop(Meter.REQUESTS, None)
    return prices


def _prices_of(cost_map: bytes) -> _CostMap | None:
    """The map, None when it cannot be read. Numbers come out of their decimal text, never floats."""
    if not cost_map:
        return _CostMap()
    try:
        return msgspec.json.decode(cost_map, type=_CostMap | None) or _CostMap()
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ArithmeticError):
        return None


def is_price(cost: Decimal) -> bool:
    """Whether a price in US dollars is one that can be charged."""
    if not cost.is_finite() or cost < 0 or cost > _PRICE_USD_MAX:
        return False
    _, digits, exponent = cost.as_tuple()
    return (
        len(digits) <= _PRICE_DIGITS_MAX
        and isinstance(exponent, int)
        and exponent >= _PRICE_EXPONENT_MIN
    )
