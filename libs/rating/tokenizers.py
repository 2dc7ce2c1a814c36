"""Model name → vocabulary, and how many tokens texts have in it. The only user of the tokenizer."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
import toktok

Encoding = Literal["o200k_base", "cl100k_base", "o200k_harmony"]


class Vocabulary(msgspec.Struct, frozen=True):
    """A vocabulary for a model. `is_exact`: it is the model's own, and what the model is billed for
    is what one can see. Models that think in secret, hear or search are billed for more."""

    encoding: Encoding
    is_exact: bool


_UNKNOWN: Final = Vocabulary("o200k_base", is_exact=False)
# The first prefix that fits wins.
_VOCABULARY_BY_PREFIX: Final = (
    ("gpt-4o", Vocabulary("o200k_base", is_exact=True)),
    ("chatgpt-4o", Vocabulary("o200k_base", is_exact=True)),
    ("gpt-4.1", Vocabulary("o200k_base", is_exact=True)),
    ("gpt-4.5", Vocabulary("o200k_base", is_exact=True)),
    ("gpt-oss", Vocabulary("o200k_harmony", is_exact=False)),
    ("gpt-4", Vocabulary("cl100k_base", is_exact=True)),
    ("gpt-3.5", Vocabulary("cl100k_base", is_exact=True)),
    ("gpt-35", Vocabulary("cl100k_base", is_exact=True)),
    ("text-embedding-3", Vocabulary("cl100k_base", is_exact=True)),
    ("text-embedding-ada-002", Vocabulary("cl100k_base", is_exact=True)),
)
_SEES_MORE_THAN_TEXT: Final = (
    "audio",
    "realtime",
    "search",
    "transcribe",
    "tts",
    "vision",
    "image",
)


def vocabulary_of(model: str | None) -> Vocabulary:
    """The vocabulary of a model by its name; the newest public one, not exact, when unknown."""
    if not model:
        return _UNKNOWN
    name = model.lower().removeprefix("ft:").removeprefix("openai/").removeprefix("azure/")
    for prefix, vocabulary in _VOCABULARY_BY_PREFIX:
        if name.startswith(prefix):
            if any(word in name for word in _SEES_MORE_THAN_TEXT):
                return Vocabulary(vocabulary.encoding, is_exact=False)
            return vocabulary
    return _UNKNOWN


def count_tokens(texts: Sequence[str], encoding: Encoding) -> int:
    """The tokens of all `texts`, each on its own; names of special tokens count as plain text."""
    if not texts:
        return 0
    try:
        return sum(toktok.batch_count(texts, encoding, 1))
    except UnicodeEncodeError:
        # A lone surrogate, escaped in the JSON: providers read it as the replacement character.
        whole = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return sum(toktok.batch_count(whole, encoding, 1))
