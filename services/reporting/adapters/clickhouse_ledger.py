"""The ledger over ClickHouse's HTTP interface: a bounded pool of threads, every wait limited."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import clickhouse_connect
import urllib3
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import (
    ClickHouseError,
    InterfaceError,
    OperationalError,
)
from clickhouse_connect.driver.httputil import get_pool_manager

from reporting.errors import (
    Busy,
    LedgerFailed,
    QuestionTimedOut,
    QuestionTooLarge,
    ReportingError,
    Unavailable,
)
from reporting.queries.query import Query
from reporting.settings import ReportingSettings

# ClickHouse's own error codes: src/Common/ErrorCodes.cpp of any release.
_TOO_LARGE: Final = {158, 241, 307, 396}  # rows, memory, bytes, rows or bytes of a result
_TIMED_OUT: Final = {159, 160}  # ran too long, or would

_GRACE_S: Final = 5.0
"""How much longer than the execution limit we wait for the answer to it."""


class ClickHouseLedger:
    """Implements ports.Ledger. Reads only, so a lost connection is worth one more try."""

    def __init__(self, settings: ReportingSettings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.report_queries_max, "reporting.query")
        self._turns = asyncio.Semaphore(settings.report_queries_max)
        self._client: Client | None = None
        self._connecting = threading.Lock()

    async def rows(self, query: Query) -> Sequence[Sequence[Any]]:
        """See ports.Ledger."""
        try:
            await asyncio.wait_for(self._turns.acquire(), self._settings.report_queue_timeout)
        except TimeoutError:
            raise Busy(
                f"{self._settings.report_queries_max} queries are under way; try again"
            ) from None
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._rows, query)
        # The turn is given back when the thread is free, not when its asker has given up.
        running.add_done_callback(self._finished)
        limit_s = (
            2 * (self._settings.report_query_timeout + _GRACE_S)
            + self._settings.clickhouse_connect_timeout
        )
        try:
            return await asyncio.wait_for(asyncio.shield(running), limit_s)
        except TimeoutError:
            raise QuestionTimedOut(f"no answer from ClickHouse within {limit_s:g} s") from None

    def _finished(self, running: "asyncio.Future[Any]") -> None:
        self._turns.release()
        if not running.cancelled():
            running.exception()

    def _rows(self, query: Query) -> Sequence[Sequence[Any]]:
        parameters = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in query.parameters.items()
        }
        try:
            return self._connected().query(query.text, parameters=parameters).result_rows
        except (OperationalError, InterfaceError, urllib3.exceptions.HTTPError, OSError) as error:
            raise _translated(error, unreachable=True) from error
        except ClickHouseError as error:
            raise _translated(error, unreachable=False) from error

    def _connected(self) -> Client:
        with self._connecting:
            if self._client is None:
                settings = self._settings
                self._client = clickhouse_connect.get_client(
                    dsn=settings.clickhouse_url,
                    username=settings.clickhouse_user,
                    password=settings.clickhouse_password.reveal(),
                    database=settings.clickhouse_database,
                    client_name="tollway-reporting",
                    compress="lz4",
                    # One client for all threads: no session, or they would exclude each other.
                    autogenerate_session_id=False,
                    connect_timeout=int(settings.clickhouse_connect_timeout),
                    send_receive_timeout=int(settings.report_query_timeout + _GRACE_S),
                    query_limit=0,
                    query_retries=1,
                    pool_mgr=get_pool_manager(maxsize=settings.report_queries_max),
                    settings={
                        "max_execution_time": int(settings.report_query_timeout),
                        "max_memory_usage": settings.report_query_memory_bytes_max,
                    },
                )
            return self._client

    def close(self) -> None:
        """Queries under way end with their connections' timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()


def _translated(error: Exception, *, unreachable: bool) -> ReportingError:
    code = getattr(error, "code", None)
    if code in _TIMED_OUT:
        return QuestionTimedOut("the query ran too long (REPORT_QUERY_TIMEOUT); narrow the window")
    if code in _TOO_LARGE:
        return QuestionTooLarge(
            "the query needs more memory than REPORT_QUERY_MEMORY_BYTES_MAX; narrow the window"
        )
    if unreachable and code is None:
        return Unavailable("the ledger cannot be reached")
    return LedgerFailed(f"the ledger refused the query (ClickHouse error {code})")
