"""Three records of the same requests, compared: the client's, the provider's and the ledger's."""

import json
import ssl
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from drill.installation import Installation
from drill.load import Told

_COLUMNS: Final = (
    "custom_id, kind, requests, toString(cost_usd), input_tokens, output_tokens, outcome, "
    "toString(evidence), toString(rating_status), toString(entry_id), toString(event_id), status"
)
_AGGREGATE: Final = (
    "SELECT sum(requests), toString(sum(cost_usd)), sum(input_tokens), sum(output_tokens), "
    "toString(toStartOfHour(occurred_at)) AS hour, key_id FROM entries "
    "GROUP BY hour, key_id ORDER BY hour, key_id"
)
_DEATH_SLACK_S: Final = 0.5
_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Made once and never used: httpx would read every authority's certificate for each question."""


class LedgerRow(msgspec.Struct, frozen=True, array_like=True):
    """One row of the ledger; the cost as decimal text."""

    custom_id: str
    kind: str
    requests: int
    cost_usd: str | None
    input_tokens: int | None
    output_tokens: int | None
    outcome: str
    evidence: str
    rating_status: str
    entry_id: str
    event_id: str
    status: int

    @property
    def picousd(self) -> int | None:
        """The cost as whole pico-dollars."""
        if self.cost_usd is None:
            return None
        whole, _, fraction = self.cost_usd.partition(".")
        picousd = int(whole.lstrip("-")) * 10**12 + int(fraction.ljust(12, "0")[:12])
        return -picousd if whole.startswith("-") else picousd


class Provided(msgspec.Struct, frozen=True):
    """One row of the provider's own record."""

    status: int
    is_complete: bool
    usage: dict[str, int] | None = None


class Verdict(msgspec.Struct):
    """What the comparison found. The lists name requests and say why; empty ones are what we want.

    `lost`: known to have been admitted, and without net effect one. `doubled`: more than one.
    `wrong`: there once, with another amount, other counts or another end than both records say.
    `strange`: in the ledger, and refused or never asked.
    """

    requests: int = 0
    whole: int = 0
    refused: int = 0
    unanswered: int = 0
    booked: int = 0
    entries: int = 0
    corrections: int = 0
    abandoned: int = 0
    unpriced: int = 0
    provider_saw: int = 0
    picousd: int = 0
    lost: list[str] = msgspec.field(default_factory=list)
    doubled: list[str] = msgspec.field(default_factory=list)
    wrong: list[str] = msgspec.field(default_factory=list)
    strange: list[str] = msgspec.field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Nothing lost, doubled, wrong or strange."""
        return not (self.lost or self.doubled or self.wrong or self.strange)

    def row(self) -> dict[str, Any]:
        """Numbers for a table: lists as their lengths."""
        raw: dict[str, Any] = msgspec.to_builtins(self)
        return {name: len(v) if isinstance(v, list) else v for name, v in raw.items()}

    def __str__(self) -> str:
        lines = [" ".join(f"{name}={value}" for name, value in self.row().items())]
        for name in ("lost", "doubled", "wrong", "strange"):
            lines += [f"  {name}: {each}" for each in getattr(self, name)[:10]]
        return "\n".join(lines)


async def select(installation: Installation, statement: str) -> list[list[Any]]:
    """Rows straight from the ledger, past every proxy. Raises httpx.HTTPError, RuntimeError."""
    async with httpx.AsyncClient(timeout=30, trust_env=False, verify=_NO_TLS) as client:
        answer = await client.post(
            installation.clickhouse_url,
            params={"database": "tollway", "default_format": "JSONCompact"},
            content=statement.encode(),
        )
    if answer.status_code != 200 or "x-clickhouse-exception-code" in answer.headers:
        raise RuntimeError(f"the ledger answered {answer.status_code}: {answer.text[:500]}")
    # A statement that is no question has no answer.
    rows: list[list[Any]] = json.loads(answer.text)["data"] if answer.content else []
    return rows


async def ledger_rows(installation: Installation) -> list[LedgerRow]:
    """Every row of the ledger."""
    rows = await select(
        installation,
        f"SELECT {_COLUMNS} FROM entries SETTINGS output_format_json_quote_64bit_integers=0",
    )
    return msgspec.convert(rows, list[LedgerRow], strict=False)


async def provider_rows(installation: Installation) -> dict[int, list[Provided]]:
    """The provider's own record from its file, by what it counted as prompt tokens; errors at 0."""
    async with httpx.AsyncClient(timeout=10, trust_env=False, verify=_NO_TLS) as client:
        # Asking for the totals hands what is buffered to the file.
        await client.get(f"http://127.0.0.1:{installation.upstream_port}/demo/record")
    return read_record(installation.record_file)


def read_record(path: Path) -> dict[int, list[Provided]]:
    """A record file by prompt tokens."""
    decode = msgspec.json.Decoder(Provided).decode
    found: dict[int, list[Provided]] = defaultdict(list)
    if path.exists():
        for line in path.read_bytes().splitlines():
            row = decode(line)
            found[row.usage["prompt"] if row.usage else 0].append(row)
    return found


async def aggregates_differ(installation: Installation) -> bool:
    """Whether the ledger's projection says anything else than its rows."""
    by_projection = await select(installation, f"{_AGGREGATE} SETTINGS optimize_use_projections=1")
    by_rows = await select(installation, f"{_AGGREGATE} SETTINGS optimize_use_projections=0")
    return by_projection != by_rows


async def compare(installation: Installation, told: Iterable[Told]) -> Verdict:
    """The client's record against the provider's and the ledger's. Pure but for the reading."""
    rows = await ledger_rows(installation)
    provided = await provider_rows(installation)
    return judge(list(told), provided, rows, installation.gateway_killed_at, installation.disk_full)


def judge(
    told: list[Told],
    provided: dict[int, list[Provided]],
    rows: list[LedgerRow],
    gateway_killed_at: list[float],
    disk_full: Sequence[tuple[float, float]] = (),
) -> Verdict:
    """Compare the three records. Pure.

    A request under way at a death of the gateway may be `abandoned`; one that ended while the
    journal's disk was full too, if its answer was broken off or taken back.
    """
    verdict = Verdict(
        requests=len(told),
        entries=len(rows),
        provider_saw=sum(map(len, provided.values())),
        picousd=sum(row.picousd or 0 for row in rows),
        corrections=sum(row.kind != "charge" for row in rows),
    )
    by_id: dict[str, list[LedgerRow]] = defaultdict(list)
    for row in rows:
        by_id[row.custom_id].append(row)
    known = {each.custom_id for each in told}
    verdict.strange += [f"{name or 'no custom id'}: never asked" for name in by_id.keys() - known]
    if len({row.entry_id for row in rows}) != len(rows):
        verdict.doubled.append("an entry id occurs twice")
    for each in told:
        verdict.whole += each.is_whole
        verdict.unanswered += each.status is None
        _judge_one(
            verdict,
            each,
            provided.get(each.ask.prompt, []),
            by_id.get(each.custom_id, []),
            gateway_killed_at,
            disk_full,
        )
    return verdict


def _judge_one(
    verdict: Verdict,
    told: Told,
    provided: list[Provided],
    rows: list[LedgerRow],
    gateway_killed_at: list[float],
    disk_full: Sequence[tuple[float, float]],
) -> None:
    name = told.custom_id
    net = sum(row.requests for row in rows)
    is_refusal = told.status == 503 and told.error_code == "metering_unavailable"
    verdict.refused += is_refusal
    if net == 0:
        must = bool(provided) or (told.status is not None and told.status != 503)
        if must or rows:
            verdict.lost.append(f"{name} {told.ask.kind} {told.status} {len(rows)} rows")
        return
    verdict.booked += 1
    events = {row.event_id for row in rows}
    if net != 1 or len(events) != 1:
        verdict.doubled.append(f"{name} net {net}, {len(rows)} rows, {len(events)} events")
        return
    is_unkept = any(since <= told.ended <= until for since, until in disk_full)
    if is_refusal and not provided and not is_unkept:
        verdict.strange.append(f"{name}: refused, yet booked")
        return
    # The one that stands: a charge that nothing took back, or what replaced it.
    standing = next((row for row in rows if row.kind == "replacement"), rows[0])
    verdict.unpriced += standing.rating_status == "unpriced"
    if standing.outcome == "abandoned":
        verdict.abandoned += 1
        is_excused = is_unkept and (is_refusal or not told.is_whole)
        problem = None if is_excused else _abandoned_problem(told, gateway_killed_at)
    else:
        problem = _problem(told, provided, rows, standing)
    if problem is not None:
        verdict.wrong.append(f"{name} {told.ask.kind} {told.status}: {problem}")


def _abandoned_problem(told: Told, gateway_killed_at: list[float]) -> str | None:
    if told.is_whole:
        return "abandoned, and the client has the whole answer"
    until = told.ended + (30.0 if told.has_left else _DEATH_SLACK_S)
    if not any(told.began - _DEATH_SLACK_S <= at <= until for at in gateway_killed_at):
        return "abandoned, and no gateway died while it was under way"
    return None


def _problem(
    told: Told, provided: list[Provided], rows: list[LedgerRow], standing: LedgerRow
) -> str | None:
    ask = told.ask
    picousd = sum(row.picousd or 0 for row in rows)
    if told.is_whole and told.status == 200 and standing.outcome != "answered":
        return f"outcome {standing.outcome}, and the client has the whole answer"
    if told.is_whole and standing.status != told.status:
        return f"status {standing.status} in the ledger"
    if standing.evidence != "reported":
        if ask.kind in ("plain", "stream", "unpriced") and told.is_whole and told.status == 200:
            return f"evidence {standing.evidence}"
        return f"{picousd} picousd for nothing" if ask.kind == "refused" and picousd else None
    if not provided:
        return "usage reported, and the provider never saw it"
    if (standing.input_tokens, standing.output_tokens) != (ask.prompt, ask.completion):
        return f"tokens {standing.input_tokens}/{standing.output_tokens}"
    if ask.picousd is None:
        wanted = standing.cost_usd is None and standing.rating_status == "unpriced"
        return None if wanted else f"cost {standing.cost_usd} for a model without a price"
    return None if picousd == ask.picousd else f"cost {picousd}, the truth is {ask.picousd}"
