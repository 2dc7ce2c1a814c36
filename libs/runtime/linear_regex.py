"""Regular expressions in RE2's syntax, matched in time linear in the text."""

from typing import Any, Final

import re2

MEMORY_BYTES_MAX: Final = 2 * 1024 * 1024
"""For one pattern: its program, and what matching may cache."""

_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = MEMORY_BYTES_MAX


class BadPattern(ValueError):
    """The text is no pattern, or one that takes too much memory; the message says which."""


def compile_pattern(text: str) -> Any:
    """A pattern with the methods of the standard library's. Raises BadPattern.

    There are no back-references and no look-around: what cannot be matched without going back
    cannot be written.
    """
    try:
        return re2.compile(text, _OPTIONS)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        if isinstance(reason, bytes):
            reason = reason.decode("utf-8", "replace")
        raise BadPattern(str(reason)) from None
