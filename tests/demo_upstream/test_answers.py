"""What the demo provider answers, in every dialect, to raw requests and to OpenAI's own client."""

import json

import httpx
import openai
import pytest

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
ASKED = {"x-demo-usage": "prompt=374,completion=44,cached=100,reasoning=4"}


def events_of(text: str) -> list[dict]:
    lines = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_the_usage_is_what_the_request_asked_for(client):
    """Cached tokens are a part of the prompt's, reasoning a part of the completion's."""
    usage = client.post("/v1/chat/completions", json=CHAT, headers=ASKED).json()["usage"]

    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (374, 44)
    assert usage["total_tokens"] == 418
    assert usage["prompt_tokens_details"]["cached_tokens"] == 100
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 4


def test_metadata_asks_like_headers_and_a_header_wins(client):
    """Clients that cannot set headers write demo_usage into the body's metadata."""
    body = {**CHAT, "metadata": {"demo_usage": "prompt=5,completion=6", "other": "x"}}
    by_body = client.post("/v1/chat/completions", json=body).json()["usage"]
    by_both = client.post("/v1/chat/completions", json=body, headers=ASKED).json()["usage"]

    assert (by_body["prompt_tokens"], by_body["completion_tokens"]) == (5, 6)
    assert by_both["prompt_tokens"] == 374


def test_usage_is_computed_from_the_text_when_nobody_asks(client):
    """A longer prompt counts more; the answer has as many words as it reports tokens."""
    short = client.post("/v1/chat/completions", json=CHAT).json()
    longer = {**CHAT, "messages": [{"role": "user", "content": "hello " * 100}], "max_tokens": 5}
    long = client.post("/v1/chat/completions", json=longer).json()

    assert long["usage"]["prompt_tokens"] > short["usage"]["prompt_tokens"] > 0
    assert long["usage"]["completion_tokens"] == 5
    assert len(long["choices"][0]["message"]["content"].split()) == 5
    assert long["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("include", [True, False, None])
def test_the_usage_event_of_a_stream_is_only_for_who_asked(client, include):
    """include_usage gives one event without choices before [DONE]; else no event has usage."""
    body = {**CHAT, "stream": True}
    if include is not None:
        body["stream_options"] = {"include_usage": include}
    text = client.post("/v1/chat/completions", json=body, headers=ASKED).text
    reported = [event for event in events_of(text) if event.get("usage")]

    assert text.endswith("data: [DONE]\n\n")
    assert len(reported) == (1 if include else 0)
    if include:
        assert reported[0]["choices"] == []
        assert reported[0]["usage"]["completion_tokens"] == 44


def test_no_usage_is_reported_when_the_request_says_so(client):
    """Neither in JSON nor in a stream that asked, in either dialect."""
    silent = {**ASKED, "x-demo-no-usage": "1"}
    streamed = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    answers = [
        client.post("/v1/chat/completions", json=CHAT, headers=silent),
        client.post("/v1/chat/completions", json=streamed, headers=silent),
        client.post("/v1/messages", json=CHAT, headers=silent),
    ]

    assert all("prompt_tokens" not in a.text and "input_tokens" not in a.text for a in answers)


@pytest.mark.parametrize("count", [0, 1, 7, 200])
def test_a_stream_has_as_many_content_events_as_asked(client, count):
    """More events than text gives empty ones, not fewer."""
    headers = {"x-demo-chunks": str(count), "x-demo-content-bytes": "50"}
    response = client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=headers)
    deltas = [event["choices"][0]["delta"] for event in events_of(response.text)]
    contents = [delta["content"] for delta in deltas[1:] if "content" in delta]

    assert len(contents) == count
    assert len("".join(contents)) == (50 if count else 0)


@pytest.mark.parametrize(
    ("path", "is_anthropic"), [("/v1/chat/completions", False), ("/v1/messages", True)]
)
@pytest.mark.parametrize("status", [400, 401, 429, 500, 503, 529])
def test_errors_come_in_the_shape_of_their_dialect(client, path, is_anthropic, status):
    """The status asked for, the dialect's error object, Retry-After where it belongs."""
    headers = {"x-demo-status": str(status), "x-demo-retry-after": "7"}
    response = client.post(path, json=CHAT, headers=headers)
    body = response.json()

    assert response.status_code == status
    assert body["error"]["message"]
    assert (body.get("type") == "error") is is_anthropic
    assert response.headers.get("retry-after") == ("7" if status in (429, 503) else None)


@pytest.mark.parametrize("cut", ["head", "0", "3"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_answer_never_looks_complete(client, cut, stream):
    """The connection is reset, and the record says the answer was incomplete."""
    headers = {"x-demo-cut": cut}
    with pytest.raises(httpx.TransportError):
        client.post("/v1/chat/completions", json={**CHAT, "stream": stream}, headers=headers)

    record = client.get("/demo/record").json()
    assert (record["requests"], record["incomplete"], record["succeeded"]) == (1, 1, 0)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_an_error_in_the_middle_of_a_stream_has_no_clean_end(client, path):
    """The error event is the last one."""
    body = {**CHAT, "input": "hello", "stream": True}
    text = client.post(path, json=body, headers={"x-demo-error-after": "2"}).text

    assert "asked to fail" in text.strip().split("\n\n")[-1]
    assert "[DONE]" not in text
    assert "completed" not in text


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"x-demo-usage": "prompt=x"}, CHAT, 400),
        ({"x-demo-usage": "prompt=1,cached=2"}, CHAT, 400),
        ({"x-demo-chunks": "-1"}, CHAT, 400),
        ({"x-demo-wrong": "1"}, CHAT, 400),
        ({}, {"messages": []}, 400),
        ({"authorization": ""}, CHAT, 401),
    ],
)
def test_what_makes_no_sense_is_refused(client, headers, body, status):
    """A typing error in a drill must not pass as an answer."""
    assert client.post("/v1/chat/completions", json=body, headers=headers).status_code == status


def test_the_record_is_what_was_answered(client):
    """Totals, and a row an answer with the client's own id and the provider's count."""
    for number in range(3):
        headers = {**ASKED, "x-custom-event-id": f"id-{number}"}
        client.post("/v1/chat/completions", json=CHAT, headers=headers)
    client.post("/v1/chat/completions", json=CHAT, headers={"x-demo-status": "500"})
    totals = client.get("/demo/record").json()
    rows = [json.loads(line) for line in client.get("/demo/record/rows").text.splitlines()]

    assert (totals["requests"], totals["succeeded"], totals["errors"]) == (4, 3, 1)
    assert (totals["prompt_tokens"], totals["completion_tokens"]) == (3 * 374, 3 * 44)
    assert [row["custom_id"] for row in rows] == ["id-0", "id-1", "id-2", None]
    assert rows[0]["usage"] == {"prompt": 374, "completion": 44, "cached": 100, "reasoning": 4}
    assert rows[3]["usage"] is None


def test_the_openai_client_reads_every_path(demo_url):
    """JSON and streams parse into the client's own types."""
    with openai.OpenAI(base_url=f"{demo_url}/v1", api_key="any", max_retries=0) as client:
        chat = client.chat.completions.create(**CHAT, extra_headers=ASKED)
        with client.chat.completions.create(
            **CHAT, stream=True, stream_options={"include_usage": True}, extra_headers=ASKED
        ) as stream:
            chunks = list(stream)
        completion = client.completions.create(model="gpt-4o", prompt="hi")
        embedding = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
        response = client.responses.create(model="gpt-4o", input="hi", extra_headers=ASKED)
        with client.responses.create(model="gpt-4o", input="hi", stream=True) as stream:
            events = list(stream)
        models = client.models.list()

    assert chat.usage.total_tokens == 418
    assert chunks[-1].usage.total_tokens == 418
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert streamed == chat.choices[0].message.content
    assert completion.choices[0].text
    assert [len(item.embedding) for item in embedding.data] == [1536, 1536]
    assert embedding.data[0].embedding != embedding.data[1].embedding
    assert response.usage.input_tokens == 374
    assert response.output_text
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.output_tokens == 16
    assert "gpt-4o" in [model.id for model in models.data]


def test_anthropic_streams_report_input_at_the_start_and_output_at_the_end(client):
    """What was read from the cache is apart from the input tokens."""
    body = {**CHAT, "max_tokens": 50, "stream": True}
    events = events_of(client.post("/v1/messages", json=body, headers=ASKED).text)
    by_type = {event["type"]: event for event in events}

    assert events[0]["type"] == "message_start"
    assert events[-1]["type"] == "message_stop"
    usage = by_type["message_start"]["message"]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (274, 100)
    assert by_type["message_delta"]["usage"]["output_tokens"] == 44


def test_a_tool_is_called_where_the_request_insists(client):
    """Whole and in pieces, in both dialects; with a free choice the answer is text."""
    tool = {"type": "function", "function": {"name": "f"}}
    forced = {**CHAT, "tools": [tool], "tool_choice": "required"}
    free = {**forced, "tool_choice": "auto"}
    choice = client.post("/v1/chat/completions", json=forced).json()["choices"][0]
    streamed = events_of(client.post("/v1/chat/completions", json={**forced, "stream": True}).text)
    pieces = [
        call["function"]["arguments"]
        for event in streamed
        for call in event["choices"][0]["delta"].get("tool_calls", [])
    ]
    used = client.post(
        "/v1/messages", json={**CHAT, "tools": [{"name": "f"}], "tool_choice": {"type": "any"}}
    ).json()

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "f"
    assert "".join(pieces) == choice["message"]["tool_calls"][0]["function"]["arguments"]
    assert (used["stop_reason"], used["content"][0]["name"]) == ("tool_use", "f")
    assert client.post("/v1/chat/completions", json=free).json()["choices"][0]["message"]["content"]


def test_a_file_comes_down_as_it_went_up(client):
    """Whatever bytes it has, also such as look like a form's own."""
    content = bytes(range(256)) + b"\r\n--\r\n\r\n"
    form = {"files": {"file": ("a.bin", content)}, "data": {"purpose": "user_data"}}
    file = client.post("/v1/files", **form).json()
    path = f"/v1/files/{file['id']}"

    assert (file["bytes"], file["filename"]) == (len(content), "a.bin")
    assert client.get(f"{path}/content").content == content
    assert client.get("/v1/files").json()["data"][-1] == file == client.get(path).json()
    assert client.delete(path).json()["deleted"]
    assert client.get(path).status_code == 404


def test_a_transcription_needs_its_form(client):
    """JSON is no form; a form with file and model is heard."""
    path = "/v1/audio/transcriptions"

    assert client.post(path, json={"model": "whisper-1"}).status_code == 400
    form = {"files": {"file": ("a.wav", bytes(9))}, "data": {"model": "whisper-1"}}
    assert client.post(path, **form).json()["usage"] == {"type": "duration", "seconds": 1}
