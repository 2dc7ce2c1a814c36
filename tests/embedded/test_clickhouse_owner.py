"""What the books need of the owner process: tokens, deadlines, kills, many clients at once."""

import ctypes
import datetime as dt
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError
from support.servers import RunningServer, free_port
from support.stores import ClickHouseDatabase, migrated

_CHECK_VIOLATED = 469


@pytest.fixture
def client(clickhouse: ClickHouseDatabase) -> Iterator[Client]:
    """A client on the test's database."""
    client = clickhouse.client()
    yield client
    client.close()


def _entries(client: Client, rows: int, *, insert_by_s: int = 600) -> bytes:
    """Native bytes of new entries, made by the engine itself; `insert_by_s` from now."""
    return client.raw_query(
        "SELECT generateUUIDv7() AS entry_id, generateUUIDv7() AS event_id, "
        "CAST('charge' AS Enum8('charge' = 1, 'reversal' = 2, 'replacement' = 3)) AS kind, "
        "toInt8(1) AS requests, now64(3, 'UTC') + {late:Int32} AS insert_by, "
        "now64(3, 'UTC') AS occurred_at, toString(number % 7) AS key_id, "
        "CAST('reported' AS Enum8('none' = 0, 'estimated' = 1, 'counted' = 2, 'reported' = 3)) "
        "AS evidence, CAST('rated' AS Enum8('rated' = 1, 'unpriced' = 2, 'unknown' = 3, "
        "'not_billable' = 4)) AS rating_status FROM numbers({rows:UInt32})",
        parameters={"rows": rows, "late": insert_by_s},
        fmt="Native",
    )


_COLUMNS = [
    "entry_id", "event_id", "kind", "requests", "insert_by", "occurred_at", "key_id", "evidence",
    "rating_status",
]  # fmt: skip


def _insert(client: Client, native: bytes, token: str | None) -> None:
    # A generator body, which clickhouse-connect does not repeat by itself.
    client.raw_insert(
        "entries",
        column_names=_COLUMNS,
        insert_block=iter([native]),
        fmt="Native",
        settings={} if token is None else {"insert_deduplication_token": token},
    )


def _count(client: Client) -> int:
    count = client.command("SELECT count() FROM entries")
    assert isinstance(count, int)
    return count


def test_a_token_counts_once(client: Client) -> None:
    """Three sends of one batch are one batch, in the table and in its projection."""
    native = _entries(client, 500)
    for _ in range(3):
        _insert(client, native, "a:1")
    assert _count(client) == 500
    assert client.command("SELECT sum(requests) FROM entries") == 500
    by_key = client.query(
        "SELECT sum(requests) FROM entries GROUP BY toStartOfHour(occurred_at), key_id "
        "SETTINGS force_optimize_projection = 1"
    ).result_rows
    assert sum(row[0] for row in by_key) == 500


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO entries (entry_id) SELECT generateUUIDv7()",
        "INSERT INTO entries (entry_id) VALUES (generateUUIDv7())",
    ],
)
def test_an_insert_into_the_ledger_needs_a_token(client: Client, statement: str) -> None:
    """A forgotten token would make every retry a second charge."""
    with pytest.raises(DatabaseError, match="insert_deduplication_token") as caught:
        client.command(statement)
    assert caught.value.code == 36
    with pytest.raises(DatabaseError, match="insert_deduplication_token"):
        _insert(client, _entries(client, 1), None)
    assert _count(client) == 0


def test_bodies_need_no_token(client: Client) -> None:
    """They are replaced, not added up."""
    now = dt.datetime.now(dt.UTC)
    client.insert("bodies", [[uuid.UUID(int=1), now]], column_names=["event_id", "occurred_at"])
    assert client.command("SELECT count() FROM bodies") == 1


def test_an_insert_past_its_deadline_is_refused_whole(client: Client) -> None:
    """Code 469, nothing stored, and the same token may be used by nobody's ghost."""
    late = _entries(client, 10, insert_by_s=-1)
    mixed = _entries(client, 10) + late
    for native in (late, mixed):
        with pytest.raises(DatabaseError) as caught:
            _insert(client, native, "late:1")
        assert caught.value.code == _CHECK_VIOLATED
    assert _count(client) == 0


def test_a_failed_insert_leaves_no_token_behind(client: Client) -> None:
    """Inserts on the same connection after a failure are all stored."""
    with pytest.raises(DatabaseError):
        _insert(client, _entries(client, 5, insert_by_s=-1), "dead:1")
    client.command("CREATE TABLE plain (a UInt8) ENGINE = MergeTree ORDER BY a "
                   "SETTINGS non_replicated_deduplication_window = 100")  # fmt: skip
    for number in range(3):
        client.insert(
            "plain",
            [[1]],
            column_names=["a"],
            settings={"insert_deduplication_token": f"alive:{number}"},
        )
    assert client.command("SELECT count() FROM plain") == 3
    client.command("CREATE TABLE open (a UInt8) ENGINE = MergeTree ORDER BY a")
    for _ in range(3):
        client.insert("open", [[1]], column_names=["a"])
    assert client.command("SELECT count() FROM open") == 3


def test_acknowledged_batches_survive_kills_in_the_middle_of_inserts(
    clickhouse_server: RunningServer,
) -> None:
    """Every acknowledged batch is there whole; an unacknowledged one is whole or absent."""
    database = migrated(clickhouse_server.url, "tollway")
    acknowledged: set[str] = set()
    sent = 0
    for delay_s in (0.03, 0.06, 0.11):
        client = database.client(send_receive_timeout=60)
        natives = [(_entries(client, 200), str(uuid.UUID(int=sent + n))) for n in range(40)]
        sent += len(natives)
        killer = threading.Timer(delay_s, clickhouse_server.kill)
        killer.start()
        try:
            for native, batch_id in natives:
                client.raw_insert(
                    "entries",
                    column_names=_COLUMNS,
                    insert_block=iter([native]),
                    fmt="Native",
                    settings={"insert_deduplication_token": batch_id},
                )
                acknowledged.add(batch_id)
        except ClickHouseError:
            pass
        killer.join()
        client.close()
        clickhouse_server.start()
    client = database.client()
    count = _count(client)
    assert count % 200 == 0
    assert len(acknowledged) * 200 <= count <= (len(acknowledged) + 3) * 200
    assert client.command("SELECT uniqExact(entry_id) FROM entries") == count
    client.close()
    assert list((clickhouse_server.plan.cwd / "spool").iterdir()) == []


def test_writers_and_readers_do_not_wait_for_each_other_for_ever(
    clickhouse: ClickHouseDatabase,
) -> None:
    """Four writers, three readers: every batch counts once, every read is a whole batch."""
    failures: list[BaseException] = []
    writing = threading.Event()
    writing.set()

    def write(writer: int) -> None:
        client = clickhouse.client()
        try:
            for number in range(10):
                _insert(client, _entries(client, 100), f"{writer}:{number}")
        except BaseException as error:
            failures.append(error)
        finally:
            client.close()

    def read() -> None:
        client = clickhouse.client()
        try:
            while writing.is_set():
                assert _count(client) % 100 == 0
        except BaseException as error:
            failures.append(error)
        finally:
            client.close()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in writers + readers:
        thread.start()
    for thread in writers:
        thread.join()
    writing.clear()
    for thread in readers:
        thread.join()
    assert failures == []
    client = clickhouse.client()
    assert _count(client) == 4_000
    client.close()


def test_clients_who_leave_in_the_middle_cost_nothing(clickhouse: ClickHouseDatabase) -> None:
    """More of them than there are sessions, while as many others ask at once."""
    parts = urlsplit(clickhouse.url)
    question = b"SELECT number FROM numbers(1000000000) FORMAT Native"
    for _ in range(20):
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60) as sock:
            sock.sendall(
                b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b"
                % (len(question), question)
            )
            assert sock.recv(12) == b"HTTP/1.1 200"
    answers: list[object] = []

    def ask() -> None:
        client = clickhouse.client()
        answers.append(client.command("SELECT 1"))
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [1] * 20


def test_a_second_owner_is_told_so(clickhouse_server: RunningServer) -> None:
    """Exit code 3 and the directory's name; the first owner goes on."""
    second = subprocess.run(
        [
            sys.executable, "-m", "infra.embedded.clickhouse_server",
            "--path", str(clickhouse_server.plan.cwd), "--port", str(free_port()),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )  # fmt: skip
    assert second.returncode == 3
    assert f"another process owns {clickhouse_server.plan.cwd}" in second.stderr
    client = migrated(clickhouse_server.url, "tollway").client()
    assert client.command("SELECT 1") == 1
    client.close()


def test_a_directory_that_does_not_open_is_named(tmp_path: Path) -> None:
    """Exit code 4, which is not the second owner's 3."""
    (tmp_path / "store").write_text("no directory")
    owner = subprocess.run(
        [
            sys.executable, "-m", "infra.embedded.clickhouse_server",
            "--path", str(tmp_path), "--port", str(free_port()),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )  # fmt: skip
    assert owner.returncode == 4
    assert f"cannot open {tmp_path}" in owner.stderr


def test_asked_to_stop_it_finishes_what_runs(clickhouse_server: RunningServer) -> None:
    """SIGTERM in the middle of an insert: the insert is acknowledged, and it is there."""
    database = migrated(clickhouse_server.url, "tollway")
    client = database.client()
    watcher = database.client()
    outcome: list[BaseException | None] = []

    def slow(rows: int) -> None:
        try:
            client.command(
                "INSERT INTO bodies (event_id, occurred_at, request) SELECT generateUUIDv7(), now(), "
                f"toString(sleepEachRow(0.1)) FROM numbers({rows}) SETTINGS max_block_size = 1"
            )
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    threads: list[threading.Thread] = []
    total = 0
    while watcher.command("SELECT count() FROM system.processes WHERE query LIKE 'INSERT%'") == 0:
        # One that ended before we looked was not in the middle: the next takes twice as long.
        if len(threads) == len(outcome):
            rows = 8 << len(threads)
            total += rows
            threads.append(threading.Thread(target=slow, args=(rows,)))
            threads[-1].start()
        time.sleep(0.01)
    watcher.close()
    assert clickhouse_server.stop() == 0
    for thread in threads:
        thread.join()
    client.close()
    assert outcome == [None] * len(threads)
    clickhouse_server.start()
    client = database.client()
    assert client.command("SELECT count() FROM bodies") == total
    client.close()


def test_it_stops_whichever_of_its_threads_is_told(clickhouse_server: RunningServer) -> None:
    """A signal may come in beside the main thread, which then waits on for clients undisturbed."""
    pid = clickhouse_server.pid
    others = [
        int(each.name) for each in Path(f"/proc/{pid}/task").iterdir() if each.name != str(pid)
    ]
    # One that is about to end may take its signal with it.
    told = [ctypes.CDLL(None).tgkill(pid, other, signal.SIGTERM) for other in others]
    assert 0 in told
    assert clickhouse_server.ended() == 0


def test_the_engine_keeps_to_the_limits_it_was_given(clickhouse_server: RunningServer) -> None:
    """By default it would take nine tenths of the machine's memory."""
    client = migrated(clickhouse_server.url, "tollway").client()
    limit = client.command(
        "SELECT value FROM system.server_settings WHERE name = 'max_server_memory_usage'"
    )
    assert limit == 4 << 30
    broken = client.command(
        "SELECT value FROM system.merge_tree_settings WHERE name = 'max_suspicious_broken_parts'"
    )
    assert broken == 1_000_000
    engine = client.command("SELECT engine FROM system.databases WHERE name = 'tollway'")
    assert engine == "Atomic"
    client.close()


def test_rows_are_partitioned_by_the_month_of_the_event(client: Client) -> None:
    """Nothing of the time of booking decides where a row lies."""
    assert client.command(
        "SELECT partition_key FROM system.tables "
        "WHERE database = currentDatabase() AND name = 'entries'"
    ) == "toYYYYMM(occurred_at)"  # fmt: skip


def test_the_clock_of_the_engine_is_utc(client: Client) -> None:
    """Deadlines are compared with it."""
    assert client.command("SELECT timezone()") == "UTC"
    now = client.query("SELECT now64(3, 'UTC')").result_rows[0][0]
    assert abs(now.replace(tzinfo=dt.UTC) - dt.datetime.now(dt.UTC)) < (dt.timedelta(minutes=1))


def test_a_directory_below_a_closed_one_will_do(tmp_path: Path) -> None:
    """Names with spaces and quotes too: nothing of the path is ever parsed."""
    from infra.embedded.clickhouse import CLICKHOUSE

    server = RunningServer(CLICKHOUSE, _made(tmp_path / "it's a {dir}?config-file=x&%41"))
    server.start()
    client = migrated(server.url, "tollway").client()
    _insert(client, _entries(client, 3), "x")
    assert _count(client) == 3
    client.close()
    server.kill()


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
