"""The compiled price book: canonical, versioned by its hash, and right about who is priced."""

import hashlib
import json
import subprocess
import sys
from decimal import Decimal

import pytest

from contracts.meters import Meter
from rating.compile_book import compile_book
from rating.price_book import LOOKUPS_KEPT_MAX, PriceBook
from rating.prices import ModelPrice

NOON_2026_MS = 1_793_448_000_000  # 2026-10-31T12:00:00Z
MAY_2025_MS = 1_747_310_400_000  # 2025-05-15T12:00:00Z


def usd_per_million(price: ModelPrice | None, meter: Meter) -> Decimal:
    assert price is not None
    unit = price.prices[meter]
    return Decimal(unit.numerator) / unit.denominator / 10**6


def test_version_is_the_hash_of_the_canonical_content(compiled: tuple[str, bytes]) -> None:
    """Two compilations give the same bytes, and the version is their SHA-256."""
    version, content = compiled
    assert (version, content) == compile_book()
    assert version == hashlib.sha256(content).hexdigest()


def test_content_is_canonical_and_has_no_floats(compiled: tuple[str, bytes]) -> None:
    """Keys are sorted, nothing is padded, and no number has a fraction: prices are decimal text."""
    text = compiled[1].decode()

    def refuse(number: str) -> float:
        raise AssertionError(f"float {number} in the price book")

    document = json.loads(text, parse_float=refuse, parse_constant=refuse)
    assert text == json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_every_model_price_of_the_source_is_kept(compiled: tuple[str, bytes]) -> None:
    """As many providers, models, periods, variants and prices as the snapshot holds."""
    from genai_prices.data_snapshot import get_snapshot

    document = json.loads(compiled[1])
    for provider in get_snapshot().providers:
        kept = document["providers"][provider.id]["models"]
        assert [model["id"] for model in kept] == [model.id for model in provider.models]
        for ours, theirs in zip(kept, provider.models, strict=True):
            periods = theirs.prices if isinstance(theirs.prices, list) else [theirs]
            assert len(ours["periods"]) == len(periods)
            assert len(ours.get("variants", ())) == len(theirs.price_variants or ())
            for mine, source in zip(ours["periods"], periods, strict=True):
                named = {key for key, value in vars(source.prices).items() if value is not None}
                assert set(mine["prices"]) == named


def test_command_writes_the_same_book(compiled: tuple[str, bytes]) -> None:
    """`python -m rating.compile_book` prints the canonical JSON and nothing else."""
    printed = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "rating.compile_book"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert printed.stdout == compiled[1]


def test_content_of_another_version_is_refused(compiled: tuple[str, bytes]) -> None:
    """A book whose bytes do not hash to the version that was asked for is not that book."""
    version, content = compiled
    with pytest.raises(ValueError, match="has the content of"):
        PriceBook.from_json(content + b" ", version)
    with pytest.raises(ValueError, match="format 2"):
        PriceBook.from_json(content.replace(b'"format":1', b'"format":2'))


@pytest.mark.parametrize(
    ("provider", "model", "input_usd", "output_usd"),
    [
        ("openai", "gpt-4o", "2.5", "10"),
        ("openai", "gpt-4o-2024-08-06", "2.5", "10"),
        ("openai", "GPT-4o-mini", "0.15", "0.6"),
        ("openai", "gpt-4o-mini-2024-07-18", "0.15", "0.6"),
        ("azure", "gpt-4o", "2.5", "10"),
        ("azure", "gpt-35-turbo", "0.5", "1.5"),
        ("anthropic", "claude-3-5-sonnet-20241022", "3", "15"),
        ("openrouter", "openai/gpt-4o", "2.5", "10"),
    ],
)
def test_known_models_are_priced(
    book: PriceBook, provider: str, model: str, input_usd: str, output_usd: str
) -> None:
    """Public list prices, spelled out here so that a change of source is seen."""
    price = book.find(provider, model, NOON_2026_MS)
    assert usd_per_million(price, Meter.INPUT_UNCACHED) == Decimal(input_usd)
    assert usd_per_million(price, Meter.OUTPUT_TEXT) == Decimal(output_usd)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("vllm", "gpt-4o"),
        ("deepinfra", "meta-llama/Llama-3.3-70B-Instruct"),
        ("custom", "gpt-4o"),
        ("demo", "gpt-4o"),
        ("my-openai-proxy", "gpt-4o"),
        ("ollama", "llama3"),
        ("", "gpt-4o"),
        ("openai", "demo-1"),
        ("openai", ""),
        ("openai", "gpt-4o" + "x" * 1000),
        ("openai", "gpt-4o\x00"),
    ],
)
def test_what_the_book_does_not_know_has_no_price(
    book: PriceBook, provider: str, model: str
) -> None:
    """No provider is priced because its name resembles another, no model because it is long."""
    assert book.find(provider, model, NOON_2026_MS) is None


def test_provider_aliases_reach_the_same_prices(book: PriceBook) -> None:
    """Our name and the book's name of a provider are one provider."""
    assert book.find("gemini", "gemini-2.5-pro", NOON_2026_MS) == book.find(
        "google", "gemini-2.5-pro", NOON_2026_MS
    )
    assert book.find("xai", "grok-3", NOON_2026_MS) == book.find("x-ai", "grok-3", NOON_2026_MS)


def test_a_price_changes_at_its_date(book: PriceBook) -> None:
    """o3 cost 10 USD per million until 2025-06-10 (UTC) and 2 USD from its first millisecond."""
    midnight_ms = 1_749_513_600_000
    before = book.find("openai", "o3", midnight_ms - 1)
    after = book.find("openai", "o3", midnight_ms)
    assert usd_per_million(before, Meter.INPUT_UNCACHED) == 10
    assert usd_per_million(after, Meter.INPUT_UNCACHED) == 2
    # Asked again in the other order: what was remembered does not leak across the boundary.
    assert book.find("openai", "o3", midnight_ms - 1) == before
    assert book.find("openai", "o3", MAY_2025_MS) == before


def test_a_price_changes_with_the_hour(compiled: tuple[str, bytes], book: PriceBook) -> None:
    """A model with off-peak hours costs one thing inside them and another outside, each day."""
    document = json.loads(compiled[1])
    model = next(
        m for m in document["providers"]["deepseek"]["models"] if m["id"] == "deepseek-chat"
    )
    start_s, end_s = next(p["hours"] for p in model["periods"] if "hours" in p)
    day_ms = MAY_2025_MS - MAY_2025_MS % 86_400_000
    asked = [
        book.find("deepseek", "deepseek-chat", day_ms + offset_ms)
        for offset_ms in (start_s * 1000 - 1, start_s * 1000, end_s * 1000 - 1, end_s * 1000)
    ]
    assert asked[0] != asked[1] == asked[2] != asked[3] == asked[0]


def test_service_tiers_have_their_own_prices(book: PriceBook) -> None:
    """Batch, flex and priority are rows of the book; an unknown tier costs the standard price."""
    price = book.find("openai", "gpt-5", NOON_2026_MS)
    assert price is not None
    standard = price.prices[Meter.INPUT_UNCACHED].numerator
    assert price.by_service_tier["flex"][Meter.INPUT_UNCACHED].numerator * 2 == standard
    assert price.by_service_tier["batch"][Meter.INPUT_UNCACHED].numerator * 2 == standard
    assert price.by_service_tier["priority"][Meter.INPUT_UNCACHED].numerator == standard * 2
    assert "scale" not in price.by_service_tier


def test_lookups_that_are_kept_are_bounded(compiled: tuple[str, bytes]) -> None:
    """A flood of invented names is forgotten again; a name in use is not."""
    book = PriceBook.from_json(compiled[1])
    used = book.find("groq", "llama-3.3-70b-versatile", NOON_2026_MS)
    assert used is not None
    for number in range(LOOKUPS_KEPT_MAX + 100):
        assert book.find("groq", f"invented-{number}", NOON_2026_MS) is None
        if number % 1000 == 0:
            assert book.find("groq", "llama-3.3-70b-versatile", NOON_2026_MS) is used
    assert len(book._lookups) == LOOKUPS_KEPT_MAX
    assert ("groq", "llama-3.3-70b-versatile") in book._lookups
