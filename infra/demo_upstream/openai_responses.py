"""OpenAI's Responses."""

from typing import Any

import msgspec

from infra.demo_upstream.answers import Made, Request, Stream, named


class Responses:
    """POST /v1/responses."""

    prefix = "resp_"

    def whole(self, request: Request, made: Made) -> bytes:
        """A response object."""
        return msgspec.json.encode(_response(request, made, "completed"))

    def stream(self, request: Request, made: Made) -> Stream:
        """The named events from response.created to response.completed."""
        started = {"response": _response(request, made, "in_progress")}
        place = {"item_id": _item_id(made), "output_index": 0, "content_index": 0}
        events: list[tuple[str, dict[str, Any]]] = [
            ("response.created", started),
            ("response.in_progress", started),
            ("response.output_item.added", {"output_index": 0, "item": _item(made, None)}),
            ("response.content_part.added", {**place, "part": _part("")}),
        ]
        pieces = made.pieces
        events += [
            ("response.output_text.delta", {**place, "delta": piece, "logprobs": []})
            for piece in pieces
        ]
        events += [
            ("response.output_text.done", {**place, "text": made.text, "logprobs": []}),
            ("response.content_part.done", {**place, "part": _part(made.text)}),
            ("response.output_item.done", {"output_index": 0, "item": _item(made, made.text)}),
            ("response.completed", {"response": _response(request, made, "completed")}),
        ]
        encoded = [
            named(name, {**value, "sequence_number": number})
            for number, (name, value) in enumerate(events)
        ]
        return Stream(
            opening=encoded[:4],
            content=encoded[4 : 4 + len(pieces)],
            closing=encoded[4 + len(pieces) :],
        )


def _item_id(made: Made) -> str:
    return made.id.replace("resp_", "msg_")


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(made: Made, text: str | None) -> dict[str, Any]:
    return {
        "id": _item_id(made),
        "type": "message",
        "status": "in_progress" if text is None else "completed",
        "role": "assistant",
        "content": [] if text is None else [_part(text)],
    }


def _response(request: Request, made: Made, status: str) -> dict[str, Any]:
    is_done = status == "completed"
    usage = made.usage.as_responses() if is_done and not made.asked.without_usage else None
    return {
        "id": made.id,
        "object": "response",
        "created_at": made.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": request.max_output_tokens,
        "model": made.model,
        "output": [_item(made, made.text)] if is_done else [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
        "metadata": {},
    }
