"""Anthropic's client at the root and at its provider's base: answers, events and exceptions."""

import anthropic
import pytest
from conftest import ALL, ARGUMENTS, CHAT, ERRORS, GATEWAY, NARROW, SCHEMA, USAGE

ASKED = {"model": "claude-sonnet-4-5", "max_tokens": 100, "messages": CHAT}
TOOLS = {
    "tools": [{"name": "toll_of", "input_schema": SCHEMA}],
    "tool_choice": {"type": "tool", "name": "toll_of"},
}
BASES = ["", "/api/providers/anthropic"]


def client_of(base: str, key: str, **options) -> anthropic.Anthropic:
    """Anthropic's client that does not retry unless told to."""
    return anthropic.Anthropic(
        **{"base_url": GATEWAY + base, "api_key": key, "max_retries": 0, "timeout": 60, **options}
    )


@pytest.fixture(params=BASES)
def base(request):
    """Where the client is pointed to."""
    return request.param


@pytest.fixture
def client(base):
    """With a key that has a setting of Anthropic's."""
    with client_of(base, ALL) as client:
        yield client


@pytest.fixture
def ill_treated(base):
    """With a key whose setting other tests do not use."""
    with client_of(base, ERRORS["anthropic"]) as client:
        yield client


def test_messages(client):
    """Text, usage with what was read from the cache, and a request id."""
    raw = client.messages.with_raw_response.create(**ASKED, extra_headers=USAGE)
    answer = raw.parse()

    assert answer.content[0].text.startswith("every toll")
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (274, 44)
    assert answer.usage.cache_read_input_tokens == 100
    assert raw.headers["x-request-id"]


def test_streamed_messages(client):
    """Every event by its name, in the order that the provider gave."""
    events = list(client.messages.create(**ASKED, stream=True, extra_headers=USAGE))
    kinds = [event.type for event in events]

    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert events[-2].usage.output_tokens == 44


def test_the_stream_helper(client):
    """The accumulating helper gives the text and the whole message."""
    with client.messages.stream(**ASKED) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()

    assert message.content[0].text == text
    assert text.startswith("every toll")


def test_tools(client):
    """A use with its input, whole and in pieces."""
    whole = client.messages.create(**ASKED, **TOOLS)
    with client.messages.stream(**ASKED, **TOOLS) as stream:
        streamed = stream.get_final_message()

    for message in (whole, streamed):
        assert message.stop_reason == "tool_use"
        assert (message.content[0].name, message.content[0].input) == ("toll_of", ARGUMENTS)


def test_count_tokens(client):
    """More text, more tokens."""
    asked = {"model": ASKED["model"]}
    short = client.messages.count_tokens(**asked, messages=CHAT).input_tokens
    long = client.messages.count_tokens(**asked, messages=CHAT, system="be brief " * 50)

    assert 0 < short < long.input_tokens


async def test_the_asynchronous_client(base):
    """Whole and streamed from one event loop."""
    async with anthropic.AsyncAnthropic(
        base_url=GATEWAY + base, api_key=ALL, max_retries=0, timeout=60
    ) as client:
        whole = await client.messages.create(**ASKED)
        async with client.messages.stream(**ASKED) as stream:
            text = "".join([piece async for piece in stream.text_stream])

    assert whole.content[0].text == text


def test_a_bearer_token_takes_the_keys_place(base):
    """`auth_token` is a key as well."""
    with anthropic.Anthropic(
        base_url=GATEWAY + base, auth_token=ALL, api_key=None, max_retries=0
    ) as client:
        assert client.messages.create(**ASKED).content


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (403, anthropic.PermissionDeniedError),
        (404, anthropic.NotFoundError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_statuses_of_the_provider(ill_treated, status, raised, stream):
    """Its status and its error object, streamed or not."""
    with pytest.raises(raised) as failure:
        ill_treated.messages.create(
            **ASKED, stream=stream, extra_headers={"x-demo-status": str(status)}
        )

    assert failure.value.status_code == status
    assert failure.value.body["type"] == "error"
    assert f"asked to answer {status}" in failure.value.body["error"]["message"]


def test_a_key_that_nobody_made(base):
    """The gateway's own 401, in Anthropic's shape."""
    with (
        client_of(base, "sk-nobody") as client,
        pytest.raises(anthropic.AuthenticationError) as failure,
    ):
        client.messages.create(**ASKED)

    assert failure.value.body["type"] == "error"
    assert failure.value.body["error"]["type"] == "authentication_error"


def test_a_model_that_the_key_may_not_use(base):
    """The gateway's own 403, in Anthropic's shape."""
    with (
        client_of(base, NARROW) as client,
        pytest.raises(anthropic.PermissionDeniedError) as failure,
    ):
        client.messages.create(**ASKED)

    assert failure.value.body["error"]["type"] == "permission_error"


@pytest.mark.parametrize("how", ["x-demo-cut", "x-demo-error-after"])
def test_a_stream_that_breaks_never_ends_well(ill_treated, how):
    """The pieces before come through, then an exception."""
    got = []
    with pytest.raises(anthropic.APIError):  # noqa: PT012 - the pieces count as well
        for event in ill_treated.messages.create(
            **ASKED, stream=True, extra_headers={how: "3", "x-demo-chunks": "8"}
        ):
            got += [event] if event.type == "content_block_delta" else []

    assert len(got) == 3


def test_an_answer_that_does_not_come(ill_treated):
    """A connection that the provider breaks before its head is a 502."""
    with pytest.raises(anthropic.InternalServerError) as failure:
        ill_treated.messages.create(**ASKED, extra_headers={"x-demo-cut": "head"})

    assert failure.value.status_code == 502


def test_a_client_that_will_not_wait(ill_treated):
    """The client's own timeout."""
    with pytest.raises(anthropic.APITimeoutError):
        ill_treated.with_options(timeout=0.3).messages.create(
            **ASKED, extra_headers={"x-demo-latency-ms": "60000"}
        )
