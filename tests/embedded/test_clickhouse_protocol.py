"""The owner process, through clickhouse-connect as the services use it."""

import datetime as dt
import random
import socket
import uuid
from collections.abc import Iterator
from decimal import Decimal
from urllib.parse import urlsplit

import clickhouse_connect
import lz4.frame
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from support.servers import RunningServer
from support.stores import ClickHouseDatabase, clickhouse_client

_TABLE = """
CREATE TABLE every_type (
    id UUID,
    at DateTime64(3, 'UTC'),
    amount Nullable(Decimal(38, 12)),
    tags Array(LowCardinality(String)),
    rare Map(LowCardinality(String), Decimal(38, 12)),
    kind Enum8('charge' = 1, 'reversal' = 2),
    tokens Nullable(Int64),
    is_streaming Bool,
    name LowCardinality(String)
) ENGINE = MergeTree ORDER BY id
"""

_ROWS = [
    (
        uuid.UUID("01890000-0000-7000-8000-000000000001"),
        dt.datetime(2026, 11, 22, 1, 2, 3, 456000, tzinfo=dt.UTC),
        Decimal("12345678901234567890123456.789012345678"),
        ["a", "", "ü"],
        {"image": Decimal("-0.000000000001")},
        "charge",
        -(2**62),
        True,
        "gpt",
    ),
    (
        uuid.UUID("01890000-0000-7000-8000-000000000002"),
        dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
        None,
        [],
        {},
        "reversal",
        None,
        False,
        "",
    ),
]


@pytest.fixture
def client(clickhouse: ClickHouseDatabase) -> Iterator[Client]:
    """A client on the test's database."""
    client = clickhouse.client()
    yield client
    client.close()


def test_every_type_of_the_ledger_comes_back_as_it_went(client: Client) -> None:
    """Thirty-eight digits, milliseconds, nulls, maps and arrays, by `insert` and `query`."""
    client.command(_TABLE)
    client.insert("every_type", _ROWS)
    found = client.query("SELECT * FROM every_type ORDER BY id", column_formats={}).result_rows
    assert [_comparable(row) for row in found] == [_comparable(row) for row in _ROWS]


def _comparable(row: tuple[object, ...]) -> tuple[object, ...]:
    at = row[1]
    assert isinstance(at, dt.datetime)
    return (row[0], at.replace(tzinfo=dt.UTC), *row[2:])


@pytest.mark.parametrize("form", ["bytes", "pieces", "lz4", "gzip", "zstd"])
def test_raw_native_data_comes_in_by_every_road(client: Client, form: str) -> None:
    """The statement in the body or in the address, plain, chunked or compressed."""
    import gzip

    from backports import zstd

    client.command(_TABLE)
    client.insert("every_type", _ROWS)
    native = client.raw_query("SELECT * FROM every_type", fmt="Native")
    client.command("TRUNCATE TABLE every_type")
    packers = {"lz4": lz4.frame.compress, "gzip": gzip.compress, "zstd": zstd.compress}
    if form == "pieces":
        block: object = iter([native[:1], native[1:20], native[20:]])
    else:
        block = packers[form](native) if form in packers else native
    client.raw_insert(
        "every_type",
        insert_block=block,
        fmt="Native",
        compression=form if form in packers else None,
    )
    assert client.raw_query("SELECT * FROM every_type", fmt="Native") == native


@pytest.mark.parametrize("columns", [9, 10, 13, 32])
def test_tables_whose_native_data_begins_with_white_space(client: Client, columns: int) -> None:
    """The count of columns is the first byte: tab, line end, return, space."""
    names = [f"c{number}" for number in range(columns)]
    client.command(
        f"CREATE TABLE wide ({', '.join(f'{name} UInt8' for name in names)}) "
        "ENGINE = MergeTree ORDER BY c0"
    )
    client.insert("wide", [list(range(columns))], column_names=names)
    native = client.raw_query("SELECT * FROM wide", fmt="Native")
    client.raw_insert("wide", insert_block=native, fmt="Native")
    client.raw_insert("wide", insert_block=iter([native]), fmt="Native")
    assert client.query("SELECT * FROM wide").result_rows == [tuple(range(columns))] * 3


def test_json_lines_come_in_and_go_out(client: Client) -> None:
    """JSONEachRow, with an amount that no float could hold."""
    client.command("CREATE TABLE j (a Decimal(38, 12), b String) ENGINE = MergeTree ORDER BY b")
    line = b'{"a":"12345678901234567890.123456789012","b":"x\\ty"}\n'
    client.raw_insert("j", insert_block=line, fmt="JSONEachRow")
    out = client.raw_query(
        "SELECT * FROM j", fmt="JSONEachRow", settings={"output_format_json_quote_decimals": 1}
    )
    assert out == line


@pytest.mark.parametrize(
    "text",
    ["", "a'b", "tab\tnew\nline", "back\\slash \\n", "\u2028 ü 💶", "'; DROP TABLE x", "{x:Y}"],
)
def test_bound_values_arrive_as_they_are(client: Client, text: str) -> None:
    """`{name:Type}` parameters, whatever the text holds."""
    found = client.query(
        "SELECT {text:String} AS t, {list:Array(String)} AS l, {n:Nullable(Int64)} AS n",
        parameters={"text": text, "list": [text, "b"], "n": None},
    ).result_rows
    assert found == [(text, [text, "b"], None)]


def test_a_thousand_bound_ids_travel_as_a_form(client: Client) -> None:
    """What is too long for an address comes in the body."""
    ids = [uuid.UUID(int=number) for number in range(1000)]
    found = client.query(
        "SELECT length({ids:Array(UUID)}), {ids:Array(UUID)}[1000]", parameters={"ids": ids}
    ).result_rows
    assert found == [(1000, ids[-1])]


@pytest.mark.parametrize("coding", ["lz4", "zstd", "gzip", False])
def test_a_long_result_streams_in_every_coding(
    clickhouse: ClickHouseDatabase, coding: str | bool
) -> None:
    """Rows come in blocks; the whole is never one answer."""
    client = clickhouse.client(compress=coding)
    total = 0
    with client.query_rows_stream("SELECT number, toString(number) FROM numbers(300000)") as rows:
        for row in rows:
            total += row[0]
    client.close()
    assert total == 300_000 * 299_999 // 2


def test_an_error_in_the_middle_of_a_stream_is_an_error(client: Client) -> None:
    """What was begun with status 200 must not look complete."""
    with (
        pytest.raises(StreamFailureError, match="throwIf"),
        client.query_rows_stream(
            "SELECT throwIf(number = 2900000), toString(number) FROM numbers(3000000) "
            "SETTINGS max_block_size = 65536, max_threads = 1"
        ) as rows,
    ):
        for _ in rows:
            pass
    assert client.command("SELECT 1") == 1


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT * FROM no_such_table", 60),
        ("SELECT FROM WHERE", 62),
        ("SELECT no_such_column FROM system.one", 47),
        ("SELECT throwIf(1)", 395),
        ("SET max_threads = 1", 48),
        ("USE system", 48),
    ],
)
def test_errors_carry_the_code_of_the_engine(client: Client, statement: str, code: int) -> None:
    """DatabaseError with ClickHouse's number, by `query` and by `command`."""
    for send in (client.query, client.command):
        with pytest.raises(DatabaseError) as caught:
            send(statement)
        assert caught.value.code == code


def test_an_unknown_database_is_refused(clickhouse: ClickHouseDatabase) -> None:
    """Code 81, at the first request."""
    with pytest.raises(DatabaseError) as caught:
        clickhouse_client(clickhouse.url, "no_such_database")
    assert caught.value.code == 81


def test_an_unknown_setting_is_refused_and_leaves_no_trace(clickhouse: ClickHouseDatabase) -> None:
    """Code 115, also beside settings that are good; the next request has none of them."""
    client = clickhouse.client()
    before = _changed_settings(client)
    for settings in ({"max_threads": "1", "no_such": "1"}, {"max_threads; DROP": "1"}):
        status, code, _ = _post(clickhouse.url, "/?" + _query_text(settings), b"SELECT 1")
        assert (status, code) == (400, "115")
    assert _changed_settings(client) == before
    client.close()


def test_a_setting_lasts_for_one_request(client: Client) -> None:
    """Also when the request that brought it failed."""
    statement = "SELECT toString(getSetting('max_block_size'))"
    usual = client.command(statement)
    assert client.command(statement, settings={"max_block_size": 1234}) == 1234
    with pytest.raises(DatabaseError):
        client.command("SELECT throwIf(1)", settings={"max_block_size": 1234})
    assert client.command(statement) == usual


def test_inserts_are_synchronous_unless_asked_otherwise(client: Client) -> None:
    """The engine's own default would collect them first."""
    assert client.command("SELECT toString(getSetting('async_insert'))") in (0, "0", "false")


def test_data_that_ends_too_early_stores_nothing(client: Client) -> None:
    """A body cut in the middle, plain or compressed, is an error and not a shorter insert."""
    client.command("CREATE TABLE n (a UInt64) ENGINE = MergeTree ORDER BY a")
    native = client.raw_query("SELECT number AS a FROM numbers(1000)", fmt="Native")
    packed = lz4.frame.compress(native)
    for block, coding in ((native[:-3], None), (packed[: len(packed) // 2], "lz4")):
        with pytest.raises(DatabaseError):
            client.raw_insert("n", insert_block=block, fmt="Native", compression=coding)
    assert client.command("SELECT count() FROM n") == 0


def test_one_insert_of_many_blocks_is_one_part(client: Client) -> None:
    """A retry must cut the same blocks, so a request is one block however it arrived."""
    client.command("CREATE TABLE parts (a UInt64) ENGINE = MergeTree ORDER BY a")
    native = client.raw_query("SELECT number AS a FROM numbers(1000)", fmt="Native")
    client.raw_insert("parts", insert_block=iter([native] * 50), fmt="Native")
    parts = client.query(
        "SELECT rows FROM system.parts "
        "WHERE database = currentDatabase() AND table = 'parts' AND level = 0"
    ).result_rows
    assert parts == [(50_000,)]


def test_an_insert_reports_what_it_wrote(client: Client) -> None:
    """The summary that clickhouse-connect returns."""
    client.command("CREATE TABLE s (a UInt64) ENGINE = MergeTree ORDER BY a")
    assert client.insert("s", [[1], [2], [3]], column_names=["a"]).written_rows == 3


def test_ping_answers_and_other_paths_do_not(clickhouse: ClickHouseDatabase) -> None:
    """Readiness is /ping."""
    client = clickhouse.client()
    assert client.ping()
    client.close()
    assert _post(clickhouse.url, "/play", b"")[0] == 404


def test_a_foreign_host_name_is_refused(clickhouse: ClickHouseDatabase) -> None:
    """A page whose name was pointed at loopback cannot read the ledger."""
    status, _, body = _post(clickhouse.url, "/", b"SELECT 1", host="rebound.example")
    assert status == 403
    assert b"rebound.example" in body


def test_a_body_past_its_limit_is_refused(clickhouse: ClickHouseDatabase) -> None:
    """Also one that grows past it only when unpacked."""
    bomb = lz4.frame.compress(b"INSERT INTO bodies FORMAT Native\n" + bytes(300 << 20))
    status, _, body = _post(clickhouse.url, "/", bomb, headers="Content-Encoding: lz4\r\n")
    assert status == 413
    assert b"268435456" in body


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_answered_or_cut_and_harms_nobody(
    clickhouse: ClickHouseDatabase, seed: int
) -> None:
    """Random bytes on the port, then a question that must still be answered."""
    chance = random.Random(seed)
    parts = urlsplit(clickhouse.url)
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=60) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\n" * (seed % 2) + chance.randbytes(2000) + b"\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
    client = clickhouse.client()
    assert client.command("SELECT 1") == 1
    client.close()


def _changed_settings(client: Client) -> list[tuple[object, ...]]:
    found = client.query("SELECT name, value FROM system.settings WHERE changed ORDER BY name")
    return [tuple(row) for row in found.result_rows]


def _query_text(parameters: dict[str, str]) -> str:
    from urllib.parse import urlencode

    return urlencode(parameters)


def _post(
    url: str, target: str, body: bytes, *, host: str = "127.0.0.1", headers: str = ""
) -> tuple[int, str | None, bytes]:
    import http.client

    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    sent = dict([line.split(": ", 1) for line in headers.split("\r\n") if line])
    connection.putrequest("POST", target, skip_host=True)
    for name, value in {"Host": host, "Content-Length": str(len(body)), **sent}.items():
        connection.putheader(name, value)
    connection.endheaders()
    try:
        connection.send(body)
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused before it was all sent; the answer is there
    answer = connection.getresponse()
    found = (answer.status, answer.getheader("X-ClickHouse-Exception-Code"), answer.read())
    connection.close()
    return found


def test_clients_can_be_made_from_an_address(clickhouse_process: RunningServer) -> None:
    """The same address a real server would have."""
    client = clickhouse_connect.get_client(dsn=clickhouse_process.url + "/default")
    assert client.command("SELECT 1") == 1
    client.close()
