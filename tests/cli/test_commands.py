"""The command line as a user meets it: help, shapes of JSON, problems in words."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.servers import free_port

from infra.cli import COMMANDS, main
from infra.cli.server_checks import clock_off
from infra.embedded.instance import Addresses, make_data_dir, write_addresses

PROGRAM = (sys.executable, "-c", "from infra.cli import main; main()")


def tollway(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "COLUMNS": "100", **environ},
    )


def command_line(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    code = caught.value.code
    return (code if isinstance(code, int) else 0), capsys.readouterr().out


@pytest.mark.parametrize("words", [command.name.split() for command in COMMANDS], ids=" ".join)
def test_every_command_has_help_with_an_example_and_takes_a_data_directory(capsys, words):
    """--help ends with 0, shows an example, and names --data-dir."""
    code, text = command_line(capsys, *words, "--help")

    assert code == 0
    assert "Example:  " in text
    assert "tollway" in text.split("Example:  ")[1]
    assert "--data-dir" in text


def test_help_imports_no_client_library():
    """The list of commands comes without what a command would need."""
    code = (
        "import sys; from infra.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'httpx','nats','asyncpg','clickhouse_connect','redis','psutil','uvloop'}\n"
        "sys.exit(' '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_status_of_nothing_is_an_empty_list_and_exit_status_3(tmp_path):
    """Scripts can tell that nothing runs; people read it."""
    as_json = tollway("status", "--json", "--data-dir", tmp_path)
    for_people = tollway("status", "--data-dir", tmp_path)

    assert (as_json.returncode, json.loads(as_json.stdout)) == (3, {"processes": []})
    assert for_people.returncode == 3
    assert "nothing runs" in for_people.stderr


def test_down_with_nothing_running_is_fine(tmp_path):
    """It is the wished-for state already."""
    assert tollway("down", "--data-dir", tmp_path).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ("up", "--proxy-port", "99999"),
        ("up", "--detach", "--admin-port", "0"),
        ("up", "--reporting-port=-1"),
        ("up", "--workers=-1"),
        ("doctor", "--reporting-port", "65536"),
    ],
    ids=" ".join,
)
def test_a_number_out_of_range_is_one_line_that_names_its_flag(tmp_path, capsys, words):
    """Exit status 2, and nothing is made."""
    data_dir = tmp_path / "new"
    with pytest.raises(SystemExit) as caught:
        main([*words, "--data-dir", str(data_dir)])
    [line] = capsys.readouterr().err.splitlines()

    assert caught.value.code == 2
    assert line.startswith("tollway: ")
    assert words[-1].split("=")[0] in line or words[-2] in line
    assert not data_dir.exists()


@pytest.mark.parametrize("program", ["gateway", "reporting", "infra.migrations"])
def test_a_port_out_of_range_is_a_setting_that_cannot_be_used(program):
    """Every one of them is named at once."""
    names = {
        "gateway": {"PROXY_PORT", "ADMIN_PORT", "POSTGRESQL_PORT", "REDIS_PORT"},
        "reporting": {"REPORTING_PORT"},
        "infra.migrations": {"POSTGRESQL_PORT"},
    }[program]
    done = subprocess.run(
        [sys.executable, "-m", program],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **dict.fromkeys(names, "99999")},
    )

    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == len(names)
    assert all(f"{name}: 99999 is more than 65535" in done.stderr for name in names)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (
            "gateway",
            "POSTGRES_URL NATS_URL REDIS_URL REPORTING_URL ENCRYPTION_ENDPOINT DECRYPTION_ENDPOINT"
            " UPSTREAM_PROXY_URL",
        ),
        ("metering", "NATS_URL CLICKHOUSE_URL"),
        ("metering audit", "NATS_URL CLICKHOUSE_URL"),
        ("reporting", "POSTGRES_URL NATS_URL CLICKHOUSE_URL"),
        ("tollway gateway", "POSTGRES_URL NATS_URL"),
        ("tollway migrate", "POSTGRES_URL NATS_URL CLICKHOUSE_URL"),
        ("tollway resync 3", "NATS_URL CLICKHOUSE_URL"),
        ("tollway import bricksllm --dsn postgres://a/b", "POSTGRES_URL"),
        ("tollway secrets status", "POSTGRES_URL"),
    ],
)
def test_an_address_without_a_usable_port_is_a_setting_that_cannot_be_used(
    tmp_path, command, names
):
    """It ends at once, and names each of them in a line of its own, without its password."""
    module, *rest = command.split()
    done = subprocess.run(
        [*PROGRAM, *rest] if module == "tollway" else [sys.executable, "-m", module, *rest],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={
            **os.environ,
            "DATA_DIR": str(tmp_path),
            **dict.fromkeys(names.split(), "http://me:hush@127.0.0.1:54x2/x"),
        },
    )
    lines = done.stderr.splitlines()

    assert done.returncode != 0
    for name in names.split():
        [line] = [line for line in lines if f"{name}: " in line]
        assert f"{name}: its port is no number from 1 to 65535" in line
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stderr


@pytest.mark.parametrize("detach", [(), ("--detach",)], ids=["", "detach"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("LOG_LEVEL", "loud"),
        ("DRAIN_S", "soon"),
        ("LOG_FILES_MAX", "many"),
        ("NATS_FILE_BYTES_MAX", "1GB"),
    ],
)
def test_a_start_refused_for_a_setting_makes_no_data_directory(
    tmp_path, capsys, monkeypatch, name, text, detach
):
    """It is looked at before anything is made."""
    monkeypatch.setenv(name, text)
    ports = ("--proxy-port", "--admin-port", "--reporting-port")
    words = [word for option in ports for word in (option, str(free_port()))]
    with pytest.raises(SystemExit) as caught:
        main(["up", *detach, *words, "--data-dir", str(tmp_path / "new")])

    assert caught.value.code == 1
    assert f"{name}: " in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("down",),
        ("logs",),
        ("demo",),
        ("audit",),
        ("resync", "3"),
        ("secrets", "status"),
    ],
    ids=" ".join,
)
def test_a_command_that_only_reads_makes_no_data_directory(tmp_path, words):
    """What is asked about stays as it is: not there."""
    data_dir = tmp_path / "none"
    with pytest.raises(SystemExit):
        main([*words, "--data-dir", str(data_dir)])

    assert not data_dir.exists()


def test_a_port_in_use_is_named_with_its_owner_before_anything_starts(tmp_path):
    """No traceback, no directory, exit status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        others = ["--proxy-port", free_port(), "--reporting-port", free_port()]
        done = tollway("up", "--admin-port", port, *others, "--data-dir", tmp_path / "new")

    assert done.returncode == 1
    assert f"port {port} is in use by pid {os.getpid()}" in done.stderr
    assert "--admin-port" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_port_in_use_is_named_on_a_directory_that_is_there_too(tmp_path):
    """There it is looked at once what an earlier start left behind has ended; no server starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        others = ["--admin-port", free_port(), "--reporting-port", free_port()]
        done = tollway("up", "--proxy-port", port, *others, "--data-dir", tmp_path)

    assert done.returncode == 1
    assert f"port {port} is in use by pid {os.getpid()}" in done.stderr
    assert not (tmp_path / "nats").exists()


def test_a_detached_start_that_fails_says_why(tmp_path):
    """The problem comes back to the terminal that asked."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        others = ["--admin-port", free_port(), "--reporting-port", free_port()]
        ports = ["--proxy-port", port, *others]
        new = tollway("up", "--detach", *ports, "--data-dir", tmp_path / "new")
        done = tollway("up", "--detach", *ports, "--data-dir", tmp_path)

    assert done.returncode == 1
    assert f"port {port} is in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert (new.returncode, new.stderr) == (1, done.stderr)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("words", [["demo"], ["trace", "replay"]], ids=" ".join)
def test_commands_that_need_an_instance_say_how_to_start_one(tmp_path, words):
    """Exit status 1 and the command to run."""
    file = tmp_path / "conv.csv"
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    done = tollway(*words, *([file] if "replay" in words else []), "--data-dir", tmp_path)

    assert done.returncode == 1
    assert "tollway up" in done.stderr
    assert "Traceback" not in done.stderr


def test_logs_shows_the_last_lines_and_knows_the_names(tmp_path):
    """One log as it is, all of them with their names before the lines."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "nats.log").write_text("one\ntwo\nthree\n")
    (tmp_path / "logs" / "gateway.log").write_text("four\n")
    one = tollway("logs", "nats", "-n", "2", "--data-dir", tmp_path)
    both = tollway("logs", "--data-dir", tmp_path)
    unknown = tollway("logs", "nothing", "--data-dir", tmp_path)

    assert one.stdout == "two\nthree\n"
    assert both.stdout == "gateway: four\nnats: one\nnats: two\nnats: three\n"
    assert unknown.returncode == 1
    assert "gateway, nats" in unknown.stderr


def test_logs_follows_through_a_rotation(tmp_path):
    """Lines written before and after the file was renamed both come."""
    log = tmp_path / "logs" / "nats.log"
    log.parent.mkdir()
    log.write_text("old\n")
    process = subprocess.Popen(
        [*PROGRAM, "logs", "-f", "nats", "--data-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "old\n"
        with log.open("a") as file:
            file.write("before\n")
        log.rename(log.with_suffix(".log.1"))
        log.write_text("after\n")
        assert process.stdout.readline() == "before\n"
        assert process.stdout.readline() == "after\n"
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "gateway", "--check-config"),
        ("-m", "metering", "--check-config"),
        ("-m", "reporting", "--check-config"),
        (*PROGRAM[1:], "status", "--json"),
        (*PROGRAM[1:], "logs"),
    ],
    ids=lambda words: " ".join(words[-2:]),
)
def test_a_reader_who_has_left_is_no_error(tmp_path, words):
    """As for `| head -1`: not a word about the pipe, and the status of SIGPIPE."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "nats.log").write_text("one\n")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, *words],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "", "DATA_DIR": str(tmp_path)},
    )
    os.close(writing)

    assert (done.returncode, done.stderr) == (141, "")


def test_doctor_names_a_taken_port_and_a_bad_setting(tmp_path):
    """Both at once, each with what to do, exit status 1; it makes no directory."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ("doctor", "--json", "--proxy-port", port, "--data-dir", tmp_path / "none")
        done = tollway(*words, CLIENT_GONE="maybe")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}

    assert done.returncode == 1
    assert checks[f"port {port} (proxy)"]["verdict"] == "bad"
    assert str(os.getpid()) in checks[f"port {port} (proxy)"]["detail"]
    assert checks[f"port {port} (proxy)"]["mend"]
    assert checks["gateway settings"]["verdict"] == "bad"
    assert "CLIENT_GONE" in checks["gateway settings"]["detail"]
    assert checks["data directory"]["verdict"] == "ok"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("clock", "off"), [(98.0, -2.0), (100.0, 0.0), (103.0, 0.0), (105.0, 0.0), (105.5, 0.5)]
)
def test_a_slow_answer_is_no_wrong_clock(clock, off):
    """Asked at 100, answered at 105: the server looked at its clock some time in between."""
    assert clock_off(clock, 100.0, 105.0) == off


def test_doctor_asks_the_servers_the_environment_names(tmp_path, nats_server, redis_server):
    """A server that answers is shown with its version, one that does not with what to try."""
    nobody = free_port()
    done = tollway(
        "doctor",
        "--json",
        "--data-dir",
        tmp_path,
        NATS_URL=nats_server.url,
        REDIS_URL=redis_server.url,
        CLICKHOUSE_URL=f"http://127.0.0.1:{nobody}",
    )
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}

    assert checks["nats"]["verdict"] == "ok"
    assert "version 2." in checks["nats"]["detail"]
    assert checks["redis"]["verdict"] == "ok"
    assert checks["clickhouse"]["verdict"] == "bad"
    assert checks["clickhouse"]["mend"]


def test_doctor_takes_several_servers_and_shows_no_password(tmp_path, nats_server):
    """The first of a list is asked; what stands in a port's place may be a part of a password."""
    done = tollway(
        "doctor",
        "--json",
        "--data-dir",
        tmp_path,
        NATS_URL=f"{nats_server.url},nats://me:hush@127.0.0.1:1",
        POSTGRES_URL="postgresql://me:hush/word@127.0.0.1:5432/tollway",
    )
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}

    assert checks["nats"]["verdict"] == "ok"
    assert checks["postgres"]["verdict"] == "bad"
    assert "port" in checks["postgres"]["detail"]
    assert "hush" not in done.stdout + done.stderr


def test_a_data_directory_that_cannot_be_made_is_a_problem_in_words(tmp_path):
    """A file in its place."""
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    done = tollway("up", "--data-dir", Path(in_the_way) / "below")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "tollway: " in done.stderr


@pytest.mark.parametrize("words", [("migrate",), ("audit",), ("resync", "3")], ids=" ".join)
def test_a_server_that_does_not_answer_is_named_in_words(tmp_path, words):
    """With the setting that names it, instead of a traceback or a wait without end."""
    nobody = free_port()
    done = tollway(
        *words,
        "--data-dir",
        tmp_path,
        POSTGRES_URL=f"postgresql://tollway@127.0.0.1:{nobody}/tollway",
        NATS_URL=f"nats://127.0.0.1:{nobody}",
        NATS_TIMEOUT="500ms",
    )

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert ("POSTGRES_URL" if words == ("migrate",) else "NATS_URL") in done.stderr


def test_an_audit_of_a_stopped_instance_says_that_nothing_runs(tmp_path):
    """The addresses of the last run are of no use to anybody."""
    (tmp_path / "run").mkdir()
    addresses = Addresses(
        data_dir=str(tmp_path),
        proxy_url="",
        admin_url="",
        reporting_url="",
        demo_upstream_url="",
        environment={"NATS_URL": "nats://127.0.0.1:1"},
    )
    write_addresses(tmp_path, addresses)
    done = tollway("audit", "--data-dir", tmp_path)

    assert done.returncode == 2
    assert f"nothing runs on {tmp_path}" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_audit_of_a_place_where_nothing_ever_ran_says_so(tmp_path, capsys):
    """Nobody asked for the servers at default addresses."""
    with pytest.raises(SystemExit) as caught:
        main(["audit", "--data-dir", str(tmp_path / "nowhere")])
    said = capsys.readouterr().err

    assert caught.value.code == 2
    assert f"nothing runs on {tmp_path / 'nowhere'}" in said
    assert "tollway up" in said


def test_a_new_data_directory_is_its_owners_and_an_old_one_stays_as_it_is(tmp_path):
    """Prompts, answers and passwords lie in it."""
    make_data_dir(tmp_path / "above" / "new")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o750)
    make_data_dir(shared)

    assert stat.S_IMODE((tmp_path / "above" / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE(shared.stat().st_mode) == 0o750
