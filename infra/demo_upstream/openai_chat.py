"""OpenAI's chat completions and completions."""

from typing import Any, Final

import msgspec

from infra.demo_upstream.answers import Made, Request, Stream, data

DONE: Final = b"data: [DONE]\n\n"


def _finish(made: Made) -> str:
    return "length" if made.reaches_limit else "stop"


def _wants_usage(request: Request, made: Made) -> bool:
    options = request.stream_options
    return bool(options and options.include_usage) and not made.asked.without_usage


class ChatCompletions:
    """POST /v1/chat/completions."""

    prefix = "chatcmpl-"

    def whole(self, request: Request, made: Made) -> bytes:  # noqa: ARG002
        """A chat.completion object."""
        answer: dict[str, Any] = {
            "id": made.id,
            "object": "chat.completion",
            "created": made.created,
            "model": made.model,
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": made.text,
                        "refusal": None,
                        "annotations": [],
                    },
                    "logprobs": None,
                    "finish_reason": _finish(made),
                }
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

        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            value = self._chunk(made)
            value["choices"] = [
                {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            ]
            if wants_usage:
                value["usage"] = None
            return data(value)

        closing = [chunk({}, _finish(made))]
        if wants_usage:
            closing.append(
                data({**self._chunk(made), "choices": [], "usage": made.usage.as_openai()})
            )
        closing.append(DONE)
        return Stream(
            opening=[chunk({"role": "assistant", "content": "", "refusal": None})],
            content=[chunk({"content": piece}) for piece in made.pieces],
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
