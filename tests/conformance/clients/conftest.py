"""Where the gateway is, and what the tests of every client ask; the clients are all that is here.

Of the keys ALL has settings of OpenAI, Anthropic and Azure, those of ERRORS have settings that other
tests do not use, NARROW may use gpt-4.1 and no other, those of RECORDED lead to the recorder.
"""

import json
import os
import urllib.request
from collections.abc import Callable

import pytest

GATEWAY = os.environ["GATEWAY_URL"]
PROVIDER = os.environ["PROVIDER_URL"]
RECORDER = os.environ["RECORDER_URL"]
LANE = os.environ["LANE"]

ALL = f"sk-all{LANE}"
NARROW = f"sk-narrow{LANE}"
ERRORS = {name: f"sk-{name}-errors{LANE}" for name in ("openai", "anthropic")}
RECORDED = {name: f"sk-{name}-recorded{LANE}" for name in ("openai", "anthropic")}

CHAT = [{"role": "user", "content": "what does the toll cost?"}]
USAGE = {"x-demo-usage": "prompt=374,completion=44,cached=100,reasoning=4"}
SCHEMA = {
    "type": "object",
    "properties": {"carts": {"type": "integer"}, "road": {"type": "string"}},
    "required": ["carts", "road"],
}
ARGUMENTS = {"carts": 2, "road": "north"}


@pytest.fixture
def errors() -> Callable[[], int]:
    """How many requests the provider has answered with an error by now."""

    def count() -> int:
        with urllib.request.urlopen(f"{PROVIDER}/demo/record", timeout=60) as answer:
            return json.load(answer)["errors"]

    return count
