"""Anthropic's Messages."""

from typing import Any, Final

import msgspec

from infra.demo_upstream.answers import Made, Request, Stream, named

TOOL_INPUT: Final = {"carts": 2, "road": "north"}
"""What every tool is used with."""


class Messages:
    """POST /v1/messages."""

    prefix = "msg_"

    def whole(self, request: Request, made: Made) -> bytes:
        """A message object."""
        usage = {} if made.asked.without_usage else {"usage": made.usage.as_anthropic()}
        tool = request.tool_called
        content: list[dict[str, Any]] = [{"type": "text", "text": made.text}]
        if tool is not None:
            content = [_use(made, tool, TOOL_INPUT)]
        message = _message(made, content, _stop_reason(made, tool))
        return msgspec.json.encode({**message, **usage})

    def stream(self, request: Request, made: Made) -> Stream:
        """message_start to message_stop; counts of the answer come in message_delta."""
        reported = made.usage.as_anthropic()
        at_start = {} if made.asked.without_usage else {"usage": {**reported, "output_tokens": 1}}
        at_end = {} if made.asked.without_usage else {"usage": reported}
        tool = request.tool_called
        block: dict[str, Any] = {"type": "text", "text": ""}
        deltas = [_text_delta(piece) for piece in made.pieces]
        if tool is not None:
            block = _use(made, tool, {})
            written = msgspec.json.encode(TOOL_INPUT).decode()
            parts = (written[:9], written[9:])
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        delta = {"stop_reason": _stop_reason(made, tool), "stop_sequence": None}
        return Stream(
            opening=[
                named("message_start", {"message": {**_message(made, [], None), **at_start}}),
                named("content_block_start", {"index": 0, "content_block": block}),
                named("ping", {}),
            ],
            content=[
                named("content_block_delta", {"index": 0, "delta": piece}) for piece in deltas
            ],
            closing=[
                named("content_block_stop", {"index": 0}),
                named("message_delta", {"delta": delta, **at_end}),
                named("message_stop", {}),
            ],
        )


def _text_delta(piece: str) -> dict[str, str]:
    return {"type": "text_delta", "text": piece}


def _use(made: Made, tool: str, given: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": made.id.replace("msg_", "toolu_"),
        "name": tool,
        "input": given,
    }


def _stop_reason(made: Made, tool: str | None) -> str:
    if tool is not None:
        return "tool_use"
    return "max_tokens" if made.reaches_limit else "end_turn"


def _message(made: Made, content: list[dict[str, Any]], stop: str | None) -> dict[str, Any]:
    return {
        "id": made.id,
        "type": "message",
        "role": "assistant",
        "model": made.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
    }
