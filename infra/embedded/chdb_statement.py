"""Reading just enough of a statement: what it is, where an insert's data begins, which format."""

import re
from typing import Final

import msgspec

HEAD_BYTES_MAX: Final = 1 << 20
"""Within this many bytes an insert must say its FORMAT, VALUES or SELECT."""

_TOKEN: Final = re.compile(
    rb"""(?P<blank>\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)
    |(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`)
    |(?P<word>[A-Za-z_][\w$]*)
    |(?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
_TRAILING_FORMAT: Final = re.compile(
    rb"\bFORMAT\s+(\w+)\s*(?:SETTINGS\b[^']*(?:'[^']*'[^']*)*)?;?\s*$", re.IGNORECASE
)
# Only spaces and one line end belong to the statement: bytes 9 and 10 may begin Native data.
_DATA_LEAD: Final = re.compile(rb"[ \t]*\r?\n|[ ]?")
_TEMPORARY: Final = re.compile(rb"\s*CREATE\s+(?:OR\s+REPLACE\s+)?TEMPORARY\b", re.IGNORECASE)


class InsertHead(msgspec.Struct, frozen=True):
    """The text of `INSERT INTO t (a) SETTINGS x = 1 FORMAT Native`, and where its data begins.

    `target` is the text up to SETTINGS or FORMAT, `settings` the clause itself or empty, `table`
    the name as written (database or None, table); None for table functions.
    """

    target: str
    settings: str
    format: str
    data_at: int
    table: tuple[str | None, str] | None


class NeedsMore(Exception):
    """The head of the insert is longer than what has arrived."""


def first_word(statement: bytes) -> str:
    """The first keyword in upper case, comments skipped; empty when there is none."""
    for token in _TOKEN.finditer(statement):
        if token.lastgroup == "word":
            return token.group().upper().decode()
        if token.lastgroup != "blank" and token.group() != b"(":
            return ""
    return ""


def keeps_state(statement: bytes) -> bool:
    """Whether it only makes sense within a session, which a request here does not outlive."""
    return first_word(statement) in ("SET", "USE") or _TEMPORARY.match(statement) is not None


def trailing_format(statement: bytes) -> str | None:
    """The FORMAT a reading statement ends with."""
    found = _TRAILING_FORMAT.search(statement)
    return found.group(1).decode() if found else None


def insert_head(text: bytes, *, is_whole: bool) -> InsertHead | None:
    """The head of an insert with data after its FORMAT; None for every other kind of insert.

    Raises NeedsMore when `text` ends before that can be told and `is_whole` is false.
    """
    depth = 0
    settings_at: int | None = None
    tokens = _TOKEN.finditer(text)
    for token in tokens:
        value = token.group()
        if value in (b"(", b"["):
            depth += 1
        elif value in (b")", b"]"):
            depth -= 1
        elif depth == 0 and token.lastgroup == "word":
            word = value.upper()
            if word in (b"VALUES", b"SELECT", b"WITH", b"FROM", b"WATCH"):
                return None
            if word == b"SETTINGS" and settings_at is None:
                settings_at = token.start()
            if word == b"FORMAT":
                name = next((t for t in tokens if t.lastgroup != "blank"), None)
                if name is None or (name.end() == len(text) and not is_whole):
                    break
                lead = _DATA_LEAD.match(text, name.end())
                assert lead is not None
                if lead.end() == len(text) and not is_whole and b"\n" not in lead.group():
                    break
                target_end = token.start() if settings_at is None else settings_at
                return InsertHead(
                    target=text[:target_end].decode(),
                    settings=b"".join(text[target_end : token.start()].splitlines()).decode()
                    if settings_at is not None
                    else "",
                    format=name.group().decode(),
                    data_at=lead.end(),
                    table=insert_table(text),
                )
    if is_whole:
        return None
    raise NeedsMore


def insert_table(text: bytes) -> tuple[str | None, str] | None:
    """The table an insert names: (database or None, table); None for a table function."""
    names: list[str] = []
    is_dotted = False
    words = 0
    for token in _TOKEN.finditer(text[:HEAD_BYTES_MAX]):
        value = token.group()
        if token.lastgroup == "blank":
            continue
        if words < 2:  # INSERT INTO
            words += 1
            continue
        if token.lastgroup == "word" and not names and value.upper() == b"TABLE":
            continue
        if token.lastgroup == "word" and not names and value.upper() == b"FUNCTION":
            return None
        if token.lastgroup in ("word", "quoted") and (not names or is_dotted):
            names.append(_unquoted(value))
            is_dotted = False
        elif value == b"." and names:
            is_dotted = True
        else:
            break
    if not names:
        return None
    return (None, names[0]) if len(names) == 1 else (names[-2], names[-1])


def _unquoted(name: bytes) -> str:
    text = name.decode()
    if text[:1] in '`"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def quoted(text: str) -> str:
    """A string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def quoted_name(name: str) -> str:
    """An identifier."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
