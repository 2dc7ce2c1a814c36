"""The only module that touches chDB: one engine a process, a fresh session for every request.

A session's settings die with it, so nothing a request sets, and no failure in the middle, can
reach another request. Opening a session costs a third of a millisecond.
"""

import fcntl
import os
import re
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from infra.embedded.chdb_statement import InsertHead, quoted, quoted_name

# After a power cut a table that does not sync (bodies) has broken parts; with the default limits one
# such table keeps the whole engine from opening. What is broken is set aside, the rest opens.
_CONFIG: Final = """\
<clickhouse>
    <max_server_memory_usage>{memory_bytes_max}</max_server_memory_usage>
    <mark_cache_size>{cache_bytes}</mark_cache_size>
    <uncompressed_cache_size>0</uncompressed_cache_size>
    <index_mark_cache_size>{cache_bytes}</index_mark_cache_size>
    <mmap_cache_size>64</mmap_cache_size>
    <background_pool_size>2</background_pool_size>
    <merge_tree>
        <max_suspicious_broken_parts>1000000</max_suspicious_broken_parts>
        <max_suspicious_broken_parts_bytes>1099511627776</max_suspicious_broken_parts_bytes>
    </merge_tree>
</clickhouse>
"""

# What a request that says nothing gets. async_insert is on by default in this engine and doubles
# the time of our batches; the second line matters to summing views only, but a view may be an
# operator's; the third ends what a client who left has forgotten.
_BASELINE: Final = {
    "async_insert": "0",
    "deduplicate_blocks_in_dependent_materialized_views": "1",
    "max_execution_time": "300",
}

STREAMED_FORMATS: Final = frozenset(
    {"Native", "TabSeparated", "TSV", "CSV", "RowBinary", "JSONEachRow"}
)
"""Formats without a head or a foot: their blocks can be sent one after another."""

RESULT_BYTES_MAX: Final = 256 << 20
"""A result in any other format is built whole; past this the query fails (code 396)."""

SESSIONS_MAX: Final = 16
SESSION_WAIT_S: Final = 30.0

_SETTING_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_CODE: Final = re.compile(r"Code: (\d+)\.")
_WINDOW: Final = re.compile(r"non_replicated_deduplication_window = ([1-9]\d*)")

UNKNOWN_SETTING: Final = 115
BAD_ARGUMENTS: Final = 36
CANNOT_READ_ALL_DATA: Final = 33
TOO_MANY_QUERIES: Final = 202


class EngineError(Exception):
    """The engine refused or failed; `code` is ClickHouse's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @classmethod
    def of(cls, error: Exception) -> "EngineError":
        """From whatever chDB raised."""
        text = str(error)
        # Nested exceptions repeat their prefix; the innermost message is the one that helps.
        begins = text.find("Code: ")
        text = text[begins:] if begins > 0 else text
        found = _CODE.search(text)
        return cls(int(found.group(1)) if found else 1001, text.strip())


class EngineClosed(RuntimeError):
    """The directory does not open; the engine has said why on standard error."""


class EngineBusy(EngineClosed):
    """Another process owns the directory."""


class Written(msgspec.Struct, frozen=True):
    """What an insert did."""

    rows: int
    bytes: int
    elapsed_ns: int


class Session:
    """One chDB handle, for one request and one thread."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def run(self, statement: str, format_: str, parameters: Mapping[str, str]) -> Any:
        """The whole result. Raises EngineError."""
        try:
            return self._connection.query(statement, format_, params=dict(parameters))
        except RuntimeError as error:
            raise EngineError.of(error) from None

    def stream(
        self, statement: str, format_: str, parameters: Mapping[str, str]
    ) -> Generator[bytes, None, None]:
        """The result block by block. Raises EngineError, at once or at any block."""
        try:
            result = self._connection.send_query(statement, format_, params=dict(parameters))
            is_done = False
            try:
                while not is_done:
                    block = self._connection.streaming_fetch_result(result)
                    is_done = block is None or block.rows_read() == 0
                    if not is_done:
                        yield block.bytes()
            finally:
                if not is_done:
                    self._connection.streaming_cancel_query(result)
        except RuntimeError as error:
            raise EngineError.of(error) from None

    def insert(self, head: InsertHead, data: IO[bytes]) -> Written:
        """One insert of what an open file holds. Raises EngineError.

        chDB's streaming insert would save the file, but swallows a violated CHECK: it reports the
        rows as written and drops them. The file goes by its descriptor: a path would be read as a
        pattern, and a pattern that matches nothing inserts nothing and calls that success.
        """
        path = f"/dev/fd/{data.fileno()}"
        size = data.seek(0, os.SEEK_END)
        data.seek(0)
        statement = f"{head.target} FROM INFILE {quoted(path)} {head.settings} FORMAT {head.format}"
        result = self.run(statement, "TabSeparated", {})
        if size > 0 and result.rows_read() == 0:
            raise EngineError(
                CANNOT_READ_ALL_DATA, f"Code: 33. DB::Exception: {size} bytes held no row"
            )
        return Written(
            rows=result.rows_written(),
            bytes=result.bytes_written(),
            elapsed_ns=int(result.elapsed() * 1e9),
        )

    def deduplicates(self, table: tuple[str | None, str]) -> bool:
        """Whether the table remembers insert tokens, so that an insert without one is an error."""
        database = quoted(table[0]) if table[0] is not None else "currentDatabase()"
        rows = self.run(
            f"SELECT engine_full FROM system.tables "
            f"WHERE database = {database} AND name = {quoted(table[1])}",
            "TabSeparatedRaw",
            {},
        )
        return _WINDOW.search(rows.bytes().decode()) is not None


class Engine:
    """The engine of this process; see `open_`."""

    def __init__(self, address: str, baseline: Mapping[str, str], lock: IO[bytes]) -> None:
        from chdb import _chdb

        # The wrapper classes of chDB add nothing here but a progress bar.
        self._connect: Any = _chdb.connect  # type: ignore[attr-defined]
        self._address = address
        self._baseline = dict(baseline)
        self._lock = lock
        try:
            # Held for the life of the process: the engine closes with its last handle.
            self._first = self._connect(address)
        except RuntimeError as error:
            raise EngineClosed(str(error)) from None
        self._slots = threading.BoundedSemaphore(SESSIONS_MAX)
        self.version = self._text("SELECT version()")
        self.timezone = self._text("SELECT timezone()")

    @classmethod
    def open_(cls, directory: Path, memory_bytes_max: int) -> "Engine":
        """Raises EngineBusy when another process has the directory open, else EngineClosed.

        chDB takes its options in a connection string without escapes, so the working directory
        must already be `directory` and every name is relative to it.
        """
        # The engine has a lock too, but fails in the same words whatever keeps it from opening.
        lock = (directory / "owner.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise EngineBusy(f"another process owns {directory}") from None
        (directory / "config.xml").write_text(
            _CONFIG.format(memory_bytes_max=memory_bytes_max, cache_bytes=memory_bytes_max // 16)
        )
        baseline = {**_BASELINE, "max_memory_usage": str(memory_bytes_max // 2)}
        return cls("store?config-file=config.xml", baseline, lock)

    def _text(self, statement: str) -> str:
        result: str = self._first.query(statement, "TabSeparatedRaw").bytes().decode().strip()
        return result

    @contextmanager
    def session(self, database: str | None, settings: Mapping[str, str]) -> Iterator[Session]:
        """A session with these settings over the baseline.

        Raises EngineError: unknown setting (115), unknown database (81), too many requests (202).
        """
        for name in settings:
            if _SETTING_NAME.match(name) is None:
                raise EngineError(UNKNOWN_SETTING, f"Code: 115. Unknown setting {name!r}")
        if not self._slots.acquire(timeout=SESSION_WAIT_S):
            raise EngineError(
                TOO_MANY_QUERIES,
                f"Code: 202. {SESSIONS_MAX} requests are running. (TOO_MANY_SIMULTANEOUS_QUERIES)",
            )
        connection = None
        try:
            connection = self._connect(self._address)
            session = Session(connection)
            wanted = {**self._baseline, **settings}
            assignments = ", ".join(f"{name} = {quoted(value)}" for name, value in wanted.items())
            session.run(f"SET {assignments}", "TabSeparated", {})
            if database:
                session.run(f"USE {quoted_name(database)}", "TabSeparated", {})
            yield session
        finally:
            if connection is not None:
                connection.close()
            self._slots.release()

    def close(self, timeout_s: float) -> bool:
        """Waits for the running requests, then closes. False when some were still running."""
        is_quiet = all(self._slots.acquire(timeout=timeout_s) for _ in range(SESSIONS_MAX))
        self._first.close()
        self._lock.close()
        return is_quiet
