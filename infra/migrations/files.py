"""The SQL files of a store, in order, and cutting them into statements."""

import hashlib
import re
from pathlib import Path
from typing import Final, Literal

import msgspec

Phase = Literal["pre", "post", "all"]

_NAME: Final = re.compile(r"\d{4}_(pre|post)_[a-z0-9_]+\.sql\Z")
_PIECE: Final = re.compile(
    r"--[^\n]*|/\*.*?\*/|'(?:[^'\\]|\\.|'')*'|\"[^\"]*\"|`[^`]*`|;|[^-/'\"`;]+|.", re.DOTALL
)


class MigrationChanged(RuntimeError):
    """A file differs from what was applied under its name."""


class SqlFile(msgspec.Struct, frozen=True):
    """One migration: `sha256` over its text, hex."""

    name: str
    text: str
    sha256: str


def sql_files(directory: Path, phase: Phase = "all") -> list[SqlFile]:
    """Every migration of a store by name. Raises ValueError for a name out of the pattern."""
    found = []
    for path in sorted(directory.glob("*.sql")):
        match = _NAME.match(path.name)
        if match is None:
            raise ValueError(f"{path.name} is not called NNNN_pre_what.sql or NNNN_post_what.sql")
        if phase in ("all", match.group(1)):
            text = path.read_text()
            found.append(SqlFile(path.name, text, hashlib.sha256(text.encode()).hexdigest()))
    return found


def still_to_apply(files: list[SqlFile], applied: dict[str, str]) -> list[SqlFile]:
    """What is not in `applied` (name to sha256). Raises MigrationChanged."""
    for file in files:
        if applied.get(file.name, file.sha256) != file.sha256:
            raise MigrationChanged(
                f"{file.name} was applied with other contents; write a new migration instead"
            )
    return [file for file in files if file.name not in applied]


def statements(text: str) -> list[str]:
    """The statements of a file without its comments; quoted semicolons do not cut."""
    found: list[str] = []
    current = ""
    for piece in _PIECE.finditer(text):
        value = piece.group()
        if value == ";":
            found.append(current.strip())
            current = ""
        elif value.startswith(("--", "/*")):
            current += " "
        else:
            current += value
    found.append(current.strip())
    return [statement for statement in found if statement]
