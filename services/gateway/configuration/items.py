"""What came from the store: values of every kind, with the revision each was written at."""

import msgspec


class Item(msgspec.Struct, frozen=True):
    """One value; `kind` names its struct in contracts.config.kinds."""

    kind: str
    id: str
    revision: int
    value: msgspec.Struct


class Broken(msgspec.Struct, frozen=True):
    """A stored value that cannot be read."""

    kind: str
    id: str
    revision: int


class Changes(msgspec.Struct, frozen=True):
    """What came after a revision. `is_full` replaces everything that was.

    `deleted` holds kind and id of what is no longer there, `broken` what can no longer be read.
    """

    revision: int
    items: tuple[Item, ...]
    deleted: frozenset[tuple[str, str]]
    is_full: bool
    broken: tuple[Broken, ...] = ()
