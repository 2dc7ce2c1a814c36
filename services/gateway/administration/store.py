"""Where configuration is kept: values by kind and id, changed in transactions, audited."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, TypeVar

import msgspec

Value = TypeVar("Value", bound=msgspec.Struct)

AuditAction = Literal["create", "update", "delete"]


class StoreUnavailable(Exception):
    """The database gave no answer; nothing is known to have changed."""


class Query(msgspec.Struct, frozen=True):
    """Which values of a kind. Everything given must hold; nothing given is everything.

    `holds` is matched by containment: each member of a list must be there, scalars must be equal,
    and a member that has its default is not stored. `lacks` is the same, turned round. `any_of`
    maps a member to texts of which one must be in it, or be it. `name_contains` ignores case.
    A `limit` of 0 is none; `offset` counts without one too.
    """

    ids: tuple[str, ...] | None = None
    holds: Mapping[str, Any] = {}
    lacks: Mapping[str, Any] = {}
    any_of: Mapping[str, tuple[str, ...]] = {}
    name_contains: str = ""
    newest_first: bool = False
    limit: int = 0
    offset: int = 0


EVERYTHING = Query()


def may_redirect(actor: str) -> bool:
    """Whether a writer may have stored secrets sent to another host: not the holder of a token."""
    return not actor.startswith("token:")


class Reading(Protocol):
    """One state of the configuration. Every method raises StoreUnavailable."""

    async def get(self, kind: type[Value], item_id: str) -> Value | None:
        """The value with this id."""
        ...

    async def find(self, kind: type[Value], query: Query = EVERYTHING) -> list[Value]:
        """Those that match, by creation then id."""
        ...

    async def count(self, kind: type[Value], query: Query = EVERYTHING) -> int:
        """How many match, `limit` and `offset` aside."""
        ...


class Change(Reading, Protocol):
    """A transaction: nobody else changes configuration meanwhile, so what was read stays true.

    Everything in it is announced to every gateway when it commits, and in the audit log, which
    names the `actor`.
    """

    @property
    def actor(self) -> str:
        """Who changes."""
        ...

    async def put(self, item_id: str, value: msgspec.Struct) -> None:
        """Stores it, new or in place of what had the id.

        The value has `created_at` and `updated_at`. Raises Conflict, whose `constraint` says which
        member another value already has, and Invalid for a text that cannot be stored.
        """
        ...

    async def delete(self, kind: type[msgspec.Struct], item_id: str) -> bool:
        """Whether there was one to delete."""
        ...


class AuditQuery(msgspec.Struct, frozen=True):
    """Which changes, newest first. `start_ms` and `end_ms` are half-open; `before_id` pages on."""

    kind: str = ""
    item_id: str = ""
    actor: str = ""
    start_ms: int | None = None
    end_ms: int | None = None
    before_id: int | None = None
    limit: int = 100


class AuditEntry(msgspec.Struct, frozen=True):
    """One change. `before` and `after` are JSON documents, secrets masked."""

    id: int
    at_ms: int
    actor: str
    action: AuditAction
    kind: str
    item_id: str
    revision: int
    before: msgspec.Raw | None
    after: msgspec.Raw | None


class Store(Protocol):
    """Opens transactions. Raises StoreUnavailable."""

    def change(self, actor: str) -> AbstractAsyncContextManager[Change]:
        """Committed on leaving without an error, undone otherwise. `actor` is for the audit log."""
        ...

    def read(self) -> AbstractAsyncContextManager[Reading]:
        """One consistent state."""
        ...

    async def audit_log(self, query: AuditQuery) -> list[AuditEntry]:
        """What was changed."""
        ...
