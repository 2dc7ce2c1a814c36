"""What an admin request got wrong."""

from collections.abc import Iterable


class Invalid(ValueError):
    """The request cannot be accepted; the message is for its sender.

    `kind` and `title` are the error's when they are not those of a failed validation.
    """

    def __init__(self, message: str, *, kind: str = "", title: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.title = title


def holds_nul(texts: Iterable[str]) -> bool:
    """Whether a text holds the one character that the database cannot."""
    return any("\0" in text for text in texts)


class NotFound(LookupError):
    """There is no such thing; the message is for its sender."""


class Conflict(ValueError):
    """Something else already has that; `constraint` is the name of the rule in the database."""

    def __init__(self, message: str, constraint: str = "") -> None:
        super().__init__(message)
        self.constraint = constraint
