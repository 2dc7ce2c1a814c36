"""Rating by itself: exact, additive, monotone, and never free by accident."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.ledger import RatingStatus
from contracts.meters import (
    INPUT_METERS,
    NO_USAGE,
    OUTPUT_METERS,
    Evidence,
    Meter,
    Usage,
)
from rating.price_book import PriceBook
from rating.prices import ModelPrice, UnitPrice, price_by_meter, unit_price
from rating.rate import rate

TOKEN_METERS = sorted(INPUT_METERS | OUTPUT_METERS)
amounts_of_usd = st.decimals(min_value=0, max_value=1000, places=6)
token_quantities = st.dictionaries(st.sampled_from(TOKEN_METERS), st.integers(0, 10**9), min_size=1)


def usage_from(quantities: dict[Meter, int], service_tier: str | None = None) -> Usage:
    return Usage(
        quantities,
        sum(count for meter, count in quantities.items() if meter in INPUT_METERS),
        sum(count for meter, count in quantities.items() if meter in OUTPUT_METERS),
        Evidence.REPORTED,
        None,
        None,
        service_tier,
    )


def price_of(**usd_by_key: str) -> ModelPrice:
    prices = {key: unit_price(Decimal(usd), 10**6) for key, usd in usd_by_key.items()}
    return ModelPrice("test", price_by_meter(prices))


def test_each_meter_has_its_amount_and_they_sum() -> None:
    """2.50 USD per million input tokens is 2,500,000 pico-dollars a token."""
    price = price_of(input_mtok="2.5", cache_read_mtok="1.25", output_mtok="10")
    usage = usage_from({Meter.INPUT_UNCACHED: 100, Meter.CACHE_READ: 50, Meter.OUTPUT_TEXT: 7})
    rating = rate(usage, price)
    assert rating.status is RatingStatus.RATED
    assert rating.amounts == {
        Meter.INPUT_UNCACHED: 250_000_000,
        Meter.CACHE_READ: 62_500_000,
        Meter.OUTPUT_TEXT: 70_000_000,
    }
    assert rating.total_picousd == 382_500_000


@pytest.mark.parametrize(
    ("meter", "keys", "expected"),
    [
        (Meter.CACHE_READ, {"input_mtok": "3"}, 3),
        (Meter.CACHE_WRITE_5M, {"input_mtok": "3"}, 3),
        (Meter.CACHE_WRITE_5M, {"input_mtok": "3", "cache_write_mtok": "4"}, 4),
        (Meter.CACHE_WRITE_1H, {"input_mtok": "3", "cache_write_mtok": "4"}, 4),
        (Meter.CACHE_WRITE_1H, {"cache_write_mtok": "4", "cache_write_1h_mtok": "6"}, 6),
        (Meter.AUDIO_INPUT, {"input_mtok": "3"}, 3),
        (Meter.IMAGE_INPUT, {"input_mtok": "3", "input_image_mtok": "5"}, 5),
        (Meter.CACHE_AUDIO_READ, {"input_mtok": "3", "cache_read_mtok": "1"}, 1),
        (Meter.REASONING, {"output_mtok": "9"}, 9),
        (Meter.REASONING, {"output_mtok": "9", "output_reasoning_mtok": "8"}, 8),
        (Meter.AUDIO_OUTPUT, {"output_mtok": "9"}, 9),
    ],
)
def test_a_meter_without_its_own_price_takes_the_next_wider_one(
    meter: Meter, keys: dict[str, str], expected: int
) -> None:
    """Cached and written tokens are input, reasoning is output."""
    rating = rate(usage_from({meter: 1}), price_of(**keys))
    assert rating.total_picousd == expected * 10**6


@pytest.mark.parametrize(
    "meter", [Meter.OUTPUT_TEXT, Meter.IMAGES, Meter.SEARCHES, Meter.AUDIO_MS, Meter.CHARACTERS]
)
def test_a_quantity_without_any_price_makes_the_whole_unpriced(meter: Meter) -> None:
    """No partial bill: the total is unknown, the amounts are empty, the meter is named."""
    price = price_of(input_mtok="3")
    rating = rate(usage_from({Meter.INPUT_UNCACHED: 5, meter: 1}), price)
    assert rating.status is RatingStatus.UNPRICED
    assert (rating.total_picousd, rating.amounts) == (None, {})
    assert rating.unpriced_meters == (meter,)
    none_of_it = rate(usage_from({Meter.INPUT_UNCACHED: 5, meter: 0}), price)
    assert none_of_it.total_picousd == 15 * 10**6
    assert none_of_it.amounts[meter] == 0


def test_no_price_is_unpriced_and_no_evidence_is_unknown() -> None:
    """Two ways of not knowing, kept apart; neither is zero."""
    usage = usage_from({Meter.INPUT_UNCACHED: 5, Meter.OUTPUT_TEXT: 0})
    unpriced = rate(usage, None)
    assert (unpriced.status, unpriced.total_picousd) == (RatingStatus.UNPRICED, None)
    assert unpriced.unpriced_meters == (Meter.INPUT_UNCACHED,)
    for price in (None, price_of(input_mtok="3", output_mtok="4")):
        unknown = rate(NO_USAGE, price)
        assert (unknown.status, unknown.total_picousd) == (RatingStatus.UNKNOWN, None)
        assert unknown.amounts == {}


def test_half_a_usage_is_unknown() -> None:
    """Input alone, where output is not known to be none, is not a bill."""
    half = Usage({Meter.INPUT_UNCACHED: 5}, 5, None, Evidence.REPORTED, None, None, None)
    assert rate(half, price_of(input_mtok="3", output_mtok="4")).status is RatingStatus.UNKNOWN


def test_a_model_that_is_free_is_rated_at_zero() -> None:
    """Zero is a price."""
    rating = rate(usage_from({Meter.INPUT_UNCACHED: 5}), price_of(input_mtok="0"))
    assert (rating.status, rating.total_picousd) == (RatingStatus.RATED, 0)


@pytest.mark.parametrize(
    ("prompt_tokens", "per_token"), [(200_000, 1), (200_001, 2), (400_000, 2), (400_001, 5)]
)
def test_a_prompt_above_a_tier_is_charged_at_its_price_as_a_whole(
    prompt_tokens: int, per_token: int
) -> None:
    """The cliff: every token of input and output at the tier's price, cached ones included."""
    tiers = ((200_000, Decimal(2)), (400_000, Decimal(5)))
    tiered = unit_price(Decimal(1), 10**6, tiers)
    price = ModelPrice("test", price_by_meter({"input_mtok": tiered, "output_mtok": tiered}))
    usage = usage_from(
        {Meter.INPUT_UNCACHED: prompt_tokens - 50, Meter.CACHE_READ: 50, Meter.OUTPUT_TEXT: 10}
    )
    assert rate(usage, price).total_picousd == (prompt_tokens + 10) * per_token * 10**6


def test_a_price_per_request_is_charged_once(book: PriceBook) -> None:
    """A fee per request is there without being counted, and not twice when it is."""
    fee = unit_price(Decimal(5), 1000)
    price = ModelPrice("test", {**price_of(input_mtok="1").prices, Meter.REQUESTS: fee})
    usage = usage_from({Meter.INPUT_UNCACHED: 1})
    counted = usage_from({Meter.INPUT_UNCACHED: 1, Meter.REQUESTS: 1})
    assert rate(usage, price).amounts[Meter.REQUESTS] == 5 * 10**9
    assert rate(usage, price).total_picousd == rate(counted, price).total_picousd


def test_the_service_tier_that_was_served_decides(book: PriceBook) -> None:
    """Flex is half price, a tier without prices of its own is standard."""
    price = book.find("openai", "gpt-5", 1_793_448_000_000)
    quantities = {Meter.INPUT_UNCACHED: 1000, Meter.OUTPUT_TEXT: 1000}
    standard = rate(usage_from(quantities), price).total_picousd
    flex = rate(usage_from(quantities, "flex"), price).total_picousd
    assert standard == rate(usage_from(quantities, "scale"), price).total_picousd
    assert flex is not None
    assert flex * 2 == standard


@example(1, 1, 2)
@example(1, 3, 2)
@example(5, 1, 2)
@example(7, 5, 10)
@given(st.integers(0, 10**12), st.integers(0, 10**15), st.integers(1, 10**9))
def test_an_amount_is_the_nearest_picodollar_half_to_even(
    quantity: int, numerator: int, denominator: int
) -> None:
    """The one rounding agrees with exact fractions, whose rounding is half to even."""
    amount = UnitPrice(numerator, denominator).amount(quantity, 0)
    assert amount == round(Fraction(quantity * numerator, denominator))


@given(token_quantities, token_quantities, amounts_of_usd, amounts_of_usd)
def test_rating_is_additive_without_tiers(
    first: dict[Meter, int], second: dict[Meter, int], input_usd: Decimal, output_usd: Decimal
) -> None:
    """Two exchanges cost what one with the quantities of both costs."""
    price = price_of(input_mtok=str(input_usd), output_mtok=str(output_usd))
    both = {m: first.get(m, 0) + second.get(m, 0) for m in first.keys() | second.keys()}
    parts = [rate(usage_from(part), price).total_picousd for part in (first, second)]
    assert parts[0] is not None
    assert parts[1] is not None
    assert rate(usage_from(both), price).total_picousd == parts[0] + parts[1]


@given(token_quantities, amounts_of_usd, amounts_of_usd)
def test_rating_is_monotone_in_price_and_quantity(
    quantities: dict[Meter, int], usd: Decimal, more_usd: Decimal
) -> None:
    """A dearer price never makes a cheaper bill, and one more token neither."""
    low, high = sorted((usd, more_usd))
    cheap = rate(usage_from(quantities), price_of(input_mtok=str(low), output_mtok=str(low)))
    dear = rate(usage_from(quantities), price_of(input_mtok=str(high), output_mtok=str(high)))
    assert cheap.total_picousd is not None
    assert dear.total_picousd is not None
    assert cheap.total_picousd <= dear.total_picousd
    more = {meter: count + 1 for meter, count in quantities.items()}
    grown = rate(usage_from(more), price_of(input_mtok=str(low), output_mtok=str(low)))
    assert grown.total_picousd is not None
    assert grown.total_picousd >= cheap.total_picousd
