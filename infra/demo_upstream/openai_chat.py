"""OpenAI's chat completions and completions."""

from typing import Any, Final

import msgspec

from infra.demo_upstream.answers import CHOICES_MAX, Made, Request, Stream, data

DONE: Final = b"data: [DONE]\n\n"
ARGUMENTS: Final = '{"carts": 2, "road": "north"}'
"""What every tool is called with."""


def _finish(made: Made) -> str:
    return "length" if made.reaches_limit else "stop"


def _indexes(request: Request) -> range:
    return range(min(max(request.n or 1, 1), CHOICES_MAX))


def _call(made: Made, tool: str, arguments: str) -> dict[str, Any]:
    called = {"name": tool, "arguments": arguments}
    return {"id": made.id.replace("chatcmpl-", "call_"), "type": "function", "function": called}


def _wants_usage(request: Request, made: Made) -> bool:
    options = request.stream_options
    return bool(options and options.include_usage) and not made.asked.without_usage


class ChatCompletions:
    """POST /v1/chat/completions."""

    prefix = "chatcmpl-"

    def whole(self, request: Request, made: Made) -> bytes:
        """A chat.completion object."""
        tool = request.tool_called
        message: dict[str, Any] = {
            "role": "assistant",
            "content": made.text if tool is None else None,
            "refusal": None,
            "annotations": [],
        }
        if tool is not None:
            message["tool_calls"] = [_call(made, tool, ARGUMENTS)]
        answer: dict[str, Any] = {
            "id": made.id,
            "object": "chat.completion",
            "created": made.created,
            "model": made.model,
            "choices": [
                {
                    "index": index,
                    "message": message,
                    "logprobs": None,
                    "finish_reason": _finish(made) if tool is None else "tool_calls",
                }
                for index in _indexes(request)
            ],
        }
        if not made.asked.without_usage:
            answer["usage"] = made.usage.as_openai()
        answer["service_tier"] = "default"
        answer["system_fingerprint"] = "fp_demo"
        return msgspec.json.encode(answer)

    def stream(self, request: Request, made: Made) -> Stream:
        """chat.completion.chunk events; the usage event only for who asked."""
        wants_usage = _wants_usage(request, made)

        indexes = _indexes(request)
        tool = request.tool_called

        def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
            value = self._chunk(made)
            value["choices"] = [
                {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
            ]
            if wants_usage:
                value["usage"] = None
            return data(value)

        opened: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        deltas: list[dict[str, Any]] = [{"content": piece} for piece in made.pieces]
        if tool is not None:
            opened |= {"content": None, "tool_calls": [{"index": 0, **_call(made, tool, "")}]}
            half = len(ARGUMENTS) // 2
            deltas = [
                {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}
                for part in (ARGUMENTS[:half], ARGUMENTS[half:])
            ]
        finish = _finish(made) if tool is None else "tool_calls"
        closing = [chunk(index, {}, finish) for index in indexes]
        if wants_usage:
            closing.append(
                data({**self._chunk(made), "choices": [], "usage": made.usage.as_openai()})
            )
        closing.append(DONE)
        return Stream(
            opening=[chunk(index, opened) for index in indexes],
            content=[chunk(index, delta) for delta in deltas for index in indexes],
            closing=closing,
        )

    def _chunk(self, made: Made) -> dict[str, Any]:
        return {
            "id": made.id,
            "object": "chat.completion.chunk",
            "created": made.created,
            "model": made.model,
            "service_tier": "default",
            "system_fingerprint": "fp_demo",
        }


class Completions:
    """POST /v1/completions."""

    prefix = "cmpl-"

    def whole(self, request: Request, made: Made) -> bytes:  # noqa: ARG002
        """A text_completion object."""
        answer = self._part(made, made.text, _finish(made))
        if not made.asked.without_usage:
            answer["usage"] = made.usage.as_openai()
        return msgspec.json.encode(answer)

    def stream(self, request: Request, made: Made) -> Stream:
        """text_completion events; the usage event only for who asked."""
        closing = [data(self._part(made, "", _finish(made)))]
        if _wants_usage(request, made):
            last = {**self._part(made, "", None), "choices": [], "usage": made.usage.as_openai()}
            closing.append(data(last))
        closing.append(DONE)
        return Stream(
            opening=[],
            content=[data(self._part(made, piece, None)) for piece in made.pieces],
            closing=closing,
        )

    def _part(self, made: Made, text: str, finish: str | None) -> dict[str, Any]:
        return {
            "id": made.id,
            "object": "text_completion",
            "created": made.created,
            "model": made.model,
            "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": finish}],
        }
