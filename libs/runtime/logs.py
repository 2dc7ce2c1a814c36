"""Structured logs: a dotted constant event name and fields, one line each, for people or as JSON.

Bodies and secrets never: a field named like a secret is masked, bytes become length and hash.
"""

import hashlib
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TextIO

import msgspec

from runtime.settings import Secret

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

_RANK_BY_LEVEL: Final[dict[Level, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_SECRET_PARTS: Final = ("apikey", "api_key", "authorization", "password", "secret", "token_value")
_SECRET_NAMES: Final = frozenset({"key", "body", "token", "credential", "credentials"})
_TEXT_CHARS_MAX: Final = 2_000


class LogSettings(msgspec.Struct, frozen=True):
    """How a process writes its log."""

    log_format: Annotated[
        Format, msgspec.Meta(description="Log lines as `text` (key=value) or `json`.")
    ] = "text"
    log_level: Annotated[Level, msgspec.Meta(description="Least severe log line written.")] = "info"


class LogFileSettings(msgspec.Struct, frozen=True):
    """How much log of each child is kept in `<DATA_DIR>/logs`."""

    log_file_bytes_max: Annotated[
        int, msgspec.Meta(description="A child's log file is rotated at this size.")
    ] = 16 * 1024 * 1024
    log_files_max: Annotated[
        int, msgspec.Meta(description="Files kept of each child's log, the current one included.")
    ] = 4


class Log:
    """Writes lines. Cheap to bind; safe to share within a process."""

    __slots__ = ("_fields", "_level", "_log_format", "_write")

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        log_format: Format = "text",
        level: Level = "info",
        fields: dict[str, Any] | None = None,
    ) -> None:
        self._write = write
        self._log_format = log_format
        self._level = level
        self._fields = fields or {}

    def bind(self, **fields: Any) -> "Log":
        """The same log with fields on every line."""
        return Log(
            self._write,
            log_format=self._log_format,
            level=self._level,
            fields={**self._fields, **fields},
        )

    def debug(self, event: str, **fields: Any) -> None:
        """For the one who looks for a fault."""
        self._line("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """What an operator wants to read later."""
        self._line("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Went wrong and was mended."""
        self._line("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Went wrong and was not."""
        self._line("error", event, fields)

    def _line(self, level: Level, event: str, fields: dict[str, Any]) -> None:
        if _RANK_BY_LEVEL[level] < _RANK_BY_LEVEL[self._level]:
            return
        shown = {name: _shown(name, value) for name, value in (self._fields | fields).items()}
        now = time.time()
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1e3) % 1000:03d}Z"
        if self._log_format == "json":
            line = msgspec.json.encode({"at": at, "level": level, "event": event, **shown}).decode()
        else:
            words = " ".join(f"{name}={_quoted(value)}" for name, value in shown.items())
            line = f"{at} {level:<7} {event} {words}".rstrip()
        self._write(line + "\n")


def _shown(name: str, value: Any) -> Any:
    lowered = name.lower()
    if isinstance(value, Secret) or lowered in _SECRET_NAMES:
        return "***"
    if any(part in lowered for part in _SECRET_PARTS):
        return "***"
    if isinstance(value, bytes | bytearray | memoryview):
        digest = hashlib.sha256(value).hexdigest()[:16]
        return f"{len(value)} bytes sha256:{digest}"
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = str(value)
    if len(text) > _TEXT_CHARS_MAX:
        return f"{text[:_TEXT_CHARS_MAX]}… ({len(text)} characters)"
    return text


def _quoted(value: Any) -> str:
    text = "-" if value is None else str(value)
    if text and not any(character in ' "=\n\r\t\\' or character < " " for character in text):
        return text
    return msgspec.json.encode(text).decode()


def to_stream(settings: LogSettings | None = None, stream: TextIO | None = None) -> Log:
    """A log on a stream, standard error unless told otherwise."""
    settings = settings or LogSettings()
    target = stream or sys.stderr

    def write(line: str) -> None:
        target.write(line)
        target.flush()

    return Log(write, log_format=settings.log_format, level=settings.log_level)


def silent() -> Log:
    """A log nobody reads."""
    return Log(lambda _line: None)


class _Bridge(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        if record.levelno < logging.WARNING:
            level = "info" if record.levelno >= logging.INFO else "debug"
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            message = f"{message}: {record.exc_info[1]!r}"
        getattr(self._log, level)("library", logger=record.name, message=message)


def take_over_stdlib(log: Log, *, level: int = logging.WARNING) -> None:
    """Send what libraries say through `logging` into our lines."""
    root = logging.getLogger()
    root.handlers[:] = [_Bridge(log)]
    root.setLevel(level)


class RotatedFile:
    """An append-only text file of bounded size: `name.log`, `name.log.1`, ... oldest dropped."""

    def __init__(self, path: Path, settings: LogFileSettings | None = None) -> None:
        self._settings = settings or LogFileSettings()
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._bytes = self._file.tell()

    def write(self, content: bytes) -> None:
        """Append, rotating between lines where possible. A full disk loses the text."""
        bytes_max = max(1, self._settings.log_file_bytes_max)
        while content:
            room = bytes_max - self._bytes
            fits = len(content) if len(content) <= room else content.rfind(b"\n", 0, room) + 1
            try:
                if self._file.closed or (fits == 0 and self._bytes):
                    self._rotate()
                    continue
                part, content = content[: fits or room], content[fits or room :]
                self._bytes += self._file.write(part) or 0
            except OSError:
                # A log must not take down what it describes.
                return

    def _rotate(self) -> None:
        # Closed until all of it is done: what fails is tried again at the next write.
        self._file.close()
        kept = max(1, self._settings.log_files_max)
        for number in range(kept - 1 if self._path.exists() else 0, 0, -1):
            older = self._numbered(number)
            newer = self._numbered(number - 1)
            if newer.exists():
                newer.replace(older)
        self._file = self._path.open("wb" if kept == 1 else "ab", buffering=0)
        self._bytes = 0

    def _numbered(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")

    def close(self) -> None:
        """No more writes."""
        self._file.close()


def tail(path: Path, lines: int, *, bytes_max: int = 256 * 1024) -> list[str]:
    """The last lines of a log file, at most; empty when there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - bytes_max))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:] if lines else []
    except OSError:
        return []
