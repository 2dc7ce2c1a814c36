"""Everything up as a new user would have it: the printed words work, nothing outlives the stop."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import openai
import psutil
import pytest
from support import loopback
from support.servers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tollway_up")]

PROGRAM = (sys.executable, "-c", "from infra.cli import main; main()")
DATA = Path(__file__).parent.parent / "data"


class Instance(msgspec.Struct):
    """A running `tollway up --json` and what it printed."""

    process: subprocess.Popen[str]
    data_dir: Path
    ports: tuple[int, ...]
    said: dict

    def tollway(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return tollway(*arguments, "--data-dir", self.data_dir)

    def rows(self) -> dict[str, dict]:
        done = self.tollway("status", "--json")
        return {row["name"]: row for row in json.loads(done.stdout)["processes"]}


def tollway(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=200, check=False
    )


def three_ports() -> tuple[int, ...]:
    """Which nobody else is given, however late they are bound."""
    return tuple(free_port() for _ in range(3))


def up_arguments(data_dir: Path, ports: tuple[int, ...]) -> list[str]:
    names = ("--proxy-port", "--admin-port", "--reporting-port")
    chosen = [str(word) for pair in zip(names, ports, strict=True) for word in pair]
    return ["up", "--json", "--workers", "1", "--data-dir", str(data_dir), *chosen]


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """Whatever names the data directory in its arguments, environment or place."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = [*process.cmdline(), process.environ().get("DATA_DIR", ""), process.cwd()]
            if any(str(data_dir) in word for word in words) and process.pid != os.getpid():
                found.append(process)
    return found


def until(condition: Callable[[], object], seconds: float = 100.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One instance for the module, killed hard if a test left it running."""
    data_dir = tmp_path_factory.mktemp("up")
    ports = three_ports()
    progress = (data_dir / "progress").open("w+")
    process = subprocess.Popen(
        [*PROGRAM, *up_arguments(data_dir, ports)],
        stdout=subprocess.PIPE,
        stderr=progress,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            progress.seek(0)
            pytest.fail(f"tollway up ended: {progress.read()}")
        yield Instance(process, data_dir, ports, json.loads(line))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait(30)
        process.stdout.close()
        progress.close()
        tollway("down", "--data-dir", data_dir)


def test_it_prints_one_json_object_with_what_is_needed(instance):
    """Addresses and the demo key; its file is readable by the owner only."""
    host = "http://127.0.0.1"

    assert instance.said == {
        "data_dir": str(instance.data_dir),
        "proxy_url": f"{host}:{instance.ports[0]}",
        "admin_url": f"{host}:{instance.ports[1]}",
        "reporting_url": f"{host}:{instance.ports[2]}",
        "demo_key": instance.said["demo_key"],
    }
    assert instance.said["demo_key"]
    assert (instance.data_dir / "demo.json").stat().st_mode & 0o077 == 0


def test_status_shows_servers_services_and_workers_ready(instance):
    """Every one with pid, uptime and no restarts."""
    rows = instance.rows()

    assert {"nats", "postgres", "redis", "clickhouse"} <= {
        name for name, row in rows.items() if row["kind"] == "server"
    }
    assert {"gateway", "metering", "reporting", "demo-upstream"} <= {
        name for name, row in rows.items() if row["kind"] == "service"
    }
    assert [name for name, row in rows.items() if row["kind"] == "worker"]
    assert all(row["state"] == "ready" for row in rows.values())
    assert all(row["pid"] and row["uptime_s"] >= 0 and not row["restarts"] for row in rows.values())
    assert set(next(iter(rows.values()))) == {
        "name", "kind", "pid", "port", "state", "uptime_s", "version", "restarts"
    }  # fmt: skip


def test_the_openai_client_talks_through_it(instance):
    """JSON and a stream, with nothing but the printed address and key."""
    ask = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
    with openai.OpenAI(
        base_url=f"{instance.said['proxy_url']}/v1", api_key=instance.said["demo_key"]
    ) as client:
        answer = client.chat.completions.create(**ask)
        with client.chat.completions.create(**ask, stream=True) as stream:
            chunks = list(stream)

    assert answer.usage.completion_tokens == 16
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert streamed == answer.choices[0].message.content


def test_the_demo_shows_the_bill(instance):
    """Five requests, five priced entries: its own, whoever else uses the demo key meanwhile."""
    with ThreadPoolExecutor() as threads:
        demos = [threads.submit(instance.tollway, "demo", "--json") for _ in range(2)]
    for done in (demo.result() for demo in demos):
        assert done.returncode == 0, done.stderr
        events = json.loads(done.stdout)["events"]
        assert [event["prompt_token_count"] for event in events] == [24, 374, 1200, 374, 3180]
        assert all(event["cost_in_usd"] > 0 for event in events)


def test_a_replayed_trace_is_in_the_books_to_the_last_token(instance):
    """500 recorded requests: the player, the provider and the ledger say the same."""
    files = sorted(DATA.glob("azure_llm_trace_2023_*_sample.csv"))
    asked = [line.split(",") for file in files for line in file.read_text().splitlines()[1:]]
    done = instance.tollway("trace", "replay", *files, "--json")
    summary = json.loads(done.stdout)

    assert done.returncode == 0, done.stderr
    assert summary["ledger"]["requests"] == summary["ledger"]["succeeded"] == 500
    assert summary["ledger"]["prompt_tokens"] == sum(int(row[1]) for row in asked)
    assert summary["ledger"]["completion_tokens"] == sum(int(row[2]) for row in asked)
    assert summary["ledger"]["cost_in_usd"] > 0
    assert summary["ledger"]["without_price"] == 0


def test_a_trace_of_a_model_without_a_price_says_so(instance):
    """Played and booked like any other; what it costs, nobody knows."""
    file = DATA / "azure_llm_trace_2023_code_sample.csv"
    words = ("--model", "unknown-model-x", "--limit", 3, "--json")
    done = instance.tollway("trace", "replay", file, *words)
    ledger = json.loads(done.stdout)["ledger"]

    assert done.returncode == 0, done.stderr
    assert (ledger["requests"], ledger["without_price"]) == (3, 3)
    assert ledger["cost_in_usd"] is None


def test_doctor_finds_nothing_wrong(instance):
    """Settings, ports, disk and all four servers."""
    done = instance.tollway("doctor", "--json")
    bad = [c for c in json.loads(done.stdout)["checks"] if c["verdict"] == "bad"]

    assert bad == []
    assert done.returncode == 0


def test_a_second_up_on_the_same_data_is_refused(instance):
    """It names the first one, and the first goes on."""
    done = tollway(*up_arguments(instance.data_dir, three_ports()))

    assert done.returncode == 1
    assert f"pid {instance.process.pid}" in done.stderr
    assert instance.process.poll() is None


def test_a_killed_server_and_a_killed_worker_come_back(instance):
    """kill -9 of each: counted as one restart, ready again, and the next request is answered."""
    before = instance.rows()
    worker = next(name for name in before if name.startswith("gateway-worker"))
    for name in (worker, "redis"):
        os.kill(before[name]["pid"], signal.SIGKILL)

    def are_back() -> bool:
        rows = instance.rows()
        return all(
            rows[name]["state"] == "ready" and rows[name]["restarts"] == 1
            for name in (worker, "redis")
        )

    until(are_back)
    response = loopback.post(
        f"{instance.said['proxy_url']}/v1/chat/completions",
        headers={"authorization": f"Bearer {instance.said['demo_key']}"},
        json={"model": "gpt-4o", "messages": []},
        trust_env=False,
    )
    assert response.status_code == 200


def test_ctrl_c_stops_everything_and_a_second_up_finds_its_data(instance):
    """No process is left, ports are free, and the same key works after a detached start."""
    assert processes_of(instance.data_dir)
    os.killpg(instance.process.pid, signal.SIGINT)
    assert instance.process.wait(120) == 0
    assert [process.cmdline() for process in processes_of(instance.data_dir)] == []
    assert instance.tollway("status").returncode == 3

    again = tollway(*up_arguments(instance.data_dir, instance.ports), "--detach")
    try:
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout) == instance.said
        demo = instance.tollway("demo", "--json")
        assert demo.returncode == 0, demo.stderr
    finally:
        down = instance.tollway("down")
    assert down.returncode == 0
    assert [process.cmdline() for process in processes_of(instance.data_dir)] == []
