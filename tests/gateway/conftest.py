"""A running gateway over real Postgres and NATS, with the demo provider behind it."""

import asyncio
from typing import Any

import pytest
import uvloop
from support.running_gateway import bus, gateway, provider

__all__ = ["bus", "gateway", "provider"]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    """Of tests that run a part of a worker: the loop that production runs on."""
    if item.path.stem == "test_http_server":
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
