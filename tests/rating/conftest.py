"""The price book of the installed snapshot, compiled once for all tests of rating."""

import pytest

from rating.compile_book import compile_book
from rating.price_book import PriceBook


@pytest.fixture(scope="session")
def compiled() -> tuple[str, bytes]:
    """(version, canonical JSON)."""
    return compile_book()


@pytest.fixture(scope="session")
def book(compiled: tuple[str, bytes]) -> PriceBook:
    """The compiled book, loaded."""
    version, content = compiled
    return PriceBook.from_json(content, version)
