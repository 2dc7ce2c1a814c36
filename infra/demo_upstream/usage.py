"""Token counts of the demo provider: its own rule is four bytes a token and a word an answer."""

from typing import Any, Final

import msgspec

_SENTENCE: Final = (
    "every toll is counted once and every coin is booked where it was paid so that the keeper "
    "can show at the end of the day what each cart owed and why"
)
WORDS: Final = _SENTENCE.split()
WORDS_DEFAULT: Final = 16
WORDS_WRITTEN_MAX: Final = 64


class Usage(msgspec.Struct, frozen=True):
    """Tokens. `cached` is a part of `prompt`, `reasoning` a part of `completion`."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0

    def as_openai(self) -> dict[str, Any]:
        """The `usage` of chat completions."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def as_responses(self) -> dict[str, Any]:
        """The `usage` of the Responses API."""
        return {
            "input_tokens": self.prompt,
            "input_tokens_details": {"cached_tokens": self.cached, "cache_write_tokens": 0},
            "output_tokens": self.completion,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.prompt + self.completion,
        }

    def as_anthropic(self) -> dict[str, Any]:
        """The `usage` of Messages, where what was read from the cache is not in `input_tokens`."""
        return {
            "input_tokens": self.prompt - self.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self.cached,
            "output_tokens": self.completion,
        }


def tokens_of(raw: bytes | memoryview) -> int:
    """Tokens in a piece of JSON text."""
    return -(-len(raw) // 4)


def text_of(words: int) -> str:
    """An answer of so many words."""
    whole, rest = divmod(words, len(WORDS))
    return " ".join(WORDS * whole + WORDS[:rest])
