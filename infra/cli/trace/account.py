"""The player's own account of what it sent and what it was answered."""

from collections import Counter
from typing import Any

import msgspec

from infra.cli.trace.rows import Row


class FileAccount(msgspec.Struct):
    """Of one file and model. Tokens are those of the answers, not of the file."""

    file: str
    model: str
    sent: int = 0
    succeeded: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class _Answer(msgspec.Struct):
    usage: _Usage


_answers = msgspec.json.Decoder(_Answer)


class Account:
    """Counts; `failures` by reason."""

    def __init__(self) -> None:
        self.by_file: dict[tuple[str, str], FileAccount] = {}
        self.failures: Counter[str] = Counter()
        self.latencies_ms: list[float] = []
        self.done = 0

    def sent(self, row: Row) -> None:
        """A request is on its way."""
        self._of(row).sent += 1

    def answered(self, row: Row, status: int, body: bytes, latency_ms: float) -> None:
        """A success is a 200 whose usage is what the trace asked for."""
        self.done += 1
        if status != 200:
            self.failures[f"status {status}: {body[:200].decode('utf-8', 'replace')}"] += 1
            return
        try:
            usage = _answers.decode(body).usage
        except msgspec.DecodeError as error:
            self.failures[f"an answer without usage: {error}"] += 1
            return
        asked = (row.prompt_tokens, row.completion_tokens)
        if (usage.prompt_tokens, usage.completion_tokens) != asked:
            self.failures["another usage than asked for"] += 1
            return
        account = self._of(row)
        account.succeeded += 1
        account.prompt_tokens += usage.prompt_tokens
        account.completion_tokens += usage.completion_tokens
        self.latencies_ms.append(latency_ms)

    def failed(self, reason: str) -> None:
        """A request had no answer."""
        self.done += 1
        self.failures[reason] += 1

    def _of(self, row: Row) -> FileAccount:
        key = (row.file, row.model)
        account = self.by_file.get(key)
        if account is None:
            account = self.by_file[key] = FileAccount(row.file, row.model)
        return account

    @property
    def succeeded(self) -> int:
        """Requests answered as asked."""
        return sum(account.succeeded for account in self.by_file.values())

    def summary(self, seconds: float) -> dict[str, Any]:
        """All of it as JSON members."""
        latencies = sorted(self.latencies_ms)

        def quantile(of: float) -> float | None:
            if not latencies:
                return None
            return round(latencies[min(len(latencies) - 1, int(of * len(latencies)))], 2)

        return {
            "requests": self.done,
            "succeeded": self.succeeded,
            "failed": self.done - self.succeeded,
            "prompt_tokens": sum(a.prompt_tokens for a in self.by_file.values()),
            "completion_tokens": sum(a.completion_tokens for a in self.by_file.values()),
            "seconds": round(seconds, 3),
            "requests_per_second": round(self.done / seconds, 1) if seconds else None,
            "latency_ms_median": quantile(0.5),
            "latency_ms_99th": quantile(0.99),
            "failures": dict(self.failures.most_common(20)),
            "files": [msgspec.to_builtins(account) for account in self.by_file.values()],
        }
