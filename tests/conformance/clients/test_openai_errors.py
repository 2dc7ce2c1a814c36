"""What goes wrong arrives as the exception that users of OpenAI's client catch."""

import contextlib

import httpx
import openai
import pytest
from conftest import CHAT, ERRORS, GATEWAY, NARROW

BASES = ["/v1", "/api/providers/openai/v1"]


def client_of(base: str, key: str = ERRORS["openai"], **options) -> openai.OpenAI:
    """OpenAI's client that does not retry unless told to."""
    return openai.OpenAI(
        **{"base_url": GATEWAY + base, "api_key": key, "max_retries": 0, "timeout": 60, **options}
    )


@pytest.fixture(params=BASES)
def client(request):
    """With a key whose setting is there to be ill-treated."""
    with client_of(request.param) as client:
        yield client


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_statuses_of_the_provider(client, status, raised, stream):
    """Its status, its words and a request id, streamed or not."""
    with pytest.raises(raised) as failure:
        client.chat.completions.create(
            model="gpt-4o",
            messages=CHAT,
            stream=stream,
            extra_headers={"x-demo-status": str(status)},
        )

    assert failure.value.status_code == status
    assert f"asked to answer {status}" in failure.value.body["message"]
    assert failure.value.request_id
    assert ("retry-after" in failure.value.response.headers) == (status in (429, 503))


@pytest.mark.parametrize("base", BASES)
def test_a_key_that_nobody_made(base):
    """The gateway's own 401, with the code that OpenAI gives."""
    with client_of(base, "sk-nobody") as client, pytest.raises(openai.AuthenticationError) as e:
        client.chat.completions.create(model="gpt-4o", messages=CHAT)

    assert (e.value.status_code, e.value.code) == (401, "invalid_api_key")
    assert e.value.request_id


@pytest.mark.parametrize("base", BASES)
def test_a_model_that_the_key_may_not_use(base):
    """The gateway's own 403; the model that it may use is answered."""
    with client_of(base, NARROW) as client:
        assert client.chat.completions.create(model="gpt-4.1", messages=CHAT).choices
        with pytest.raises(openai.PermissionDeniedError) as failure:
            client.chat.completions.create(model="gpt-4o", messages=CHAT)

    assert failure.value.code


def test_models_are_those_of_the_key():
    """The plain root lists and retrieves what a key may use."""
    with client_of("/v1", NARROW) as client:
        assert [model.id for model in client.models.list()] == ["gpt-4.1"]
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-4o")


def test_a_body_without_a_model(client):
    """400 from whoever sees it first."""
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=None, messages=CHAT)


def test_a_path_that_does_not_exist(client):
    """404 of the provider, with its words."""
    with pytest.raises(openai.NotFoundError) as failure:
        client.fine_tuning.jobs.list()

    assert "Unknown path" in failure.value.message


def test_an_answer_that_does_not_come(client):
    """A connection that the provider breaks before its head is a 502."""
    with pytest.raises(openai.InternalServerError) as failure:
        client.chat.completions.create(
            model="gpt-4o", messages=CHAT, extra_headers={"x-demo-cut": "head"}
        )

    assert failure.value.status_code == 502


@pytest.mark.parametrize("how", ["x-demo-cut", "x-demo-error-after"])
def test_a_chat_that_breaks_never_ends_well(client, how):
    """The pieces before come through, then an exception: broken off or told by the provider."""
    got = []
    stream = client.chat.completions.create(
        model="gpt-4o", messages=CHAT, stream=True, extra_headers={how: "3", "x-demo-chunks": "8"}
    )
    with pytest.raises(openai.APIError) as failure:  # noqa: PT012 - the pieces count as well
        for event in stream:
            got += [c.delta.content for c in event.choices if c.delta.content]

    assert len(got) == 3
    assert failure.value.message


@pytest.mark.parametrize(
    ("how", "ends"),
    [
        ("x-demo-error-after", contextlib.nullcontext()),
        # The former is what the client says from its third major version on.
        ("x-demo-cut", pytest.raises((openai.APIConnectionError, httpx.RemoteProtocolError))),
    ],
)
def test_a_response_that_breaks_says_so(client, how, ends):
    """Its last event is `error`, which this client gives as an event; a cut stream has no end."""
    kinds = []
    stream = client.responses.create(
        model="gpt-4o", input="hello", stream=True, extra_headers={how: "3", "x-demo-chunks": "8"}
    )
    with ends:
        for event in stream:
            kinds.append(event.type)  # noqa: PERF401 - what came before the exception counts

    assert kinds.count("response.output_text.delta") == 3
    assert kinds[-1] == "error"
    assert "response.completed" not in kinds


def test_a_gateway_that_is_not_there():
    """No gateway, no answer: the client says that it cannot connect."""
    with (
        client_of("/v1", base_url="http://127.0.0.1:9/v1") as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.chat.completions.create(model="gpt-4o", messages=CHAT)


def test_a_client_that_will_not_wait(client):
    """The client's own timeout, before the head and between events."""
    slow = client.with_options(timeout=0.3)
    with pytest.raises(openai.APITimeoutError):
        slow.chat.completions.create(
            model="gpt-4o", messages=CHAT, extra_headers={"x-demo-latency-ms": "60000"}
        )

    assert client.chat.completions.create(model="gpt-4o", messages=CHAT).choices


def test_a_timeout_that_the_gateway_keeps(client):
    """x-request-timeout ends the exchange with 504."""
    with pytest.raises(openai.InternalServerError) as failure:
        client.chat.completions.create(
            model="gpt-4o",
            messages=CHAT,
            extra_headers={"x-demo-latency-ms": "60000", "x-request-timeout": "300ms"},
        )

    assert failure.value.status_code == 504


@pytest.mark.parametrize(("status", "calls"), [("429", 2), ("500", 2), ("400", 1)])
def test_retries_are_the_clients(client, errors, status, calls):
    """What it retries comes to the provider again, and nothing else does."""
    before = errors()
    with pytest.raises(openai.APIStatusError):
        client.with_options(max_retries=1).chat.completions.create(
            model="gpt-4o", messages=CHAT, extra_headers={"x-demo-status": status}
        )

    assert errors() - before == calls
