"""The provider's own record: what it answered, so that a ledger can be compared with it."""

from collections import deque
from collections.abc import Iterable
from pathlib import Path

import msgspec

from infra.demo_upstream.usage import Usage


class Answered(msgspec.Struct, frozen=True):
    """One request that got an answer. `is_complete`: its last byte was handed to the system.

    `usage` is what the provider counts, reported or not; None for an error.
    """

    id: str
    custom_id: str | None
    path: str
    status: int
    model: str
    stream: bool
    is_complete: bool
    usage: Usage | None


class Totals(msgspec.Struct):
    """Counters since the start. Tokens are those of complete and cut answers alike."""

    requests: int = 0
    succeeded: int = 0
    errors: int = 0
    incomplete: int = 0
    streams: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    forgotten: int = 0


class Record:
    """Counters for ever, the last `rows_max` answers in memory, all of them in `path` if given."""

    def __init__(self, rows_max: int, path: Path | None = None) -> None:
        self.totals = Totals()
        self._rows: deque[Answered] = deque(maxlen=rows_max)
        self._file = path.open("ab") if path is not None else None

    def add(self, answered: Answered) -> None:
        """Note one answer."""
        totals, usage = self.totals, answered.usage
        totals.requests += 1
        totals.succeeded += answered.is_complete and answered.status < 400
        totals.errors += answered.status >= 400
        totals.incomplete += not answered.is_complete
        totals.streams += answered.stream
        if usage is not None:
            totals.prompt_tokens += usage.prompt
            totals.completion_tokens += usage.completion
            totals.cached_tokens += usage.cached
            totals.reasoning_tokens += usage.reasoning
        totals.forgotten += len(self._rows) == self._rows.maxlen
        self._rows.append(answered)
        if self._file is not None:
            self._file.write(msgspec.json.encode(answered) + b"\n")

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        if self._file is not None:
            self._file.flush()

    def rows(self) -> Iterable[bytes]:
        """The remembered answers, oldest first, as lines of JSON."""
        return (msgspec.json.encode(row) + b"\n" for row in list(self._rows))

    def reset(self) -> None:
        """Begin anew; the file keeps what it has."""
        self.totals = Totals()
        self._rows.clear()

    def close(self) -> None:
        """No more answers."""
        if self._file is not None:
            self._file.close()
            self._file = None
