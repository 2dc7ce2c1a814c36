"""The bill against the arithmetic of the source: every model, several dates, tiers and usages.

Deliberate differences, each with a test below or in `test_rate`:

- The source treats a quantity without any price, and a model without prices (some 180 of them), as
  free. Here both are unpriced.
- Images by the piece have no unit in the source.
- Contexts that no answer reports (a route, a kind of search) are not applied.
"""

from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import Usage as SourceUsage

from contracts.ledger import RatingStatus
from contracts.meters import INPUT_METERS, OUTPUT_METERS, Evidence, Meter, Usage
from rating.price_book import PriceBook
from rating.rate import rate

INSTANTS = [
    datetime(2024, 3, 1, 12, tzinfo=UTC),
    datetime(2025, 5, 15, 20, 30, tzinfo=UTC),
    datetime(2025, 9, 30, 23, 59, 59, 999000, tzinfo=UTC),
    datetime(2026, 11, 20, 2, 0, tzinfo=UTC),
]
QUANTITIES: list[dict[Meter, int]] = [
    {Meter.INPUT_UNCACHED: 1, Meter.OUTPUT_TEXT: 1},
    {
        Meter.INPUT_UNCACHED: 1234,
        Meter.CACHE_READ: 567,
        Meter.CACHE_WRITE_5M: 89,
        Meter.CACHE_WRITE_1H: 77,
        Meter.OUTPUT_TEXT: 345,
        Meter.REASONING: 678,
    },
    {
        Meter.INPUT_UNCACHED: 300_017,
        Meter.CACHE_READ: 13,
        Meter.AUDIO_INPUT: 1_003,
        Meter.IMAGE_INPUT: 507,
        Meter.CACHE_AUDIO_READ: 31,
        Meter.CACHE_IMAGE_READ: 17,
        Meter.OUTPUT_TEXT: 9_999,
        Meter.AUDIO_OUTPUT: 211,
        Meter.IMAGE_OUTPUT: 97,
    },
    {Meter.INPUT_UNCACHED: 200_000},
]
SERVICE_TIERS: list[str | None] = [None, "default", "flex", "priority", "batch"]


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


def source_usage(usage: Usage) -> SourceUsage:
    count = {meter: usage.quantities.get(meter, 0) for meter in Meter}
    return SourceUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=count[Meter.CACHE_READ]
        + count[Meter.CACHE_AUDIO_READ]
        + count[Meter.CACHE_IMAGE_READ],
        cache_audio_read_tokens=count[Meter.CACHE_AUDIO_READ],
        cache_write_tokens=count[Meter.CACHE_WRITE_5M] + count[Meter.CACHE_WRITE_1H],
        cache_write_5m_tokens=count[Meter.CACHE_WRITE_5M],
        cache_write_1h_tokens=count[Meter.CACHE_WRITE_1H],
        input_audio_tokens=count[Meter.AUDIO_INPUT] + count[Meter.CACHE_AUDIO_READ],
        input_image_tokens=count[Meter.IMAGE_INPUT] + count[Meter.CACHE_IMAGE_READ],
        cache_image_read_tokens=count[Meter.CACHE_IMAGE_READ],
        output_audio_tokens=count[Meter.AUDIO_OUTPUT],
        output_image_tokens=count[Meter.IMAGE_OUTPUT],
        output_reasoning_tokens=count[Meter.REASONING],
        web_searches=count[Meter.SEARCHES],
        storage_searches=count[Meter.FILE_SEARCHES],
    )


def source_picousd(
    provider: str, model: str, usage: Usage, at: datetime
) -> tuple[Decimal, dict[str, Any]]:
    context = {"service_tier": usage.service_tier} if usage.service_tier else None
    if usage.service_tier == "batch":
        context = {"processing": "batch"}
    with localcontext() as arithmetic:
        arithmetic.prec = 80
        price = get_snapshot().calc(source_usage(usage), model, provider, None, at, context)
        return price.total_price * 10**12, vars(price.model_price)


@pytest.mark.parametrize("quantities", QUANTITIES, ids=["tiny", "cached", "long", "edge"])
@pytest.mark.parametrize("at", INSTANTS, ids=lambda at: at.strftime("%Y-%m-%dT%H"))
def test_every_model_costs_what_the_source_says(
    book: PriceBook, at: datetime, quantities: dict[Meter, int]
) -> None:
    """Equal to the pico-dollar; where a price is finer than one, within one rounding a meter."""
    at_ms = int(at.timestamp() * 1000)
    rated = unpriced = 0
    for provider in get_snapshot().providers:
        for number, model in enumerate(provider.models):
            usage = usage_from(quantities, SERVICE_TIERS[number % len(SERVICE_TIERS)])
            where = (provider.id, model.id, usage.service_tier)
            price = book.find(provider.id, model.id, at_ms)
            try:
                expected, prices = source_picousd(provider.id, model.id, usage, at)
            except LookupError:  # a model whose id is not a name it is called by
                assert price is None, where
                continue
            rating = rate(usage, price)
            if rating.status is RatingStatus.UNPRICED:
                unpriced += 1
                sides = {
                    "input_mtok" if m in INPUT_METERS else "output_mtok"
                    for m in rating.unpriced_meters
                }
                assert all(prices.get(side) is None for side in sides), where
                continue
            rated += 1
            assert rating.total_picousd is not None, where
            assert rating.total_picousd == sum(rating.amounts.values()), where
            if expected == expected.to_integral_value():
                assert rating.total_picousd == expected, where
            else:
                roundings = len(rating.amounts)
                assert abs(rating.total_picousd - expected) <= Decimal(roundings) / 2, where
    assert rated > 1900
    assert unpriced < 400


def test_searches_cost_what_the_source_says(book: PriceBook) -> None:
    """A web search is charged by the piece beside the tokens."""
    usage = usage_from({Meter.INPUT_UNCACHED: 10, Meter.OUTPUT_TEXT: 10, Meter.SEARCHES: 3})
    expected, _ = source_picousd("anthropic", "claude-sonnet-4-5", usage, INSTANTS[-1])
    at_ms = int(INSTANTS[-1].timestamp() * 1000)
    rating = rate(usage, book.find("anthropic", "claude-sonnet-4-5", at_ms))
    assert rating.total_picousd == expected
    assert rating.amounts[Meter.SEARCHES] == 3 * 10**10


def test_searches_of_files_cost_what_the_source_says(book: PriceBook) -> None:
    """By the piece too, at a price of their own."""
    usage = usage_from(
        {
            Meter.INPUT_UNCACHED: 10,
            Meter.OUTPUT_TEXT: 10,
            Meter.SEARCHES: 2,
            Meter.FILE_SEARCHES: 3,
        }
    )
    expected, _ = source_picousd("openai", "gpt-5", usage, INSTANTS[-1])
    at_ms = int(INSTANTS[-1].timestamp() * 1000)
    rating = rate(usage, book.find("openai", "gpt-5", at_ms))
    assert rating.total_picousd == expected
    assert rating.amounts[Meter.FILE_SEARCHES] == 3 * 25 * 10**8


@pytest.mark.parametrize("audio_ms", [1, 9_999, 10_000, 10_001, 3_600_000])
def test_seconds_cost_what_the_source_says(book: PriceBook, audio_ms: int) -> None:
    """Audio by duration, the ten-second minimum of one provider included."""
    at = INSTANTS[-1]
    usage = Usage({Meter.AUDIO_MS: audio_ms}, None, None, Evidence.REPORTED, None, None, None)
    rating = rate(usage, book.find("groq", "whisper-large-v3", int(at.timestamp() * 1000)))
    with localcontext() as arithmetic:
        arithmetic.prec = 80
        seconds = Decimal(audio_ms) / 1000
        expected = (
            get_snapshot()
            .calc(
                SourceUsage(audio_seconds=seconds, input_audio_seconds=seconds),
                "whisper-large-v3",
                "groq",
                None,
                at,
            )
            .total_price
            * 10**12
        )
    assert rating.total_picousd is not None
    assert abs(rating.total_picousd - expected) <= Decimal("0.5")


def test_a_quantity_without_a_price_is_free_there_and_unpriced_here(book: PriceBook) -> None:
    """The first deliberate difference: output of a model that is sold by input alone."""
    usage = usage_from({Meter.INPUT_UNCACHED: 10, Meter.OUTPUT_TEXT: 10})
    expected, _ = source_picousd("openai", "text-embedding-3-small", usage, INSTANTS[-1])
    at_ms = int(INSTANTS[-1].timestamp() * 1000)
    rating = rate(usage, book.find("openai", "text-embedding-3-small", at_ms))
    assert expected == 10 * 20_000
    assert rating.status is RatingStatus.UNPRICED
    assert rating.total_picousd is None
    assert rating.unpriced_meters == (Meter.OUTPUT_TEXT,)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "azure", "google", "mistral", "groq"])
@pytest.mark.parametrize(
    "model",
    [
        "ft:gpt-4o-mini-2024-07-18:acme::x",
        "gpt-4-0613",
        "GPT-3.5-Turbo-0125",
        "o1-mini",
        "gpt-5.2-20251211",
        "gpt-4.1-nano-2025-04-14",
        "claude-3-haiku@20240307",
        "claude-opus-4-1-20250805",
        "models/gemini-2.0-flash",
        "gemini-1.5-pro-002",
        "mistral-large-latest",
        "llama-3.1-8b-instant",
        "no-such-model",
        "chatgpt-4o-latest",
        "gpt-4o-20241399",
        "text-embedding-ada-002",
    ],
)
def test_models_are_recognised_as_the_source_does(
    book: PriceBook, provider: str, model: str
) -> None:
    """The same names are known and unknown, aliases, dates, fine-tunes and fallbacks included."""
    at = INSTANTS[-1]
    usage = usage_from({Meter.INPUT_UNCACHED: 1000})
    price = book.find(provider, model, int(at.timestamp() * 1000))
    try:
        expected, _ = source_picousd(provider, model, usage, at)
    except LookupError:
        assert price is None
    else:
        assert rate(usage, price).total_picousd == expected
