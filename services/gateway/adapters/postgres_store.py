"""Implements the administration's Store over Postgres; every change is announced and audited."""

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, Final

import asyncpg
import msgspec

from contracts.config.kinds import KIND_BY_STRUCT, SECRET_MEMBERS
from gateway.adapters.postgres import CHANNEL, UNREACHABLE, Connection
from gateway.administration.invalid import Conflict, Invalid
from gateway.administration.store import (
    EVERYTHING,
    AuditEntry,
    AuditQuery,
    Query,
    StoreUnavailable,
    Value,
)

_WRITE_LOCK: Final = 0x70_11_3A_91
_ACQUIRE_TIMEOUT_S: Final = 5.0
"""How long it may take to get a connection, and to give back one whose server hangs."""
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""The one character that the database cannot hold, as JSON writes it."""

_encode = msgspec.json.Encoder().encode


class PostgresStore:
    """Implements Store. Writes take turns under one lock.

    So revisions become visible in the order they are given out, and a reader that asks for
    everything after one misses nothing.
    """

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @asynccontextmanager
    async def change(self, actor: str) -> AsyncIterator["PostgresChange"]:
        """See Store."""
        try:
            async with (
                self._pool.acquire(timeout=_ACQUIRE_TIMEOUT_S) as connection,
                connection.transaction(),
            ):
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _WRITE_LOCK)
                revision = await connection.fetchval("SELECT nextval('configuration_revision')")
                yield PostgresChange(connection, revision, actor)
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, str(revision))
        except UNREACHABLE as error:
            raise StoreUnavailable(type(error).__name__) from error

    @asynccontextmanager
    async def read(self) -> AsyncIterator["PostgresReading"]:
        """See Store."""
        try:
            async with (
                self._pool.acquire(timeout=_ACQUIRE_TIMEOUT_S) as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                yield PostgresReading(connection)
        except UNREACHABLE as error:
            raise StoreUnavailable(type(error).__name__) from error

    async def audit_log(self, query: AuditQuery) -> list[AuditEntry]:
        """See Store."""
        try:
            async with self._pool.acquire(timeout=_ACQUIRE_TIMEOUT_S) as connection:
                rows = await connection.fetch(
                    "SELECT id, at_ms, actor, action, kind, item_id, revision, before::text, after::text"
                    " FROM audit_log WHERE ($1 = '' OR kind = $1) AND ($2 = '' OR item_id = $2)"
                    " AND ($3 = '' OR actor = $3) AND ($4::bigint IS NULL OR at_ms >= $4)"
                    " AND ($5::bigint IS NULL OR at_ms < $5) AND ($6::bigint IS NULL OR id < $6)"
                    " ORDER BY id DESC LIMIT $7",
                    query.kind,
                    query.item_id,
                    query.actor,
                    query.start_ms,
                    query.end_ms,
                    query.before_id,
                    query.limit,
                )
        except UNREACHABLE as error:
            raise StoreUnavailable(type(error).__name__) from error
        return [
            AuditEntry(
                id=row[0],
                at_ms=row[1],
                actor=row[2],
                action=row[3],
                kind=row[4],
                item_id=row[5],
                revision=row[6],
                before=_raw(row[7]),
                after=_raw(row[8]),
            )
            for row in rows
        ]


class PostgresReading:
    """Implements Reading within a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, kind: type[Value], item_id: str) -> Value | None:
        """See Reading."""
        if "\0" in item_id:
            return None
        document = await self._document(KIND_BY_STRUCT[kind], item_id)
        return None if document is None else msgspec.json.decode(document, type=kind)

    async def find(self, kind: type[Value], query: Query = EVERYTHING) -> list[Value]:
        """See Reading."""
        condition = _condition(kind, query)
        if condition is None:
            return []
        where, arguments = condition
        order = "DESC" if query.newest_first else "ASC"
        limit = f" LIMIT {int(query.limit)}" if query.limit else ""
        rows = await self._connection.fetch(
            f"SELECT document::text FROM configuration_items WHERE {where}"  # noqa: S608 - constant
            f" ORDER BY created_at {order}, id {order}{limit} OFFSET {int(query.offset)}",
            *arguments,
        )
        decode = msgspec.json.Decoder(kind).decode
        return [decode(row[0]) for row in rows]

    async def count(self, kind: type[Value], query: Query = EVERYTHING) -> int:
        """See Reading."""
        condition = _condition(kind, query)
        if condition is None:
            return 0
        where, arguments = condition
        found = await self._connection.fetchval(
            f"SELECT count(*) FROM configuration_items WHERE {where}",  # noqa: S608 - constant
            *arguments,
        )
        return int(found)

    async def _document(self, kind: str, item_id: str) -> str | None:
        found: str | None = await self._connection.fetchval(
            "SELECT document::text FROM configuration_items WHERE kind = $1 AND id = $2",
            kind,
            item_id,
        )
        return found


class PostgresChange(PostgresReading):
    """Implements Change."""

    def __init__(self, connection: Connection, revision: int, actor: str) -> None:
        super().__init__(connection)
        self._revision = revision
        self.actor = actor

    async def put(self, item_id: str, value: msgspec.Struct) -> None:
        """See Change."""
        kind = KIND_BY_STRUCT[type(value)]
        before = await self._document(kind, item_id)
        after = _encode(value).decode()
        if _NUL.search(after) or "\0" in item_id:
            raise Invalid("NUL is not allowed")
        try:
            await self._connection.execute(
                "INSERT INTO configuration_items"
                " (kind, id, document, created_at, updated_at, revision)"
                " VALUES ($1, $2, $3::text::jsonb, $4, $5, $6)"
                " ON CONFLICT (kind, id) DO UPDATE SET document = excluded.document,"
                " updated_at = excluded.updated_at, revision = excluded.revision",
                kind,
                item_id,
                after,
                value.created_at,  # type: ignore[attr-defined]
                value.updated_at,  # type: ignore[attr-defined]
                self._revision,
            )
        except asyncpg.UniqueViolationError as error:
            name = error.constraint_name or ""
            raise Conflict(f"duplicate value violates {name}", name) from None
        await self._connection.execute(
            "DELETE FROM configuration_tombstones WHERE kind = $1 AND id = $2", kind, item_id
        )
        await self._audit("create" if before is None else "update", kind, item_id, before, after)

    async def delete(self, kind: type[msgspec.Struct], item_id: str) -> bool:
        """See Change."""
        name = KIND_BY_STRUCT[kind]
        if "\0" in item_id:
            return False
        before = await self._connection.fetchval(
            "DELETE FROM configuration_items WHERE kind = $1 AND id = $2 RETURNING document::text",
            name,
            item_id,
        )
        if before is None:
            return False
        await self._connection.execute(
            "INSERT INTO configuration_tombstones (kind, id, revision) VALUES ($1, $2, $3)"
            " ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision",
            name,
            item_id,
            self._revision,
        )
        await self._audit("delete", name, item_id, before, None)
        return True

    async def _audit(
        self, action: str, kind: str, item_id: str, before: str | None, after: str | None
    ) -> None:
        await self._connection.execute(
            "INSERT INTO audit_log (at_ms, actor, action, kind, item_id, revision, before, after)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8::text::jsonb)",
            time.time_ns() // 1_000_000,
            self.actor,
            action,
            kind,
            item_id,
            self._revision,
            _masked(before),
            _masked(after),
        )


def _condition(kind: type[msgspec.Struct], query: Query) -> tuple[str, list[Any]] | None:
    """SQL and its arguments; None when nothing can match because no stored text holds NUL."""
    texts = [query.ids, query.holds, query.lacks, query.any_of, query.name_contains]
    if _NUL.search(_text(texts)):
        return None
    # Written out, so that the planner sees which partial indexes apply.
    parts = [f"kind = '{_name(KIND_BY_STRUCT[kind])}'"]
    arguments: list[Any] = []
    texts_of = {field.name for field in msgspec.structs.fields(kind) if field.type is str}

    def bind(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    if query.ids is not None:
        parts.append(f"id = ANY({bind(list(query.ids))}::text[])")
    for member, value in query.holds.items():
        # Written as the indexes have it.
        if member in texts_of and value:
            parts.append(f"document ->> '{_name(member)}' = {bind(value)}::text")
        else:
            parts.append(f"document -> '{_name(member)}' @> {bind(_text(value))}::text::jsonb")
    for member, value in query.lacks.items():
        parts.append(
            f"(document -> '{_name(member)}' @> {bind(_text(value))}::text::jsonb) IS NOT TRUE"
        )
    for member, values in query.any_of.items():
        if member in texts_of:
            parts.append(f"document ->> '{_name(member)}' = ANY({bind(list(values))}::text[])")
        else:
            parts.append(f"document -> '{_name(member)}' ?| {bind(list(values))}::text[]")
    if query.name_contains:
        parts.append(
            f"strpos(lower(document ->> 'name'), lower({bind(query.name_contains)}::text)) > 0"
        )
    return " AND ".join(parts), arguments


def _name(member: str) -> str:
    """A member's name is ours, never a client's: this keeps it so."""
    if not member.isidentifier():
        raise ValueError(f"{member!r} is no member of a document")
    return member


def _text(value: Any) -> str:
    return _encode(value).decode()


def _masked(document: str | None) -> str | None:
    """The document with what is secret replaced by a mark that still tells one from another."""
    if document is None:
        return None
    members = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    for name in SECRET_MEMBERS & members.keys():
        mark = sha256(bytes(members[name])).hexdigest()[:8]
        members[name] = msgspec.Raw(_encode(f"*** {mark}"))
    return _encode(members).decode()


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())
