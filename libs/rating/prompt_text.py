"""What of a request becomes input tokens: its texts, the frame around them, and what is no text."""

from typing import Any, Final

import msgspec

from contracts.exchange import Body
from rating.usage_block import as_json_text

_TOKENS_PER_MESSAGE: Final = 3
_TOKENS_PER_NAME: Final = 1
_TOKENS_TO_PRIME_ANSWER: Final = 3
# For a picture of unknown size: one of 1024 x 1024 in high detail, or any in low detail.
_IMAGE_TOKENS: Final = 765
_IMAGE_LOW_TOKENS: Final = 85
# For a sound of unknown length: half a minute at ten tokens a second.
_AUDIO_TOKENS: Final = 300
_SCHEMA_MEMBERS: Final = ("tools", "functions", "response_format", "text")
_DEPTH_MAX: Final = 8


class Prompt:
    """What was found in a request. `is_plain` while the token count follows documented rules."""

    __slots__ = (
        "audio_tokens",
        "frame_tokens",
        "image_tokens",
        "is_plain",
        "ready_tokens",
        "scale",
        "texts",
    )

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.frame_tokens = 0
        self.ready_tokens = 0
        self.image_tokens = 0
        self.audio_tokens = 0
        self.scale: tuple[int, int] | None = None
        self.is_plain = True


def read_prompt(body: Body) -> Prompt | None:
    """The prompt of a chat, completion, embedding, message or response request.

    None when the body holds nothing that a model would read. A body that was cut and is no JSON any
    more counts by its head, in proportion (`scale`: whole bytes, bytes at hand).
    """
    prompt = Prompt()
    try:
        request = msgspec.json.decode(body.content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        if body.sha256 is None or not body.content:
            return None
        prompt.texts.append(body.content.decode("utf-8", "replace"))
        prompt.scale = (body.length_bytes, len(body.content))
        prompt.is_plain = False
        return prompt
    if type(request) is not dict or not _read_request(prompt, request):
        return None
    if body.sha256 is not None:
        prompt.is_plain = False
    return prompt


def _read_request(prompt: Prompt, request: dict[str, Any]) -> bool:
    messages = request.get("messages")
    if type(messages) is list:
        prompt.frame_tokens += _TOKENS_TO_PRIME_ANSWER
        for message in messages:
            _read_message(prompt, message)
        if "system" in request:
            _read_content(prompt, request["system"])
            prompt.is_plain = False
    elif "prompt" in request:
        _read_plain_input(prompt, request["prompt"])
        if request.get("echo") or request.get("suffix") or request.get("best_of"):
            prompt.is_plain = False
    elif "input" in request:
        given = request["input"]
        if type(given) is list and any(type(item) is dict for item in given):
            prompt.is_plain = False
            for item in given:
                _read_message(prompt, item)
        else:
            _read_plain_input(prompt, given)
        if "instructions" in request:
            _read_content(prompt, request["instructions"])
            prompt.is_plain = False
    else:
        return False
    for member in _SCHEMA_MEMBERS:
        if request.get(member):
            _read_as_json(prompt, request[member])
    return True


def _read_message(prompt: Prompt, message: Any) -> None:
    if type(message) is not dict:
        prompt.is_plain = False
        return
    prompt.frame_tokens += _TOKENS_PER_MESSAGE
    for member, value in message.items():
        if member == "role" and type(value) is str:
            prompt.texts.append(value)
        elif member == "name" and type(value) is str:
            prompt.frame_tokens += _TOKENS_PER_NAME
            prompt.texts.append(value)
        elif member == "content":
            _read_content(prompt, value)
        elif value is not None:
            _read_as_json(prompt, value)


def _read_content(prompt: Prompt, content: Any, depth: int = 0) -> None:
    if type(content) is str:
        prompt.texts.append(content)
    elif type(content) is list and depth < _DEPTH_MAX:
        # How several parts are joined is not documented; one alone is its text.
        if len(content) != 1:
            prompt.is_plain = False
        for part in content:
            _read_part(prompt, part, depth)
    elif content is not None:
        _read_as_json(prompt, content)


def _read_part(prompt: Prompt, part: Any, depth: int) -> None:
    if type(part) is str:
        prompt.texts.append(part)
        return
    if type(part) is not dict:
        prompt.is_plain = False
        return
    kind = part.get("type")
    if type(part.get("text")) is str:
        prompt.texts.append(part["text"])
        if kind not in {"text", "input_text"}:
            prompt.is_plain = False
        return
    prompt.is_plain = False
    if kind in {"image_url", "input_image", "image"}:
        image = part.get("image_url")
        level = image.get("detail") if type(image) is dict else part.get("detail")
        prompt.image_tokens += _IMAGE_LOW_TOKENS if level == "low" else _IMAGE_TOKENS
    elif kind == "input_audio":
        prompt.audio_tokens += _AUDIO_TOKENS
    elif "content" in part:
        _read_content(prompt, part["content"], depth + 1)
    else:
        _read_as_json(prompt, part)


def _read_plain_input(prompt: Prompt, given: Any) -> None:
    """A text, texts, tokens, or lists of tokens."""
    if type(given) is str:
        prompt.texts.append(given)
    elif type(given) is list:
        for item in given:
            if type(item) is str:
                prompt.texts.append(item)
            elif type(item) is int:
                prompt.ready_tokens += 1
            elif type(item) is list:
                prompt.ready_tokens += len(item)
            else:
                prompt.is_plain = False
    else:
        prompt.is_plain = False


def _read_as_json(prompt: Prompt, value: Any) -> None:
    prompt.is_plain = False
    prompt.texts.append(as_json_text(value))
