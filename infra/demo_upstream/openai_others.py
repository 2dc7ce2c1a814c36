"""The rest of OpenAI's API that clients meet: models, files, moderations, images, sound."""

import base64
import itertools
import re
import time
from typing import Any, Final

import msgspec

FILES_MAX: Final = 64
SPEECH: Final = b"ID3\x04" + bytes(range(256)) * 64
"""What every text sounds like: bytes that no text codec survives."""
PICTURE: Final = base64.b64decode(
    b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TRANSCRIPT: Final = "every toll is counted once"

_FIELD: Final = re.compile(rb'name="([^"]*)"(?:; filename="([^"]*)")?')
_serial = itertools.count(1)
_files: Final[dict[str, tuple[dict[str, Any], bytes]]] = {}


class Answer(msgspec.Struct, frozen=True):
    """Status, bytes and their type; an error's `body` is its sentence."""

    status: int
    body: bytes
    content_type: str = "application/json"


def answer(method: str, path: str, body: bytes) -> Answer | None:
    """What these paths answer; None for every other."""
    if method == "POST" and (made := _MADE_BY_ENDING.get("/".join(path.split("/")[-2:]))):
        return made(body)
    _, v1, file = path.partition("/v1/files")
    return _file(method, file[1:], body) if v1 and file[:1] in ("", "/") else None


def _json(value: Any) -> Answer:
    return Answer(200, msgspec.json.encode(value))


def _moderation(_: bytes) -> Answer:
    names = ("harassment", "hate", "self-harm", "sexual", "violence")
    result = {
        "flagged": False,
        "categories": dict.fromkeys(names, False),
        "category_scores": dict.fromkeys(names, 0.0),
    }
    model = "omni-moderation-latest"
    return _json({"id": f"modr-demo-{next(_serial):08x}", "model": model, "results": [result]})


def _image(_: bytes) -> Answer:
    counts = {"input_tokens": 9, "output_tokens": 272, "total_tokens": 281}
    details = {"text_tokens": 9, "image_tokens": 0}
    picture = {"b64_json": base64.b64encode(PICTURE).decode()}
    usage = {**counts, "input_tokens_details": details}
    return _json({"created": int(time.time()), "data": [picture], "usage": usage})


def _speech(_: bytes) -> Answer:
    return Answer(200, SPEECH, "audio/mpeg")


def _transcript(body: bytes) -> Answer:
    form = form_of(body)
    if "file" not in form or "model" not in form:
        return Answer(400, b"A transcription needs a file and a model")
    if form.get("response_format", (b"",))[0] == b"text":
        return Answer(200, TRANSCRIPT.encode() + b"\n", "text/plain; charset=utf-8")
    seconds = -(-len(form["file"][0]) // 16_000)
    return _json({"text": TRANSCRIPT, "usage": {"type": "duration", "seconds": seconds}})


_MADE_BY_ENDING: Final = {
    "v1/moderations": _moderation,
    "images/generations": _image,
    "images/edits": _image,
    "audio/speech": _speech,
    "audio/transcriptions": _transcript,
    "audio/translations": _transcript,
}


def _file(method: str, rest: str, body: bytes) -> Answer:
    file_id, _, part = rest.partition("/")
    if not file_id:
        if method == "GET":
            held = [file for file, _ in _files.values()]
            return _json({"object": "list", "data": held, "has_more": False})
        return _upload(body) if method == "POST" else Answer(405, b"Not allowed here")
    if file_id not in _files:
        return Answer(404, b"No such File object: " + file_id.encode())
    file, content = _files[file_id]
    if method == "DELETE":
        del _files[file_id]
        return _json({"id": file_id, "object": "file", "deleted": True})
    if part == "content":
        return Answer(200, content, "application/octet-stream")
    return _json(file)


def _upload(body: bytes) -> Answer:
    form = form_of(body)
    if "file" not in form:
        return Answer(400, b"A file is missing")
    content, name = form["file"]
    file = {
        "id": f"file-demo-{next(_serial):08x}",
        "object": "file",
        "bytes": len(content),
        "created_at": int(time.time()),
        "filename": name.decode("utf-8", "replace"),
        "purpose": form.get("purpose", (b"user_data",))[0].decode("utf-8", "replace"),
        "status": "processed",
    }
    while len(_files) >= FILES_MAX:
        del _files[next(iter(_files))]
    _files[str(file["id"])] = (file, content)
    return _json(file)


def form_of(body: bytes) -> dict[str, tuple[bytes, bytes]]:
    """The fields of a multipart form: content and file name. What is no form has none."""
    boundary, _, _ = body.partition(b"\r\n")
    if not boundary.startswith(b"--"):
        return {}
    fields = {}
    for part in (b"\r\n" + body).split(b"\r\n" + boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        named = _FIELD.search(head)
        if named is not None:
            fields[named[1].decode("utf-8", "replace")] = (content, named[2] or b"")
    return fields
