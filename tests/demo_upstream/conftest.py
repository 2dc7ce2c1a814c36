"""The demo provider, one process a module."""

from collections.abc import Iterator

import httpx
import pytest
from support import loopback
from support.demo_provider import running_demo_provider


@pytest.fixture(scope="module")
def demo_url() -> Iterator[str]:
    """Its address."""
    with running_demo_provider() as url:
        yield url


@pytest.fixture
def client(demo_url: str) -> Iterator[httpx.Client]:
    """A client with a credential and a record begun anew."""
    with loopback.Client(base_url=demo_url, headers={"authorization": "Bearer any"}) as client:
        client.delete("/demo/record")
        yield client
