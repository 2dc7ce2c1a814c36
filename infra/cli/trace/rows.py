"""Azure LLM inference trace files: TIMESTAMP,ContextTokens,GeneratedTokens, a request a line."""

import csv
import heapq
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from infra.cli.problems import Problem

HEADER: Final = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
TOKENS_MAX: Final = 10**9
MODEL_BY_WORD: Final = {"conv": "gpt-4o", "code": "gpt-4o-mini"}


class Row(msgspec.Struct, frozen=True):
    """One recorded request. `at_s` is Unix seconds; `number` counts from 1 in its file."""

    file: str
    number: int
    model: str
    at_s: float
    prompt_tokens: int
    completion_tokens: int


def model_for(path: Path, model: str | None) -> str:
    """What was asked for, else by the file's name. Raises Problem when neither tells."""
    if model is not None:
        return model
    for word, known in MODEL_BY_WORD.items():
        if word in path.name.lower():
            return known
    if not path.is_file():
        raise Problem(f"there is no file {path}")
    raise Problem(f"{path.name} has neither conv nor code in its name: say --model")


def read_rows(path: Path, model: str) -> Iterator[Row]:
    """The requests of one file, in its order. Raises Problem, naming the line that is wrong."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            if next(lines, None) != HEADER:
                raise Problem(f"{path}: the first line is not {','.join(HEADER)}")
            for number, line in enumerate(lines, 1):
                yield _row(path, number, model, line)
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Problem(f"{path} is not text: {error}") from error


def _row(path: Path, number: int, model: str, line: list[str]) -> Row:
    try:
        stamp, prompt, completion = line
        # Seven digits of a second are one more than Python reads.
        at = datetime.fromisoformat(stamp[:26]).replace(tzinfo=UTC).timestamp()
        row = Row(path.name, number, model, at, int(prompt), int(completion))
    except ValueError as error:
        raise Problem(f"{path}, line {number + 1}: {error}") from error
    if not (0 <= row.prompt_tokens <= TOKENS_MAX and 0 <= row.completion_tokens <= TOKENS_MAX):
        raise Problem(f"{path}, line {number + 1}: token counts out of bounds")
    return row


def merged(files: Iterable[Iterable[Row]], limit: int | None) -> list[Row]:
    """All requests by time, the first `limit` of them."""
    rows = heapq.merge(*files, key=lambda row: row.at_s)
    if limit is None:
        return list(rows)
    return [row for row, _ in zip(rows, range(limit), strict=False)]
