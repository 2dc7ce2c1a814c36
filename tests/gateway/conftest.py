"""A running gateway over real Postgres and NATS, with the demo provider behind it."""

from typing import Any

import pytest
import uvloop
from support.running_gateway import bus, gateway, provider

__all__ = ["bus", "gateway", "provider"]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Any] | None:
    """Of tests that run a part of a worker: the loop that production runs on."""
    return {"uvloop": uvloop.new_event_loop} if item.path.stem == "test_http_server" else None
