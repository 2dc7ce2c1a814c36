"""What one model costs at one instant: an exact unit price per meter, found by declared rules."""

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Final

import msgspec

from contracts.meters import Meter
from contracts.money import PICOUSD_PER_USD, PicoUsd

PRICE_KEYS: Final[dict[Meter, tuple[str, ...]]] = {
    Meter.INPUT_UNCACHED: ("input_text_mtok", "input_mtok"),
    Meter.CACHE_READ: ("cache_text_read_mtok", "cache_read_mtok", "input_mtok"),
    Meter.CACHE_WRITE_5M: ("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
    Meter.CACHE_WRITE_1H: ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    Meter.AUDIO_INPUT: ("input_audio_mtok", "input_mtok"),
    Meter.IMAGE_INPUT: ("input_image_mtok", "input_mtok"),
    Meter.CACHE_AUDIO_READ: (
        "cache_audio_read_mtok",
        "cache_read_mtok",
        "input_audio_mtok",
        "input_mtok",
    ),
    Meter.CACHE_IMAGE_READ: (
        "cache_image_read_mtok",
        "cache_read_mtok",
        "input_image_mtok",
        "input_mtok",
    ),
    Meter.OUTPUT_TEXT: ("output_text_mtok", "output_mtok"),
    Meter.REASONING: ("output_reasoning_mtok", "output_mtok"),
    Meter.AUDIO_OUTPUT: ("output_audio_mtok", "output_mtok"),
    Meter.IMAGE_OUTPUT: ("output_image_mtok", "output_mtok"),
    Meter.CHARACTERS: ("input_mchars",),
    Meter.AUDIO_MS: ("input_audio_hours", "audio_hours"),
    Meter.SEARCHES: ("web_searches_kcount",),
    Meter.FILE_SEARCHES: ("storage_searches_kcount",),
    Meter.REQUESTS: ("requests_kcount",),
    Meter.IMAGES: (),
    Meter.OTHER_MODEL_TOKENS: (),
}
"""The keys a meter is priced by, the first that has a price wins.

The narrowest key first, then what contains it: an uncached, written or read token without a price
of its own is an input token, a reasoning token is an output token. A meter whose list is exhausted
is unpriced. Images sold by the piece have no key in the book: only tokens of images have. Nor have
tokens of a model that helped the one that was asked, which cost what that one costs.
"""

_QUANTITIES_PER_UNIT: Final = {Meter.AUDIO_MS: 1000}
"""How many of a meter make one of the book's units, where that is not one."""


class UnitPrice(msgspec.Struct, frozen=True):
    """Pico-dollars for one of a meter, as the exact fraction `numerator / denominator`.

    `tiers` are (prompt tokens, numerator, denominator), highest first: a prompt of more tokens
    than that is charged at the tier's price as a whole.
    """

    numerator: int
    denominator: int
    tiers: tuple[tuple[int, int, int], ...] = ()

    def amount(self, quantity: int, prompt_tokens: int) -> PicoUsd:
        """The amount for `quantity`, rounded once, half to even, at a pico-dollar."""
        numerator, denominator = self.numerator, self.denominator
        for start, tier_numerator, tier_denominator in self.tiers:
            if prompt_tokens > start:
                numerator, denominator = tier_numerator, tier_denominator
                break
        if denominator == 1:
            return quantity * numerator
        whole, rest = divmod(quantity * numerator, denominator)
        if 2 * rest > denominator or (2 * rest == denominator and whole % 2):
            return whole + 1
        return whole


class ModelPrice(msgspec.Struct, frozen=True):
    """What a model costs at an instant.

    `by_service_tier` holds the whole table of each service tier that has prices of its own; any
    other tier costs the standard `prices`. `minimums` are the least quantities that are billed.
    `source` says where the prices are from.
    """

    source: str
    prices: dict[Meter, UnitPrice]
    by_service_tier: dict[str, dict[Meter, UnitPrice]] = {}
    minimums: dict[Meter, int] = {}


def unit_price(usd: Decimal, per: int, tiers: tuple[tuple[int, Decimal], ...] = ()) -> UnitPrice:
    """The price of one of a meter, given USD for `per` of the book's units.

    `tiers` are (prompt tokens, USD), in any order.
    """
    numerator, denominator = _picousd_ratio(usd, per)
    return UnitPrice(
        numerator,
        denominator,
        tuple(
            (start, *_picousd_ratio(tier_usd, per))
            for start, tier_usd in sorted(tiers, reverse=True)
        ),
    )


def price_by_meter(price_by_key: Mapping[str, UnitPrice]) -> dict[Meter, UnitPrice]:
    """Every meter that the keys of `price_by_key` put a price on. Prices are per unit of the key."""
    found: dict[Meter, UnitPrice] = {}
    for meter, keys in PRICE_KEYS.items():
        for key in keys:
            price = price_by_key.get(key)
            if price is not None:
                found[meter] = _per_quantity(price, _QUANTITIES_PER_UNIT.get(meter, 1))
                break
    return found


def _per_quantity(price: UnitPrice, quantities_per_unit: int) -> UnitPrice:
    if quantities_per_unit == 1:
        return price
    return UnitPrice(
        price.numerator,
        price.denominator * quantities_per_unit,
        tuple((start, num, den * quantities_per_unit) for start, num, den in price.tiers),
    )


def _picousd_ratio(usd: Decimal, quantity: int) -> tuple[int, int]:
    ratio = Fraction(usd) * PICOUSD_PER_USD / quantity
    return ratio.numerator, ratio.denominator
