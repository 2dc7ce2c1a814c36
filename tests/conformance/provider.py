"""A provider of every path: it remembers what each call sent, and answers in the shape asked for.

A call names itself in `x-call`; `GET /heard/<name>` tells, as JSON, the requests of that name. What
is answered depends on nothing but the request, so that a call through the gateway can be compared
with the same call without it.
"""

import base64
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

USAGE: Final = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "input_tokens": 9,
    "output_tokens": 5,
    "total_tokens": 14,
}
BYTES: Final = bytes(range(256)) * 64
_MESSAGE: Final = {"role": "assistant", "content": "é\U0001f6e3"}
_TEXT: Final = {"type": "text", "text": "é\U0001f6e3", "citations": None}


def _document(path: str, query: dict[str, list[str]]) -> dict[str, Any]:
    """One object that every type of the clients can be made of, unknown members included."""
    pages_on = not {"after", "after_id", "page", "before_id"} & set(query)
    return {
        "id": "id-" + path.rpartition("/")[2][:20],
        "object": "thing",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "name": "é",
        "status": "processed" if path.startswith("/v1/files/") else "completed",
        "processing_status": "ended",
        "stop_reason": "end_turn",
        "thread_id": "thread-1",
        "file_counts": {"in_progress": 0, "completed": 1, "total": 1},
        "created_at": 1,
        "choices": [{"index": 0, "finish_reason": "stop", "message": _MESSAGE, "text": "é"}],
        "content": [_TEXT],
        "output": [],
        "data": [
            {"id": "a", "object": "thing", "embedding": [0.25], "index": 0},
            {"id": "b", "object": "thing", "embedding": [0.5], "index": 1},
        ],
        "first_id": "a",
        "last_id": "b",
        "has_more": pages_on,
        "next_page": "more" if pages_on else None,
        "next": "b" if pages_on else None,
        "usage": USAGE,
        "text": "every toll",
        "value": "ek_1",
        "unknown": {"big": 123456789012345678901234567890, "exact": 1.1, "text": "é\u2028"},
    }


def _events(path: str, *, tells_usage: bool) -> list[tuple[str, Any]]:
    """Names and data of a stream; an empty name is none, text is sent as it is."""
    whole = _document(path, {})
    if path.endswith(("/chat/completions", "/completions")):
        chat = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"content": "é"}]
        choices = [{"index": 0, "delta": d, "text": "é", "finish_reason": None} for d in deltas]
        last = {"index": 0, "delta": {}, "text": "", "finish_reason": "stop"}
        told = [{**chat, "choices": [choice]} for choice in (*choices, last)]
        if tells_usage:
            told.append({**chat, "choices": [], "usage": USAGE})
        return [*(("", one) for one in told), ("", "[DONE]")]
    if "/responses" in path:
        named = ("response.created", "response.in_progress", "response.completed")
        return [
            (name, {"type": name, "sequence_number": number, "response": whole})
            for number, name in enumerate(named)
        ]
    if "/threads" in path:
        run = {**whole, "object": "thread.run", "id": "run-1"}
        text = {"index": 0, "type": "text", "text": {"value": "é", "annotations": []}}
        message = {**whole, "object": "thread.message", "id": "msg-1", "content": []}
        delta = {"id": "msg-1", "object": "thread.message.delta", "delta": {"content": [text]}}
        return [
            ("thread.run.created", run),
            ("thread.message.created", message),
            ("thread.message.delta", delta),
            ("thread.message.completed", {**message, "content": [text]}),
            ("thread.run.completed", run),
            ("done", "[DONE]"),
        ]
    if "/images/" in path:
        kind = "image_edit" if path.endswith("edits") else "image_generation"
        picture = {"b64_json": base64.b64encode(BYTES).decode(), "created_at": 1}
        return [
            (f"{kind}.partial_image", {"type": f"{kind}.partial_image", **picture}),
            (f"{kind}.completed", {"type": f"{kind}.completed", **picture, "usage": USAGE}),
        ]
    if "/audio/" in path:
        said = {"type": "transcript.text.done", "text": "é", "usage": USAGE}
        return [
            ("transcript.text.delta", {"type": "transcript.text.delta", "delta": "é"}),
            ("transcript.text.done", said),
        ]
    if path.endswith("/messages"):
        begun = {
            **whole,
            "content": [],
            "stop_reason": None,
            "usage": {**USAGE, "output_tokens": 1},
        }
        ended = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}}
        told_of = {
            "message_start": {"message": begun},
            "content_block_start": {"index": 0, "content_block": {"type": "text", "text": ""}},
            "ping": {},
            "content_block_delta": {"index": 0, "delta": {"type": "text_delta", "text": "é"}},
            "content_block_stop": {"index": 0},
            "message_delta": {**ended, "usage": {"output_tokens": 5}},
            "message_stop": {},
        }
        return [(name, {"type": name, **more}) for name, more in told_of.items()]
    return [("message", {**whole, "type": "message"})]


def _as_lines(events: list[tuple[str, Any]]) -> bytes:
    told = b": a comment\n\n"
    for name, data in events:
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        told += (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()
    return told


def answer_to(target: str, accepts: str, body: bytes) -> tuple[str, bytes]:
    """The media type and bytes of the answer; `body` is looked at for what it asks."""
    url = urlsplit(target)
    query = parse_qs(url.query)
    is_stream = (
        b'"stream":true' in body
        or b'name="stream"\r\n\r\ntrue' in body
        or query.get("stream") == ["true"]
        or accepts == "text/event-stream"
    )
    if is_stream:
        tells_usage = b'"include_usage":true' in body
        events = _events(url.path, tells_usage=tells_usage)
        return "text/event-stream; charset=utf-8", _as_lines(events)
    if accepts == "application/octet-stream" or "application/binary" in accepts:
        return "application/octet-stream", BYTES
    if url.path.endswith("/content") and "/vector_stores/" not in url.path:
        return "application/octet-stream", BYTES
    if url.path.endswith("/audio/speech"):
        return "audio/mpeg", BYTES
    if accepts == "application/x-jsonl" or url.path.endswith("/results"):
        line = json.dumps({"custom_id": "é", "result": {"type": "canceled"}})
        return "application/x-jsonl", f"{line}\n{line}\n".encode()
    return "application/json", json.dumps(_document(url.path, query), ensure_ascii=False).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    heard: defaultdict[str, list[dict[str, Any]]]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._reply
        raise AttributeError(name)

    def _reply(self) -> None:
        body = self._body()
        if self.path.startswith("/heard/"):
            told = json.dumps(self.heard[self.path.removeprefix("/heard/")]).encode()
            self._send("application/json", [told])
            return
        headers = sorted((name.lower(), value) for name, value in self.headers.items())
        self.heard[self.headers.get("x-call", "")].append(
            {
                "method": self.command,
                "target": self.path,
                "headers": headers,
                "body": base64.b64encode(body).decode(),
            }
        )
        content_type, told = answer_to(self.path, self.headers.get("accept", ""), body)
        # Pieces that end in the middle of lines and of characters.
        size = 37 if content_type.startswith("text/event-stream") else len(told)
        self._send(content_type, [told[at : at + size] for at in range(0, len(told), size)])

    def _send(self, content_type: str, pieces: list[bytes]) -> None:
        self.send_response_only(200)
        self.send_header("content-type", content_type)
        self.send_header("x-request-id", "req-of-the-provider")
        if len(pieces) == 1:
            self.send_header("content-length", str(len(pieces[0])))
            self.end_headers()
            self.wfile.write(pieces[0])
            return
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in (*pieces, b""):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def recording_provider() -> Iterator[str]:
    """Its URL, until the end of the block."""
    handler = type("Handler", (_Handler,), {"heard": defaultdict(list)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
