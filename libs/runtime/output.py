"""What a command prints for whoever reads it, who may leave early: `--check-config | head -1`."""

import os
import sys
from typing import Final, NoReturn

import msgspec

from runtime.settings import show

UNREAD_STATUS: Final = 141
"""What a shell says of a program that SIGPIPE ended."""


def say(text: str) -> None:
    """Lines for standard output, now. Ends the process when nobody reads them any more."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        end_unread()


def end_unread() -> NoReturn:
    """Our reader has had enough: no more words, none of a broken pipe either."""
    # The interpreter flushes standard output once more when it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(UNREAD_STATUS)


def say_settings(*settings: msgspec.Struct) -> None:
    """Those in force, as `NAME=value`, secrets masked."""
    for struct in settings:
        for field in msgspec.structs.fields(struct):
            say(f"{field.name.upper()}={show(getattr(struct, field.name))}")
