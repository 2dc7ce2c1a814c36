"""LiteLLM as a client: OpenAI's, Anthropic's and Azure's dialects with the gateway as api_base."""

import json

import litellm
import pytest
from conftest import ALL, ARGUMENTS, CHAT, ERRORS, GATEWAY, SCHEMA

TOOL = {"type": "function", "function": {"name": "toll_of", "parameters": SCHEMA}}
CALLS = [
    {"model": "openai/gpt-4o", "api_base": f"{GATEWAY}/v1"},
    {"model": "openai/gpt-4o", "api_base": f"{GATEWAY}/api/providers/openai/v1"},
    {"model": "anthropic/claude-sonnet-4-5", "api_base": GATEWAY},
    {"model": "anthropic/claude-sonnet-4-5", "api_base": f"{GATEWAY}/api/providers/anthropic"},
    {
        "model": "azure/gpt-4o",
        "api_base": f"{GATEWAY}/api/providers/azure",
        "api_version": "2024-10-21",
    },
]


@pytest.fixture(params=CALLS, ids=lambda call: call["api_base"].removeprefix(GATEWAY) or "/")
def call(request):
    """A dialect and its base."""
    return {"api_key": ALL, "num_retries": 0, "timeout": 60, **request.param}


def test_whole_and_streamed(call):
    """The same text, and usage from both."""
    whole = litellm.completion(messages=CHAT, **call)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    events = list(litellm.completion(messages=CHAT, **options, **call))
    text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)

    assert text == whole.choices[0].message.content
    assert whole.usage.completion_tokens > 0
    assert any(getattr(event, "usage", None) for event in events)


async def test_the_asynchronous_call(call):
    """acompletion, streamed."""
    text = ""
    async for event in await litellm.acompletion(messages=CHAT, stream=True, **call):
        text += event.choices[0].delta.content or ""

    assert text.startswith("every toll")


def test_tools(call):
    """A call in OpenAI's shape, whatever the dialect."""
    answer = litellm.completion(messages=CHAT, tools=[TOOL], tool_choice="required", **call)
    (called,) = answer.choices[0].message.tool_calls

    assert called.function.name == "toll_of"
    assert json.loads(called.function.arguments) == ARGUMENTS


def test_embeddings():
    """By OpenAI's dialect."""
    answer = litellm.embedding(
        model="openai/text-embedding-3-small",
        input=["a", "b"],
        dimensions=8,
        api_base=f"{GATEWAY}/v1",
        api_key=ALL,
    )

    assert [len(one["embedding"]) for one in answer.data] == [8, 8]


def test_a_key_that_nobody_made(call):
    """The exception that LiteLLM has for 401."""
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(messages=CHAT, **{**call, "api_key": "sk-nobody"})


@pytest.mark.parametrize(
    ("dialect", "status", "raised"),
    [
        # Of a 401 and a 404 in OpenAI's dialect LiteLLM reads the words before the status.
        ("openai", 400, litellm.BadRequestError),
        ("openai", 429, litellm.RateLimitError),
        ("openai", 500, litellm.InternalServerError),
        ("anthropic", 400, litellm.BadRequestError),
        ("anthropic", 401, litellm.AuthenticationError),
        ("anthropic", 404, litellm.NotFoundError),
        ("anthropic", 429, litellm.RateLimitError),
        ("anthropic", 500, litellm.InternalServerError),
    ],
)
def test_statuses_of_the_provider(dialect, status, raised):
    """As LiteLLM's own exceptions, which follow OpenAI's."""
    call = CALLS[1] if dialect == "openai" else CALLS[3]
    with pytest.raises(raised):
        litellm.completion(
            messages=CHAT,
            api_key=ERRORS[dialect],
            num_retries=0,
            max_retries=0,
            extra_headers={"x-demo-status": str(status)},
            **call,
        )
