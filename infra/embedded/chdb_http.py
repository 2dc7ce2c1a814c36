"""ClickHouse's HTTP protocol, as far as clickhouse-connect speaks it, over the engine."""

import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

import httptools
import msgspec

from infra.embedded.chdb_encoding import (
    ENCODED_FROM_BYTES,
    BodyDamaged,
    CodingUnknown,
    Packer,
    packer,
    unpacker,
)
from infra.embedded.chdb_engine import (
    BAD_ARGUMENTS,
    RESULT_BYTES_MAX,
    STREAMED_FORMATS,
    Engine,
    EngineError,
    Session,
)
from infra.embedded.chdb_intake import BodyTooLarge, Intake, form_fields
from infra.embedded.chdb_statement import (
    first_word,
    insert_table,
    keeps_state,
    trailing_format,
)

HEAD_BYTES_MAX: Final = 1 << 20
"""Request line and headers: bound values travel in the request line."""

BUFFERED_BYTES_MAX: Final = 1 << 20
"""An answer up to this size is one write with its length; a longer one goes in chunks."""

READ_TIMEOUT_S: Final = 60.0
IDLE_TIMEOUT_S: Final = 3600.0
"""Long on purpose: a client repeats by itself what it sent into a connection being closed."""

WRITE_TIMEOUT_S: Final = 300.0
_READ_BYTES: Final = 1 << 18

NOT_IMPLEMENTED: Final = 48
REQUIRED_TOKEN: Final = "insert_deduplication_token"

# Parameters of the protocol, not settings of the engine.
_TRANSPORT: Final = frozenset(
    {
        "query", "database", "user", "password", "query_id", "quota_key", "role",
        "session_id", "session_timeout", "session_check", "stacktrace",
        "default_format", "buffer_size", "wait_end_of_query", "client_protocol_version",
        "enable_http_compression", "http_zlib_compression_level", "add_http_cors_header",
        "send_progress_in_http_headers", "http_headers_progress_interval_ms",
        "cancel_http_readonly_queries_on_client_close",
    }
)  # fmt: skip

_STATUS_OF_CODE: Final = {60: 404, 81: 404, 36: 400, 47: 400, 62: 400, 115: 400, 469: 400, 48: 501}
_REASONS: Final = {
    200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found",
    413: "Content Too Large", 500: "Internal Server Error", 501: "Not Implemented",
}  # fmt: skip


class Refused(Exception):
    """An answer that ends the connection: the request cannot be read to its end."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Limits(msgspec.Struct, frozen=True):
    """What one server accepts; `spool` lies in the engine's directory."""

    request_bytes_max: int
    spool: Path
    hosts: frozenset[str]


class _Request:
    """Filled by httptools while bytes arrive."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._target = bytearray()
        self._head_bytes = 0
        self.headers: dict[str, str] = {}
        self.path = ""
        self.parameters: dict[str, str] = {}
        self.intake: Intake | None = None
        self.expects_continue = False
        self.refusal: Refused | None = None
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX and self.refusal is None:
            self.refusal = Refused(413, BAD_ARGUMENTS, f"the head is past {HEAD_BYTES_MAX} bytes")

    def on_headers_complete(self) -> None:
        path, _, query = bytes(self._target).decode("latin-1").partition("?")
        self.path = path
        try:
            self.parameters = dict(parse_qsl(query, keep_blank_values=True, errors="strict"))
            self.intake = Intake(
                self.parameters.get("query", "").encode(),
                unpacker(self.headers.get("content-encoding", "").strip().lower()),
                self._limits.spool,
                self._limits.request_bytes_max,
                is_form=self.is_form,
            )
        except CodingUnknown as error:
            self.refusal = Refused(400, BAD_ARGUMENTS, f"unknown content coding {error}")
        except (ValueError, OSError) as error:
            self.refusal = Refused(400, BAD_ARGUMENTS, str(error))
        self.expects_continue = self.headers.get("expect", "").lower() == "100-continue"

    @property
    def is_form(self) -> bool:
        return self.headers.get("content-type", "").startswith("multipart/form-data")

    def on_body(self, body: bytes) -> None:
        if self.intake is None or self.refusal is not None:
            return
        try:
            self.intake.feed(body)
        except BodyTooLarge as error:
            self.refusal = Refused(413, BAD_ARGUMENTS, str(error))
        except (BodyDamaged, OSError) as error:
            self.refusal = Refused(400, BAD_ARGUMENTS, str(error))

    def on_message_complete(self) -> None:
        self.is_complete = True

    def discard(self) -> None:
        if self.intake is not None:
            self.intake.discard()


class Connection:
    """One client connection, served by one thread."""

    def __init__(
        self, sock: socket.socket, engine: Engine, limits: Limits, stopping: threading.Event
    ) -> None:
        self._sock = sock
        self._engine = engine
        self._limits = limits
        self._stopping = stopping
        self._is_usable = True

    def serve(self) -> None:
        """Answers requests one by one until the client leaves or the server stops."""
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._is_usable and not self._stopping.is_set():
                request = self._read()
                if request is None:
                    return
                try:
                    self._answer(request)
                finally:
                    request.discard()
        except OSError:
            pass  # the client left; nobody is there to be told
        finally:
            self._sock.close()

    def _read(self) -> _Request | None:
        request = _Request(self._limits)
        parser = httptools.HttpRequestParser(request)
        self._sock.settimeout(IDLE_TIMEOUT_S)
        has_begun = False
        try:
            while not request.is_complete:
                data = self._sock.recv(_READ_BYTES)
                if not data:
                    request.discard()
                    return None
                if not has_begun:
                    has_begun = True
                    self._sock.settimeout(READ_TIMEOUT_S)
                try:
                    parser.feed_data(data)
                except httptools.HttpParserError as error:
                    request.refusal = Refused(400, BAD_ARGUMENTS, f"not HTTP/1.1: {error}")
                if request.refusal is not None:
                    return request
                if request.expects_continue:
                    request.expects_continue = False
                    self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        except OSError:
            request.discard()
            raise
        self._is_usable = parser.should_keep_alive()
        return request

    def _answer(self, request: _Request) -> None:
        self._sock.settimeout(WRITE_TIMEOUT_S)
        query_id = request.parameters.get("query_id") or secrets.token_hex(16)
        try:
            if request.refusal is not None:
                raise request.refusal
            self._check_host(request)
            if request.path == "/ping":
                self._write(200, {"Content-Type": "text/plain; charset=UTF-8"}, b"Ok.\n")
                return
            if request.path != "/":
                self._write(404, {}, b"There is no such handle. Use / or /ping.\n")
                return
            self._query(request, query_id)
        except Refused as refusal:
            self._is_usable = False
            message = f"Code: {refusal.code}. DB::Exception: {refusal.message}"
            self._write_error(refusal.status, refusal.code, message, query_id)
        except EngineError as error:
            status = _STATUS_OF_CODE.get(error.code, 500)
            self._write_error(status, error.code, error.message, query_id)

    def _check_host(self, request: _Request) -> None:
        # A web page must not reach the engine by a name that resolves to loopback.
        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        if host.lower() not in self._limits.hosts:
            raise Refused(403, 516, f"{host!r} is not how this server is called")

    def _query(self, request: _Request, query_id: str) -> None:
        parameters = request.parameters
        intake = request.intake
        assert intake is not None
        try:
            intake.finish()
            statement = intake.statement
            if request.is_form:
                fields = form_fields(statement, request.headers["content-type"])
                statement = fields.pop("query", parameters.get("query", "")).encode()
                parameters = {**parameters, **fields}
        except ValueError as error:
            raise Refused(400, BAD_ARGUMENTS, str(error)) from None
        values = {n[6:]: v for n, v in parameters.items() if n.startswith("param_")}
        settings = {
            n: v
            for n, v in parameters.items()
            if n not in _TRANSPORT and not n.startswith("param_")
        }
        for name in ("compress", "decompress"):
            if settings.pop(name, "0") not in ("0", "false", ""):
                raise EngineError(NOT_IMPLEMENTED, f"Code: 48. {name}=1 is not supported here")
        if intake.head is None and keeps_state(statement):
            raise EngineError(
                NOT_IMPLEMENTED,
                "Code: 48. Every request is a session of its own: SET, USE and temporary tables "
                "would be forgotten at once. Send settings and the database as parameters.",
            )
        with self._engine.session(parameters.get("database"), settings) as session:
            if intake.head is not None:
                self._insert(session, intake, settings, query_id)
            elif first_word(statement) == "INSERT":
                has_token = (
                    bool(settings.get(REQUIRED_TOKEN)) or REQUIRED_TOKEN.encode() in statement
                )
                _require_token(session, insert_table(statement), has_token=has_token)
                session.run(statement.decode(), "TabSeparated", values)
                self._write(200, self._headers(query_id, None), b"")
            else:
                self._read_query(session, request, statement.decode(), values, query_id)

    def _insert(
        self, session: Session, intake: Intake, settings: dict[str, str], query_id: str
    ) -> None:
        head = intake.head
        assert head is not None
        assert intake.data is not None
        has_token = bool(settings.get(REQUIRED_TOKEN)) or REQUIRED_TOKEN in head.settings
        _require_token(session, head.table, has_token=has_token)
        written = session.insert(head, intake.data)
        headers = self._headers(query_id, None)
        headers["X-ClickHouse-Summary"] = (
            f'{{"read_rows":"{written.rows}","read_bytes":"{written.bytes}",'
            f'"written_rows":"{written.rows}","written_bytes":"{written.bytes}",'
            f'"result_rows":"{written.rows}","result_bytes":"{written.bytes}",'
            f'"elapsed_ns":"{written.elapsed_ns}"}}'
        )
        self._write(200, headers, b"")

    def _read_query(
        self,
        session: Session,
        request: _Request,
        statement: str,
        values: dict[str, str],
        query_id: str,
    ) -> None:
        named = trailing_format(statement.encode())
        format_ = named or request.parameters.get("default_format") or "TabSeparated"
        if format_ in STREAMED_FORMATS and first_word(statement.encode()) in ("SELECT", "WITH"):
            headers = self._headers(query_id, format_)
            # A client may leave in the middle: the stream must end before its session does.
            with closing(session.stream(statement, format_, values)) as blocks:
                self._stream(request, headers, blocks)
            return
        result = session.run(statement, format_, values)
        if result.size() > RESULT_BYTES_MAX:
            raise EngineError(396, f"Code: 396. The result is past {RESULT_BYTES_MAX} bytes")
        body = result.bytes()
        headers = self._headers(query_id, format_ if body or named else None)
        headers["X-ClickHouse-Summary"] = (
            f'{{"read_rows":"{result.rows_read()}","read_bytes":"{result.bytes_read()}",'
            f'"elapsed_ns":"{int(result.elapsed() * 1e9)}"}}'
        )
        self._write_encoded(request, headers, body)

    def _stream(self, request: _Request, headers: dict[str, str], blocks: Iterator[bytes]) -> None:
        # An error before the first megabyte still becomes a status; a later one a tagged text.
        begun: list[bytes] = []
        size = 0
        for block in blocks:
            begun.append(block)
            size += len(block)
            if size > BUFFERED_BYTES_MAX:
                break
        else:
            headers["X-ClickHouse-Summary"] = "{}"
            self._write_encoded(request, headers, b"".join(begun))
            return
        tag = secrets.token_hex(8)
        headers["X-ClickHouse-Exception-Tag"] = tag
        headers["Transfer-Encoding"] = "chunked"
        packed = _packer_for(request)
        if packed is not None:
            headers["Content-Encoding"] = packed[0]
        self._sock.sendall(_head(200, headers))
        pack = packed[1] if packed is not None else None
        try:
            for block in begun:
                self._write_chunk(pack.compress(block) if pack else block)
            begun.clear()
            for block in blocks:
                self._write_chunk(pack.compress(block) if pack else block)
            self._write_chunk(pack.flush() if pack else b"")
            self._sock.sendall(b"0\r\n\r\n")
        except EngineError as error:
            self._is_usable = False
            text = error.message
            tail = (
                f"\r\n__exception__\r\n{tag}\r\n{text}\n{len(text.encode()) + 1} {tag}\r\n"
                f"__exception__\r\n"
            ).encode()
            self._write_chunk(pack.compress(tail) + pack.flush() if pack else tail)

    def _write_chunk(self, data: bytes) -> None:
        if data:
            self._sock.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def _headers(self, query_id: str, format_: str | None) -> dict[str, str]:
        headers = {
            "Content-Type": "text/plain; charset=UTF-8",
            "X-ClickHouse-Server-Display-Name": "tollway",
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": self._engine.timezone,
        }
        if format_ is not None:
            headers["X-ClickHouse-Format"] = format_
        return headers

    def _write_encoded(self, request: _Request, headers: dict[str, str], body: bytes) -> None:
        packed = _packer_for(request) if len(body) >= ENCODED_FROM_BYTES else None
        if packed is not None:
            headers["Content-Encoding"] = packed[0]
            body = packed[1].compress(body) + packed[1].flush()
        self._write(200, headers, body)

    def _write_error(self, status: int, code: int, message: str, query_id: str) -> None:
        headers = self._headers(query_id, None)
        headers["X-ClickHouse-Exception-Code"] = str(code)
        self._write(status, headers, f"{message} (version {self._engine.version})\n".encode())

    def _write(self, status: int, headers: dict[str, str], body: bytes) -> None:
        headers["Content-Length"] = str(len(body))
        if not self._is_usable:
            headers["Connection"] = "close"
        # One write: a head alone would wait forty milliseconds for a delayed acknowledgement.
        self._sock.sendall(_head(status, headers) + body)


def _packer_for(request: _Request) -> tuple[str, Packer] | None:
    if request.parameters.get("enable_http_compression", "0") not in ("1", "true"):
        return None
    return packer(request.headers.get("accept-encoding", ""))


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def _require_token(
    session: Session, table: tuple[str | None, str] | None, *, has_token: bool
) -> None:
    # A real server would take it; here a forgotten token is a bug in our own code.
    if not has_token and table is not None and session.deduplicates(table):
        raise EngineError(
            BAD_ARGUMENTS,
            f"Code: 36. DB::Exception: {table[1]} deduplicates inserts; send "
            f"{REQUIRED_TOKEN}. (BAD_ARGUMENTS)",
        )
