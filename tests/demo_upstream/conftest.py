"""The demo provider as the program it is, on a free port."""

import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest


@pytest.fixture(scope="module")
def demo_url() -> Iterator[str]:
    """Its address; the process ends with the module."""
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.demo_upstream"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    try:
        yield url
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture
def client(demo_url: str) -> Iterator[httpx.Client]:
    """A client with a credential and a record begun anew."""
    with httpx.Client(base_url=demo_url, headers={"authorization": "Bearer any"}) as client:
        client.delete("/demo/record")
        yield client
