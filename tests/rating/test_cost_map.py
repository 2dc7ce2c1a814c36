"""A setting's own prices: exact, per 1,000 tokens, over the book's, and loud when broken."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.ledger import RatingStatus
from contracts.meters import Evidence, Meter, Usage
from rating.charge import charge
from rating.cost_map import cost_map_price
from rating.price_book import PriceBook
from rating.rate import Rating

AT_MS = 1_793_448_000_000
WHOLE = (
    b'{"promptCostPerModel":{"m":0.0025,"gpt-4o":1},"completionCostPerModel":{"m":1e-2,"gpt-4o":2},'
    b'"embeddingsCostPerModel":{"e":0.00013}}'
)


def bill(
    book: PriceBook,
    cost_map: bytes | None,
    model: str,
    *,
    served: str | None = None,
    provider: str = "openai",
    operation: str = "chat",
    quantities: dict[Meter, int] | None = None,
    output_tokens: int = 1000,
) -> Rating:
    counts = quantities or {Meter.INPUT_UNCACHED: 1000, Meter.OUTPUT_TEXT: output_tokens}
    usage = Usage(counts, 1000, output_tokens, Evidence.REPORTED, served, None, None)
    return charge(
        usage,
        book,
        provider=provider,
        model_sent=model,
        operation=operation,
        cost_map=cost_map,
        at_ms=AT_MS,
    )


def test_both_sides_listed_are_priced_by_the_map(book: PriceBook) -> None:
    """1,000 prompt and 1,000 completion tokens cost the two numbers of the map, in dollars."""
    rating = bill(book, WHOLE, "m")
    assert rating.status is RatingStatus.RATED
    assert rating.source == "cost_map"
    assert rating.total_picousd == 12_500_000_000


def test_the_map_overrides_the_book(book: PriceBook) -> None:
    """A model that the book knows costs what its setting says."""
    assert bill(book, None, "gpt-4o").source == "book"
    overridden = bill(book, WHOLE, "gpt-4o")
    assert (overridden.source, overridden.total_picousd) == ("cost_map", 3 * 10**12)


def test_cached_and_reasoning_tokens_take_their_sides_price(book: PriceBook) -> None:
    """A map has two prices: one for whatever goes in, one for whatever comes out."""
    rating = bill(
        book,
        WHOLE,
        "gpt-4o",
        quantities={
            Meter.INPUT_UNCACHED: 500,
            Meter.CACHE_READ: 500,
            Meter.REASONING: 900,
            Meter.OUTPUT_TEXT: 100,
        },
    )
    assert rating.total_picousd == 3 * 10**12


def test_names_are_exact_and_what_is_not_listed_is_the_books(book: PriceBook) -> None:
    """Neither another case nor a dated name is the name in the map."""
    assert cost_map_price(WHOLE, "M") is None
    assert cost_map_price(WHOLE, "gpt-4o-mini") is None
    assert bill(book, WHOLE, "gpt-4o-mini").source == "book"
    assert bill(book, WHOLE, "unheard-of").status is RatingStatus.UNPRICED


def test_the_served_name_is_asked_first_then_the_one_sent(book: PriceBook) -> None:
    """Operators list models as they call them; the answer may name a dated snapshot."""
    assert bill(book, WHOLE, "gpt-4o", served="gpt-4o-2024-08-06").total_picousd == 3 * 10**12
    assert bill(book, WHOLE, "gpt-4o", served="m").total_picousd == 12_500_000_000


def test_a_served_model_that_the_book_does_not_know_is_not_priced_as_another(
    book: PriceBook,
) -> None:
    """Asked for a known model, served by an unknown one: unpriced."""
    assert bill(book, None, "gpt-4o", served="mystery-1").status is RatingStatus.UNPRICED


@pytest.mark.parametrize(
    ("cost_map", "listed_side_picousd", "book_side_picousd"),
    [
        (b'{"promptCostPerModel":{"gpt-4o":1}}', 10**12, 1000 * 10_000_000),
        (b'{"completionCostPerModel":{"gpt-4o":2}}', 2 * 10**12, 1000 * 2_500_000),
    ],
)
def test_a_side_that_is_not_listed_is_the_books(
    book: PriceBook, cost_map: bytes, listed_side_picousd: int, book_side_picousd: int
) -> None:
    """One side from the map, one from the book, and the source says so."""
    rating = bill(book, cost_map, "gpt-4o")
    assert rating.source == "cost_map+book"
    assert rating.total_picousd == listed_side_picousd + book_side_picousd


def test_a_side_that_nobody_prices_is_unpriced_if_it_was_used(book: PriceBook) -> None:
    """A map with one side for an unknown model prices exchanges of that side alone."""
    only_prompt = b'{"promptCostPerModel":{"m":1}}'
    assert bill(book, only_prompt, "m").status is RatingStatus.UNPRICED
    assert bill(book, only_prompt, "m", output_tokens=0).total_picousd == 10**12


def test_embeddings_have_a_map_of_their_own(book: PriceBook) -> None:
    """The embeddings map holds for embeddings, the two others do not, and the other way round."""
    embedded = bill(book, WHOLE, "e", operation="embeddings", output_tokens=0)
    assert embedded.total_picousd == 130_000_000
    assert bill(book, WHOLE, "e").status is RatingStatus.UNPRICED
    assert bill(book, WHOLE, "m", operation="embeddings").status is RatingStatus.UNPRICED


def test_the_books_side_follows_the_books_dates(book: PriceBook) -> None:
    """One map, one model, two dates: the side that the book prices changes with the book."""
    only_prompt = b'{"promptCostPerModel":{"o3":1}}'
    totals = []
    for at_ms in (1_749_513_599_999, 1_749_513_600_000):
        usage = Usage(
            {Meter.INPUT_UNCACHED: 0, Meter.OUTPUT_TEXT: 1},
            0,
            1,
            Evidence.REPORTED,
            "o3",
            None,
            None,
        )
        rating = charge(
            usage,
            book,
            provider="openai",
            model_sent="o3",
            operation="chat",
            cost_map=only_prompt,
            at_ms=at_ms,
        )
        totals.append(rating.total_picousd)
    assert totals == [40_000_000, 8_000_000]


def test_a_map_replaces_the_fee_per_request_and_keeps_searches(book: PriceBook) -> None:
    """What a request costs is the map's to say; what is not tokens keeps the book's price."""
    listed = b'{"promptCostPerModel":{"sonar":1},"completionCostPerModel":{"sonar":1}}'
    counts = {Meter.INPUT_UNCACHED: 1000, Meter.OUTPUT_TEXT: 1000}
    by_book = bill(book, None, "sonar", provider="perplexity", quantities=counts)
    by_map = bill(book, listed, "sonar", provider="perplexity", quantities=counts)
    assert by_book.amounts[Meter.REQUESTS] > 0
    assert by_map.total_picousd == 2 * 10**12
    searched = {**counts, Meter.SEARCHES: 2}
    listed = b'{"promptCostPerModel":{"gpt-5":1},"completionCostPerModel":{"gpt-5":1}}'
    rating = bill(book, listed, "gpt-5", quantities=searched)
    assert rating.total_picousd == 2 * 10**12 + 2 * 10**10


def test_zero_is_a_price_and_null_is_none(book: PriceBook) -> None:
    """Zero in the map means free; null maps and empty documents list nothing."""
    free = b'{"promptCostPerModel":{"gpt-4o":0},"completionCostPerModel":{"gpt-4o":0.0}}'
    rating = bill(book, free, "gpt-4o")
    assert (rating.status, rating.total_picousd) == (RatingStatus.RATED, 0)
    for nothing in (b"", b"null", b"{}", b'{"promptCostPerModel":null}', b'{"other":1}'):
        assert cost_map_price(nothing, "gpt-4o") is None


@pytest.mark.parametrize(
    "broken",
    [
        b"[]",
        b"{",
        b'"text"',
        b"\xff\xfe",
        b'{"promptCostPerModel":[]}',
        b'{"promptCostPerModel":{"gpt-4o":-1}}',
        b'{"promptCostPerModel":{"gpt-4o":"NaN"}}',
        b'{"promptCostPerModel":{"gpt-4o":"Infinity"}}',
        b'{"promptCostPerModel":{"gpt-4o":1e999999}}',
        b'{"promptCostPerModel":{"gpt-4o":1e-999999}}',
        b'{"promptCostPerModel":{"gpt-4o":true}}',
        b'{"promptCostPerModel":{"gpt-4o":0.' + b"1" * 100_000 + b"}}",
    ],
)
def test_a_broken_map_is_unpriced_not_ignored(book: PriceBook, broken: bytes) -> None:
    """An override that cannot be followed shows as unpriced; the book does not step in."""
    rating = bill(book, broken, "gpt-4o")
    assert rating.status is RatingStatus.UNPRICED
    assert rating.total_picousd is None


@given(st.decimals(min_value=0, max_value=10**6, places=9))
def test_numbers_are_read_from_their_text(usd: Decimal) -> None:
    """A price is the decimal that was written, not the nearest binary fraction."""
    text = format(usd, "f")
    price = cost_map_price(b'{"promptCostPerModel":{"m":%s}}' % text.encode(), "m")
    assert price is not None
    unit = price.prices[Meter.INPUT_UNCACHED]
    assert Decimal(unit.numerator) == usd * 10**9 * unit.denominator


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["promptCostPerModel", "completionCostPerModel", "m"]),
                inner,
                max_size=3,
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_map_raises(cost_map: bytes) -> None:
    """Whatever an operator stored, metering goes on."""
    cost_map_price(cost_map, "m")
