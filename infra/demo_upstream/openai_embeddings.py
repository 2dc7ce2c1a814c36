"""OpenAI's embeddings: unit vectors that depend on the text alone."""

import base64
import hashlib
import math
import struct
from typing import Any, Final

import msgspec

from infra.demo_upstream.answers import Made, Request

DIMENSIONS_DEFAULT: Final = 1_536
DIMENSIONS_MAX: Final = 4_096
_INPUTS: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Embeddings:
    """POST /v1/embeddings."""

    prefix = "emb-"

    def whole(self, request: Request, made: Made) -> bytes:
        """A list of embedding objects, one an input."""
        count = min(request.dimensions or DIMENSIONS_DEFAULT, DIMENSIONS_MAX)
        answer: dict[str, Any] = {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": _embedding(text, count, request.encoding_format),
                }
                for index, text in enumerate(_texts(bytes(request.input)))
            ],
            "model": made.model,
        }
        if not made.asked.without_usage:
            prompt = made.usage.prompt
            answer["usage"] = {"prompt_tokens": prompt, "total_tokens": prompt}
        return msgspec.json.encode(answer)

    def stream(self, request: Request, made: Made) -> None:  # noqa: ARG002
        """Embeddings do not stream."""
        return


def _texts(raw: bytes) -> list[bytes]:
    """The inputs: a text, several, the token numbers of one text, or those of several."""
    if raw[:1] != b"[":
        return [raw]
    members = [bytes(member) for member in _INPUTS.decode(raw)]
    is_one = bool(members) and members[0][:1] not in (b'"', b"[")
    return [raw] if is_one else members


def _embedding(text: bytes, dimensions: int, encoding: str | None) -> list[float] | str:
    seed = hashlib.shake_128(text).digest(dimensions)
    length = math.sqrt(sum((byte - 127.5) ** 2 for byte in seed)) or 1.0
    vector = [(byte - 127.5) / length for byte in seed]
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
    return vector
