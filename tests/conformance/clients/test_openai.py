"""OpenAI's client on both of its base URLs: what the provider answers, as the client's own types."""

import io
import json

import openai
import pytest
from conftest import ALL, ARGUMENTS, CHAT, ERRORS, GATEWAY, SCHEMA, USAGE

TOOL = {"type": "function", "function": {"name": "toll_of", "parameters": SCHEMA}}
BASES = ["/v1", "/api/providers/openai/v1"]


@pytest.fixture(params=BASES)
def client(request):
    """OpenAI's client as users make it."""
    with openai.OpenAI(
        base_url=GATEWAY + request.param, api_key=ALL, max_retries=0, timeout=60
    ) as client:
        yield client


def test_chat(client):
    """Text, usage in its parts, and a request id of the gateway's."""
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=CHAT, extra_headers=USAGE
    )
    answer = raw.parse()

    assert answer.choices[0].message.content.startswith("every toll")
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (374, 44)
    assert answer.usage.prompt_tokens_details.cached_tokens == 100
    assert answer.usage.completion_tokens_details.reasoning_tokens == 4
    assert answer._request_id == raw.request_id == raw.headers["x-request-id"]
    assert raw.request_id


def test_several_choices(client):
    """n=2 gives two, whole and streamed."""
    answer = client.chat.completions.create(model="gpt-4o", messages=CHAT, n=2)
    events = list(client.chat.completions.create(model="gpt-4o", messages=CHAT, n=2, stream=True))
    texts = {0: "", 1: ""}
    for event in events:
        for choice in event.choices:
            texts[choice.index] += choice.delta.content or ""

    assert [choice.index for choice in answer.choices] == [0, 1]
    assert texts == {choice.index: choice.message.content for choice in answer.choices}


@pytest.mark.parametrize("asks", [False, True])
def test_streamed_chat(client, asks):
    """Text in pieces; the usage event comes to who asked for it, and to nobody else."""
    options = {"stream_options": {"include_usage": True}} if asks else {}
    stream = client.chat.completions.create(
        model="gpt-4o", messages=CHAT, stream=True, extra_headers=USAGE, **options
    )
    events = list(stream)
    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    used = [event.usage for event in events if event.usage]

    assert text.startswith("every toll")
    assert [len(event.choices) for event in events].count(0) == (1 if asks else 0)
    assert [usage.completion_tokens for usage in used] == ([44] if asks else [])


def test_a_stream_may_be_left(client):
    """Closed after its first event, and the client goes on."""
    stream = client.chat.completions.create(
        model="gpt-4o",
        messages=CHAT,
        stream=True,
        extra_headers={"x-demo-chunks": "500", "x-demo-chunk-delay-ms": "10"},
    )
    assert next(iter(stream)).object == "chat.completion.chunk"
    stream.close()

    assert client.chat.completions.create(model="gpt-4o", messages=CHAT).choices


def test_the_stream_helper(client):
    """The accumulating helper ends with the whole answer."""
    with client.chat.completions.stream(model="gpt-4o", messages=CHAT) as stream:
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()

    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert answer.choices[0].message.content.startswith("every toll")


def test_tools(client):
    """A call with its arguments, whole and in pieces."""
    asked = {"model": "gpt-4o", "messages": CHAT, "tools": [TOOL], "tool_choice": "required"}
    whole = client.chat.completions.create(**asked).choices[0]
    (call,) = whole.message.tool_calls
    pieces = [
        choice.delta.tool_calls[0]
        for event in client.chat.completions.create(**asked, stream=True)
        for choice in event.choices
        if choice.delta.tool_calls
    ]

    assert whole.finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == ("toll_of", ARGUMENTS)
    assert pieces[0].function.name == "toll_of"
    assert json.loads("".join(piece.function.arguments for piece in pieces)) == ARGUMENTS


def test_completions(client):
    """The older path, whole and streamed."""
    whole = client.completions.create(model="gpt-4o", prompt="hello")
    streamed = client.completions.create(model="gpt-4o", prompt="hello", stream=True)

    text = "".join(event.choices[0].text for event in streamed if event.choices)
    assert text == whole.choices[0].text
    assert whole.usage.total_tokens > 0


def test_embeddings(client):
    """Base64, which the client asks for by itself, says the same as numbers."""
    asked = {"model": "text-embedding-3-small", "input": ["a", "b"], "dimensions": 8}
    by_default = client.embeddings.create(**asked)
    as_numbers = client.embeddings.create(**asked, encoding_format="float")

    assert [one.index for one in by_default.data] == [0, 1]
    for packed, plain in zip(by_default.data, as_numbers.data, strict=True):
        assert packed.embedding == pytest.approx(plain.embedding, abs=1e-6)
    assert by_default.usage.prompt_tokens > 0


def test_responses(client):
    """Whole and streamed: named events, the last of which has the usage."""
    whole = client.responses.create(model="gpt-4o", input="hello", extra_headers=USAGE)
    events = list(
        client.responses.create(model="gpt-4o", input="hello", stream=True, extra_headers=USAGE)
    )
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")

    assert whole.output_text == text
    assert whole.usage.output_tokens_details.reasoning_tokens == 4
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.input_tokens == 374


def test_the_responses_helper(client):
    """The accumulating helper of Responses."""
    with client.responses.stream(model="gpt-4o", input="hello") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text.startswith("every toll")


def test_models(client):
    """Listed by the client's own paging; one retrieved by its name."""
    names = [model.id for model in client.models.list()]

    assert "gpt-4o" in names
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-none")


def test_files(client):
    """Up, described, listed, down again byte for byte, gone."""
    content = bytes(range(256)) * 300
    file = client.files.create(file=("tölle.bin", content), purpose="user_data")
    try:
        assert (file.bytes, file.purpose) == (len(content), "user_data")
        assert client.files.retrieve(file.id).filename == file.filename
        assert file.id in [held.id for held in client.files.list()]
        assert client.files.content(file.id).read() == content
        with client.files.with_streaming_response.content(file.id) as answer:
            assert b"".join(answer.iter_bytes(1_000)) == content
    finally:
        assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_moderations(client):
    """With a model and with the provider's default."""
    named = client.moderations.create(model="omni-moderation-latest", input="hello")
    default = client.moderations.create(input="hello")

    assert not named.results[0].flagged
    assert not default.results[0].flagged


def test_images(client):
    """Generated from JSON, edited by a form."""
    made = client.images.generate(model="gpt-image-1", prompt="a toll house")
    edited = client.images.edit(
        model="gpt-image-1", image=("a.png", io.BytesIO(b"\x89PNG"), "image/png"), prompt="at dusk"
    )

    assert made.data[0].b64_json == edited.data[0].b64_json
    assert made.usage.total_tokens == 281


def test_sound(client):
    """Text from a form with a file; speech as bytes, whole and in pieces."""
    sound = ("said.wav", b"RIFF" + bytes(40_000), "audio/wav")
    heard = client.audio.transcriptions.create(model="whisper-1", file=sound)
    as_text = client.audio.transcriptions.create(
        model="whisper-1", file=sound, response_format="text"
    )
    english = client.audio.translations.create(model="whisper-1", file=sound)
    asked = {"model": "tts-1", "voice": "alloy", "input": "hello"}
    whole = client.audio.speech.create(**asked).read()
    with client.audio.speech.with_streaming_response.create(**asked) as answer:
        pieces = b"".join(answer.iter_bytes(1_000))

    assert heard.text == english.text == as_text.strip() == "every toll is counted once"
    assert whole == pieces
    assert whole.startswith(b"ID3\x04\x00\x01\x02")


@pytest.mark.parametrize("base", BASES)
async def test_the_asynchronous_client(base):
    """Chat, a stream, a file and Responses from one event loop."""
    async with openai.AsyncOpenAI(
        base_url=GATEWAY + base, api_key=ALL, max_retries=0, timeout=60
    ) as client:
        whole = await client.chat.completions.create(model="gpt-4o", messages=CHAT)
        stream = await client.chat.completions.create(model="gpt-4o", messages=CHAT, stream=True)
        text = ""
        async for event in stream:
            text += event.choices[0].delta.content or ""
        response = await client.responses.create(model="gpt-4o", input="hello")
        names = [model.id async for model in client.models.list()]
        file = await client.files.create(file=b"content", purpose="user_data")
        content = await client.files.content(file.id)

        assert whole.choices[0].message.content == text == response.output_text
        assert "gpt-4o" in names
        assert content.read() == b"content"
        ill_treated = client.with_options(api_key=ERRORS["openai"])
        with pytest.raises(openai.RateLimitError):
            await ill_treated.chat.completions.create(
                model="gpt-4o", messages=CHAT, extra_headers={"x-demo-status": "429"}
            )
