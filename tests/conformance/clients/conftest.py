"""Where the gateway is, and what the tests of every client ask; the clients are all that is here.

Keys: `sk-all` has settings of OpenAI, Anthropic and Azure, `sk-openai` of OpenAI alone,
`sk-...-errors` settings that other tests do not use, `sk-narrow` may use gpt-4.1 and no other.
"""

import json
import os
import urllib.request
from collections.abc import Callable

import pytest

GATEWAY = os.environ["GATEWAY_URL"]
PROVIDER = os.environ["PROVIDER_URL"]

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
        with urllib.request.urlopen(f"{PROVIDER}/demo/record", timeout=10) as answer:
            return json.load(answer)["errors"]

    return count
