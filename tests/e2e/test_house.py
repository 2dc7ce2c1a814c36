"""The whole house, used the way a newcomer uses it."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import httpx
import openai
import pytest
from support import loopback
from support.servers import free_port

from e2e.bad_input import ANTHROPIC_TYPES, ASKED, CASES, PATHS, Case, configure, counts, send
from e2e.conftest import REQUEST_BODY_BYTES_MAX, House
from e2e.waiting import eventually

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
TRACES = {
    "conv": (DATA / "azure_llm_trace_2023_conv_sample.csv", "gpt-4o", ("2.5", "10")),
    "code": (DATA / "azure_llm_trace_2023_code_sample.csv", "gpt-4o-mini", ("0.15", "0.6")),
}


def report(house: House, **changes: object) -> dict[str, object]:
    """One bucket over all time, the extra bucket at the end left out."""
    end = int(time.time()) + 3600
    body = {"start": end - 7200, "end": end, "increment": 7200, **changes}
    answer = loopback.post(f"{house.reporting_url}/api/reporting/events", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal)


def events(house: House, custom_ids: list[str]) -> list[dict[str, object]]:
    """The booked events with these custom ids; none are seen while the ledger comes back."""
    end = int(time.time()) + 3600
    answer = loopback.post(
        f"{house.reporting_url}/api/v2/events",
        json={"start": end - 7200, "end": end, "customIds": custom_ids},
        timeout=60,
    )
    if answer.status_code == 503:
        return []
    assert answer.status_code == 200, answer.text
    return list(json.loads(answer.text, parse_float=Decimal)["events"])


def entry(house: House, custom_id: str, count: int = 1) -> list[dict[str, object]]:
    """The booked events with this custom id, once there are so many."""

    def found() -> list[dict[str, object]] | None:
        booked = events(house, [custom_id])
        return booked if len(booked) >= count else None

    return eventually(found)  # type: ignore[return-value]


def readme_commands(pattern: str) -> list[str]:
    """The shell blocks of the README that contain `pattern`."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [block for block in blocks if pattern in block]


def test_a_trace_is_billed_to_the_last_pico_dollar(house: House):
    """500 rows of production traffic: counts, tokens and cost are exactly the trace's."""
    done = house.run("trace", "replay", *(str(path) for path, _, _ in TRACES.values()))

    assert done.returncode == 0, done.stdout + done.stderr
    want: dict[str, tuple[int, int, int, Decimal]] = {}
    for path, model, (price_in, price_out) in TRACES.values():
        with path.open() as file:
            rows = list(csv.DictReader(file))
        prompt = sum(int(row["ContextTokens"]) for row in rows)
        completion = sum(int(row["GeneratedTokens"]) for row in rows)
        cost = prompt * Decimal(price_in) / 10**6 + completion * Decimal(price_out) / 10**6
        want[model] = (len(rows), prompt, completion, cost)

    def got() -> dict[str, tuple[int, int, int, Decimal]]:
        points = report(house, filters=["model"])["dataPoints"]
        return {
            point["model"]: (
                point["numberOfRequests"],
                point["promptTokenCount"],
                point["completionTokenCount"],
                Decimal(point["costInUsd"]),
            )
            for point in points
            if point["model"]
        }

    eventually(lambda: sum(numbers[0] for numbers in got().values()) == 500)
    assert got() == want
    assert all(
        point["successCount"] == point["numberOfRequests"] for point in report(house)["dataPoints"]
    )


def run_block(house: House, block: str) -> dict[str, object]:
    """A shell block of the README on this house; the JSON that it prints."""
    for port, url in (
        ("8001", house.admin_url),
        ("8002", house.proxy_url),
        ("8003", house.reporting_url),
    ):
        block = block.replace(f"http://127.0.0.1:{port}", url)
    block = block.replace("export TOLLWAY_KEY=tollway-demo-...\n", "")
    done = subprocess.run(
        ["bash", "-ec", block],
        env={**os.environ, "TOLLWAY_KEY": house.demo_key},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return dict(json.loads(done.stdout))


def test_the_readme_s_commands_work(house: House):
    """Every command that the README gives for a running house."""
    asks, setting_and_key = [], []
    for block in readme_commands("curl "):
        (setting_and_key if "-X PUT" in block else asks).append(block)
    completion, events = asks
    assert run_block(house, completion)["choices"]
    eventually(lambda: run_block(house, events)["events"])
    ((setting, key),) = (block.split("\ncurl ") for block in setting_and_key)
    setting_id = str(run_block(house, setting)["id"])
    made = run_block(house, "curl " + key.replace("ID-FROM-THE-FIRST-ANSWER", setting_id))

    assert made["settingIds"] == [setting_id]
    (demo,) = readme_commands("tollway demo")
    done = house.run(*shlex.split(demo)[1:])
    assert done.returncode == 0, done.stderr
    assert "USD" in done.stdout


def test_streams_of_the_openai_client_are_billed(house: House):
    """The printed snippet's client, streamed; usage comes from the provider though not asked."""
    client = openai.OpenAI(api_key=house.demo_key, base_url=f"{house.proxy_url}/v1")
    with client:
        stream = client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            extra_headers={
                "x-custom-event-id": "streamed",
                "x-demo-usage": "prompt=1000,completion=100",
            },
        )
        chunks = list(stream)

    assert all(chunk.usage is None for chunk in chunks)
    (event,) = entry(house, "streamed")
    assert (event["prompt_token_count"], event["completion_token_count"]) == (1000, 100)
    assert event["cost_in_usd"] == Decimal("0.0035")


def test_a_stream_without_usage_is_counted(house: House):
    """Where the provider reports nothing, we count what went by."""
    answer = house.chat("counted", stream=True, headers={"x-demo-no-usage": "1"})

    assert answer.status_code == 200
    (event,) = entry(house, "counted")
    assert event["prompt_token_count"] > 0
    assert event["completion_token_count"] > 0


def test_an_unknown_model_is_unpriced_and_a_cost_map_prices_it(house: House):
    """NULL is not zero: the report counts it apart; a costMap overrides the book."""
    unpriced = house.chat("unpriced", model="nobody-knows-it")
    setting = loopback.put(
        f"{house.admin_url}/api/provider-settings",
        json={
            "provider": "openai",
            "setting": {"apikey": "k", "url": demo_upstream_url(house)},
            "costMap": {
                "promptCostPerModel": {"nobody-knows-it": 0.1},
                "completionCostPerModel": {"nobody-knows-it": 0.2},
            },
        },
    ).json()
    key = loopback.put(
        f"{house.admin_url}/api/key-management/keys",
        json={"name": "mapped", "key": "sk-mapped", "settingIds": [setting["id"]]},
    ).json()

    def priced() -> bool:
        answer = house.chat(
            "priced",
            model="nobody-knows-it",
            headers={"authorization": "Bearer sk-mapped", "x-demo-usage": "prompt=3,completion=2"},
        )
        return answer.status_code == 200

    assert unpriced.status_code == 200
    eventually(priced)
    (event,) = entry(house, "priced")
    assert event["cost_in_usd"] == Decimal("0.0007")
    assert event["key_id"] == key["keyId"]
    entry(house, "unpriced")
    (point, *_) = [
        point
        for point in report(house, customIds=["unpriced"])["dataPoints"]
        if point["numberOfRequests"]
    ]
    assert point["unpricedRequests"] == 1


def demo_upstream_url(house: House) -> str:
    """Where the demo provider listens."""
    (process,) = [one for one in house.processes() if one["name"] == "demo-upstream"]
    return f"http://127.0.0.1:{process['port']}"


@dataclass(frozen=True)
class Sent:
    """All cases of bad input, asked once: answers and rows by custom id, what was counted."""

    key_ids: dict[str, str]
    answers: dict[str, httpx.Response]
    rows: dict[str, list[dict[str, object]]]
    counted: Counter[str]


def counted(house: House) -> Counter[str]:
    """What the gateway has counted by now."""
    now_s = time.time()
    return eventually(lambda: counts(house, now_s))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def sent(house: House) -> Sent:
    """Everything that is to be in the books is there."""
    key_ids = configure(house, demo_upstream_url(house), f"http://127.0.0.1:{free_port()}")
    good = Case("good", 200, "")
    eventually(lambda: send(house, good, "openai", "ready").status_code == 200)
    before = counted(house)
    answers = {
        f"{case.name}-{dialect}": send(house, case, dialect, f"{case.name}-{dialect}")
        for case in CASES
        for dialect in PATHS
    }
    after = counted(house)
    after.subtract(before)
    booked = sum(bool(case.rating) for case in CASES) * len(PATHS)
    rows: dict[str, list[dict[str, object]]] = {}

    def are_booked() -> bool:
        rows.clear()
        for row in events(house, list(answers)):
            rows.setdefault(str(row["custom_id"]), []).append(row)
        return sum(map(len, rows.values())) >= booked

    eventually(are_booked)
    return Sent(key_ids, answers, rows, after)


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_gets_the_dialect_s_error_and_the_right_entry_or_none(
    sent: Sent, case: Case, dialect: str
):
    """Status, error object, and one row that says who asked what of whom, and owes nothing."""
    custom_id = f"{case.name}-{dialect}"
    answer = sent.answers[custom_id]
    shown = answer.json()
    error = shown.pop("error")
    assert answer.status_code == case.status
    assert error.pop("message")
    request_id = answer.headers["x-request-id"]
    if dialect == "anthropic":
        assert error == {"type": ANTHROPIC_TYPES[case.status]}
        assert shown == {"type": "error", "request_id": request_id}
        assert answer.headers["request-id"] == request_id
    else:
        assert error == {"type": case.type, "code": case.code, "param": case.param}
        assert shown == {}
    rows = sent.rows.get(custom_id, [])
    if not case.rating:
        assert rows == []
        return
    (row,) = rows
    wanted = {
        "id": request_id,
        "status": case.status,
        "key_id": sent.key_ids[case.key],
        "method": "POST",
        "path": case.path_in(dialect),
        "provider": dialect if case.is_sent else "",
        "rating_status": case.rating,
        "cost_in_usd": 0,
        "prompt_token_count": 0,
        "completion_token_count": 0,
    }
    assert {name: row[name] for name in wanted} == wanted


def test_bad_input_is_counted(sent: Sent):
    """Each request once, under what became of it, and under nothing else."""
    wanted = Counter(requests=len(sent.answers))
    for case in CASES:
        wanted.update({name: count * len(PATHS) for name, count in case.counts.items()})

    assert +sent.counted == wanted


def test_a_body_of_the_limit_is_served(house: House, sent: Sent):
    """`REQUEST_BODY_BYTES_MAX` bytes, and not one more."""
    body = json.dumps(ASKED["openai"]).encode().ljust(REQUEST_BODY_BYTES_MAX)
    assert send(house, Case("", 200, "", body=body), "openai", "whole").status_code == 200
    over = Case("", 413, "", body=body + b" ")
    assert send(house, over, "openai", "over").status_code == 413


@pytest.mark.parametrize("name", ["gateway-worker-1", "metering-1", "nats", "clickhouse"])
def test_a_killed_process_comes_back_and_nothing_is_lost(house: House, name: str):
    """kill -9, restarted, counted; what was asked before and after is booked once."""
    before = f"before-{name}"
    asked: list[str] = []
    house.chat(before)
    (victim,) = [one for one in house.processes() if one["name"] == name]
    os.kill(int(str(victim["pid"])), signal.SIGKILL)

    def answers() -> bool:
        # Each under a name of its own: one that got no answer may be in the books as well.
        asked.append(f"after-{name}-{len(asked)}")
        try:
            return house.chat(asked[-1]).status_code == 200
        except httpx.TransportError:
            return False

    eventually(answers)

    def is_back() -> bool:
        (now,) = [one for one in house.processes() if one["name"] == name]
        return now["state"] == "ready" and now["restarts"] == victim["restarts"] + 1

    eventually(is_back)
    assert len(entry(house, before)) == 1
    assert len(entry(house, asked[-1])) == 1


def test_the_audit_agrees(house: House):
    """Journal, stream, ledger and aggregates say the same."""
    house.chat("audited")
    entry(house, "audited")

    def clean() -> bool:
        done = house.run("audit", "--json")
        return done.returncode == 0 and bool(json.loads(done.stdout))

    eventually(clean)
