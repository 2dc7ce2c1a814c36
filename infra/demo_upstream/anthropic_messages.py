"""Anthropic's Messages."""

from typing import Any

import msgspec

from infra.demo_upstream.answers import Made, Request, Stream, named


class Messages:
    """POST /v1/messages."""

    prefix = "msg_"

    def whole(self, request: Request, made: Made) -> bytes:  # noqa: ARG002
        """A message object."""
        usage = {} if made.asked.without_usage else {"usage": made.usage.as_anthropic()}
        content = [{"type": "text", "text": made.text}]
        return msgspec.json.encode({**_message(made, content, _stop_reason(made)), **usage})

    def stream(self, request: Request, made: Made) -> Stream:  # noqa: ARG002
        """message_start to message_stop; counts of the answer come in message_delta."""
        reported = made.usage.as_anthropic()
        at_start = {} if made.asked.without_usage else {"usage": {**reported, "output_tokens": 1}}
        at_end = {} if made.asked.without_usage else {"usage": reported}
        block = {"type": "text", "text": ""}
        delta = {"stop_reason": _stop_reason(made), "stop_sequence": None}
        return Stream(
            opening=[
                named("message_start", {"message": {**_message(made, [], None), **at_start}}),
                named("content_block_start", {"index": 0, "content_block": block}),
                named("ping", {}),
            ],
            content=[
                named("content_block_delta", {"index": 0, "delta": _text_delta(piece)})
                for piece in made.pieces
            ],
            closing=[
                named("content_block_stop", {"index": 0}),
                named("message_delta", {"delta": delta, **at_end}),
                named("message_stop", {}),
            ],
        )


def _text_delta(piece: str) -> dict[str, str]:
    return {"type": "text_delta", "text": piece}


def _stop_reason(made: Made) -> str:
    return "max_tokens" if made.reaches_limit else "end_turn"


def _message(made: Made, content: list[dict[str, str]], stop: str | None) -> dict[str, Any]:
    return {
        "id": made.id,
        "type": "message",
        "role": "assistant",
        "model": made.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
    }
