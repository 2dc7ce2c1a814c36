"""What is counted: a closed list of disjoint meters, and usage with the grade of its evidence."""

from enum import StrEnum
from typing import Final

import msgspec


class Meter(StrEnum):
    """One disjoint quantity. Input meters sum to the provider's input total, output ones likewise."""

    INPUT_UNCACHED = "input_uncached_tokens"
    CACHE_READ = "cache_read_tokens"
    CACHE_WRITE_5M = "cache_write_5m_tokens"
    CACHE_WRITE_1H = "cache_write_1h_tokens"
    AUDIO_INPUT = "audio_input_tokens"
    IMAGE_INPUT = "image_input_tokens"
    OUTPUT_TEXT = "output_text_tokens"
    REASONING = "reasoning_tokens"
    AUDIO_OUTPUT = "audio_output_tokens"
    # The rare ones live in the entry's map.
    IMAGE_OUTPUT = "image_output_tokens"
    CACHE_AUDIO_READ = "cache_audio_read_tokens"
    CACHE_IMAGE_READ = "cache_image_read_tokens"
    CHARACTERS = "characters"
    AUDIO_MS = "audio_ms"
    IMAGES = "images"
    SEARCHES = "searches"
    FILE_SEARCHES = "file_searches"
    REQUESTS = "requests"
    OTHER_MODEL_TOKENS = "other_model_tokens"


COLUMN_METERS: Final = (
    Meter.INPUT_UNCACHED,
    Meter.CACHE_READ,
    Meter.CACHE_WRITE_5M,
    Meter.CACHE_WRITE_1H,
    Meter.AUDIO_INPUT,
    Meter.IMAGE_INPUT,
    Meter.OUTPUT_TEXT,
    Meter.REASONING,
    Meter.AUDIO_OUTPUT,
)
"""The meters that are columns of an entry; every other meter is a key of its map."""

INPUT_METERS: Final = frozenset(
    {
        Meter.INPUT_UNCACHED,
        Meter.CACHE_READ,
        Meter.CACHE_WRITE_5M,
        Meter.CACHE_WRITE_1H,
        Meter.AUDIO_INPUT,
        Meter.IMAGE_INPUT,
        Meter.CACHE_AUDIO_READ,
        Meter.CACHE_IMAGE_READ,
    }
)
OUTPUT_METERS: Final = frozenset(
    {Meter.OUTPUT_TEXT, Meter.REASONING, Meter.AUDIO_OUTPUT, Meter.IMAGE_OUTPUT}
)


class Evidence(StrEnum):
    """How we know a quantity. Estimated is never presented as reported."""

    REPORTED = "reported"  # the provider said so
    COUNTED = "counted"  # we counted, exactly, with the model's own vocabulary
    ESTIMATED = "estimated"  # we counted with a vocabulary that is not the model's, or part was cut
    NONE = "none"  # nothing is known: quantities are null, not zero


class Usage(msgspec.Struct, frozen=True):
    """Disjoint quantities by meter, and the totals as the provider states them.

    A meter that is absent is unknown or not applicable; zero is stated as 0. `input_tokens` and
    `output_tokens` are None when unknown.
    """

    quantities: dict[Meter, int]
    input_tokens: int | None
    output_tokens: int | None
    evidence: Evidence
    model_served: str | None
    response_id: str | None
    service_tier: str | None


NO_USAGE: Final = Usage({}, None, None, Evidence.NONE, None, None, None)
