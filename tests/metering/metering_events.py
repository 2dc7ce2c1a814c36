"""Builders of events as a gateway writes them."""

from typing import Any

import msgspec

from contracts.exchange import (
    Attempt,
    Body,
    Caller,
    CallFacts,
    ExchangeCompleted,
    RequestAdmitted,
    SettingRef,
)
from contracts.ids import new_id

SETTING = SettingRef("setting-1", 3, "openai")
CALLER = Caller("key-1", "user-1", "custom-1", ("org:a", "team"))
CALL = CallFacts(
    "POST",
    "/v1/chat/completions",
    "/v1/chat/completions",
    "chat_completions",
    "chat",
    "gpt-4o",
    False,
    1000,
)


def answer(
    input_tokens: int, output_tokens: int, *, filler: int = 200, model: str = "gpt-4o"
) -> bytes:
    """A chat completion with its usage block."""
    return msgspec.json.encode(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * filler}}],
            "usage": {
                "prompt_tokens": input_tokens,
                "completion_tokens": output_tokens,
                "total_tokens": input_tokens + output_tokens,
            },
        }
    )


def whole(content: bytes) -> Body:
    return Body(content, len(content), None)


def make_admitted(**facts: Any) -> RequestAdmitted:
    defaults = {
        "event_id": facts.get("event_id") or new_id(),
        "admitted_at_ms": 1_790_000_000_000,
        "timeout_ms": 600_000,
        "caller": CALLER,
        "call": CALL,
        "setting": SETTING,
        "correlation_id": "corr-1",
        "holds": (),
    }
    return RequestAdmitted(**(defaults | facts))


def make_completed(**facts: Any) -> ExchangeCompleted:
    """An answered, priced chat completion of ten and five tokens."""
    defaults = {
        "event_id": facts.get("event_id") or new_id(),
        "admitted_at_ms": 1_790_000_000_000,
        "caller": CALLER,
        "call": CALL,
        "outcome": "answered",
        "status": 200,
        "error": None,
        "request": whole(b'{"model":"gpt-4o","messages":[]}'),
        "response": whole(answer(10, 5)),
        "response_content_type": "application/json",
        "usage_document": None,
        "duration_us": 1_500_000,
        "first_byte_us": 300_000,
        "attempts": (Attempt(SETTING, "gpt-4o", 200, None, 900, 1_490_000, 299_000, "req-1"),),
        "cost_map": None,
        "policy_action": "",
        "policy_id": "",
        "route_id": "",
        "correlation_id": "corr-1",
        "metadata": None,
        "stores_request": True,
        "stores_response": True,
        "was_admitted": True,
    }
    return ExchangeCompleted(**(defaults | facts))
