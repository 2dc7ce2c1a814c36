"""Trace files and the player: every row once, an account that is right whatever happens."""

import asyncio
import json
from pathlib import Path

import pytest
from support.demo_provider import running_demo_provider

from infra.cli.problems import Problem
from infra.cli.reports import Totals
from infra.cli.trace.command import gained, show
from infra.cli.trace.player import Plan, Player
from infra.cli.trace.rows import Row, merged, model_for, read_rows

DATA = Path(__file__).parent.parent / "data"
CONV = DATA / "azure_llm_trace_2023_conv_sample.csv"
CODE = DATA / "azure_llm_trace_2023_code_sample.csv"


def both(limit: int | None = None) -> list[Row]:
    return merged([read_rows(path, model_for(path, None)) for path in (CONV, CODE)], limit)


def plan(url: str, **fields: object) -> Plan:
    given = {"key": "any", "concurrency": 8, "speed": None, "run": "unit", **fields}
    return Plan(url=url, **given)


def test_files_name_their_models_and_merge_by_time():
    """conv is gpt-4o, code gpt-4o-mini, and the hour is replayed in its order."""
    rows = both()

    assert {(row.file, row.model) for row in rows} == {
        (CONV.name, "gpt-4o"),
        (CODE.name, "gpt-4o-mini"),
    }
    assert [row.at_s for row in rows] == sorted(row.at_s for row in rows)
    assert len(rows) == 500
    assert len(both(limit=7)) == 7


def test_a_file_of_another_name_needs_a_model(tmp_path):
    """Guessing a model would guess a price."""
    file = tmp_path / "mine.csv"
    file.touch()
    assert model_for(file, "gpt-4.1") == "gpt-4.1"
    with pytest.raises(Problem, match="--model"):
        model_for(file, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n", "first line"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n", "line 2"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,1\n", "line 2"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,-1,2\n", "line 2"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, text, said):
    """Nothing is skipped in silence."""
    path = tmp_path / "conv.csv"
    path.write_text(text)
    with pytest.raises(Problem, match=said):
        list(read_rows(path, "m"))


async def test_every_row_is_played_once_and_the_account_is_the_provider_s_own(tmp_path):
    """The player's totals, the file's and the provider's record are the same numbers."""
    rows = both()
    with running_demo_provider() as url:
        player = Player(plan(url), rows)
        await player.play()
        _, totals = await get(url, "/demo/record")
        _, lines = await get(url, "/demo/record/rows")
    summary = player.account.summary(1.0)

    asked = (sum(row.prompt_tokens for row in rows), sum(row.completion_tokens for row in rows))
    told = json.loads(totals)
    assert (summary["requests"], summary["succeeded"], summary["failed"]) == (500, 500, 0)
    assert (summary["prompt_tokens"], summary["completion_tokens"]) == asked
    assert (told["prompt_tokens"], told["completion_tokens"], told["requests"]) == (*asked, 500)
    custom_ids = [json.loads(line)["custom_id"] for line in lines.splitlines()]
    assert sorted(custom_ids) == sorted(f"unit/{row.file}/{row.number}" for row in rows)


async def test_a_paced_replay_takes_the_time_of_the_trace_divided_by_the_speed():
    """Requests leave in order, none before it is due."""
    rows = both(limit=20)
    span_s = rows[-1].at_s - rows[0].at_s
    with running_demo_provider() as url:
        player = Player(plan(url, speed=span_s / 0.2), rows)
        began = asyncio.get_running_loop().time()
        await player.play()
        took_s = asyncio.get_running_loop().time() - began

    assert took_s >= 0.2
    assert player.account.succeeded == 20


def totals(requests: int, cost: float, without_price: int) -> Totals:
    return Totals(
        requests=requests,
        succeeded=requests,
        prompt_tokens=requests,
        completion_tokens=requests,
        cost_in_usd=cost,
        without_price=without_price,
    )


@pytest.mark.parametrize(
    ("after", "cost", "without_price"),
    [
        (totals(5, 1.0, 5), None, 3),
        (totals(5, 1.5, 4), 0.5, 2),
        (totals(5, 1.0, 2), 0.0, 0),
        (totals(2, 1.0, 2), 0.0, 0),
    ],
    ids=["no price at all", "some", "free", "nothing played"],
)
def test_requests_without_a_price_are_counted_and_cost_nothing_that_is_known(
    capsys, after, cost, without_price
):
    """A model that nobody prices is not a model that is free."""
    ledger = gained(totals(2, 1.0, 2), after)
    summary = Player(plan("http://127.0.0.1:1"), []).account.summary(1.0) | {
        "latency_ms_median": None,
        "ledger": ledger,
    }
    show(summary, books_agree=True)
    said = capsys.readouterr().out

    assert (ledger["cost_in_usd"], ledger["without_price"]) == (cost, without_price)
    assert (f"{without_price} requests have no price" in said) is (without_price > 0)
    assert ("0.000000" in said) is (cost == 0)


async def get(url: str, path: str) -> tuple[bytes, bytes]:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nhost: d\r\nconnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head, body


class Scripted(asyncio.Protocol):
    """Gives every connection one answer to its first bytes, then hangs up."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.answer)
        self.transport.close()


async def scripted(answer: bytes) -> tuple[asyncio.Server, str]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Scripted(answer), "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            b"HTTP/1.1 500 No\r\nconnection: close\r\ncontent-length: 4\r\n\r\nnope",
            "status 500: nope",
        ),
        (
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
            "an answer without usage",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}", "connection closed"),
        (b"nonsense\r\n\r\n", "malformed answer"),
        (b"", "connection closed"),
    ],
    ids=["status", "no usage", "cut", "malformed", "nothing"],
)
async def test_failures_are_counted_by_reason_and_the_replay_ends(answer, reason):
    """A row that was not answered as asked is a failure, once, with its reason."""
    server, url = await scripted(answer)
    player = Player(plan(url), both(limit=30))
    try:
        await player.play()
    finally:
        server.close()
        await asyncio.sleep(0.05)
    summary = player.account.summary(1.0)

    assert (summary["requests"], summary["failed"], summary["succeeded"]) == (30, 30, 0)
    assert all(said.startswith(reason) for said in summary["failures"])
