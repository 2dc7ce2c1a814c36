"""From finished exchanges to rows: ids, prices, statuses, corrections; the sharing of partitions."""

import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metering_events import CALL, SETTING, answer, make_admitted, make_completed, whole

from contracts.exchange import Attempt, SettingRef
from contracts.ids import entry_id, new_id
from contracts.ledger import Entry, EntryKind, RatingStatus
from contracts.meters import Evidence
from metering.entries import copy_reversal_of, reversal_of
from metering.members import owner_of, share_of
from metering.pipeline import CHARGES_RUN, Pipeline, live_entry_id
from metering.ports import Billed, Chargeable, Closing, Manifest
from rating.compile_book import compile_book
from rating.price_book import PriceBook

AT_MS = 1_790_000_000_000
MANIFEST = Manifest(1, new_id(), AT_MS + 5, "book", "build")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(PriceBook.from_json(compile_book()[1]))


def bill(pipeline: Pipeline, **facts: object) -> Billed:
    charge = Chargeable(make_completed(**facts), bytes(16), 0, 1)
    return pipeline.rows([charge], [], MANIFEST)


@given(st.binary(min_size=16, max_size=16), st.integers(0, 9), st.sampled_from(EntryKind))
def test_a_live_entry_has_the_id_of_the_contracts(
    event_id: bytes, attempt_no: int, kind: EntryKind
) -> None:
    """The fast way and the plain way give the same identity."""
    plain = entry_id(event_id, attempt_no, kind.value, CHARGES_RUN)
    assert uuid.UUID(bytes=live_entry_id(event_id, attempt_no, kind.value)) == plain


def test_an_answered_exchange_is_rated(pipeline: Pipeline) -> None:
    """Tokens as reported, pico-dollars by the price book, every dimension filled."""
    [entry] = bill(pipeline).entries
    assert (entry.input_tokens, entry.output_tokens) == (10, 5)
    assert entry.cost_picousd == 10 * 2_500_000 + 5 * 10_000_000
    assert (entry.rating_status, entry.evidence) == (RatingStatus.RATED, Evidence.REPORTED)
    assert (entry.provider, entry.model_asked, entry.model_served) == ("openai", "gpt-4o", "gpt-4o")
    assert (entry.requests, entry.kind, entry.attempt_no) == (1, EntryKind.CHARGE, 0)
    assert entry.user_id == "user-1"


def test_a_setting_of_its_own_prices_overrides_the_book(pipeline: Pipeline) -> None:
    """USD per thousand tokens, out of the event."""
    cost_map = b'{"promptCostPerModel":{"gpt-4o":1},"completionCostPerModel":{"gpt-4o":2}}'
    [entry] = bill(pipeline, cost_map=cost_map).entries
    assert entry.cost_picousd == (10 * 10**12 + 5 * 2 * 10**12) // 1000


def test_an_unknown_model_is_unpriced_and_counted(pipeline: Pipeline) -> None:
    """Never free: cost unknown, tokens kept."""
    billed = bill(pipeline, response=whole(answer(10, 5, model="nobody-knows-this")))
    assert billed.entries[0].cost_picousd is None
    assert billed.entries[0].input_tokens == 10
    assert billed.entries[0].rating_status is RatingStatus.UNPRICED
    assert billed.unpriced == 1


def test_what_cannot_be_rated_is_booked_as_unknown_and_put_aside() -> None:
    """The request counts all the same; the reason is kept."""
    broken = Pipeline(object())  # type: ignore[arg-type]
    billed = bill(broken)
    assert billed.entries[0].requests == 1
    assert billed.entries[0].cost_picousd is None
    assert billed.entries[0].rating_status is RatingStatus.UNKNOWN
    [(chargeable, reason)] = billed.unrated
    assert chargeable.event.event_id == billed.entries[0].event_id
    assert "find" in reason


def test_a_refusal_and_a_failure_are_not_billable(pipeline: Pipeline) -> None:
    """One request each, no cost."""
    failed = Attempt(SETTING, "gpt-4o", 500, None, 0, 1, 1, None)
    for facts in ({"outcome": "refused", "attempts": ()}, {"attempts": (failed,), "status": 500}):
        [entry] = bill(pipeline, **facts).entries
        assert entry.requests == 1
        assert entry.cost_picousd == 0
        assert entry.rating_status is RatingStatus.NOT_BILLABLE


def test_the_second_of_two_attempts_carries_the_request(pipeline: Pipeline) -> None:
    """The answering attempt's number and setting."""
    failed = Attempt(SETTING, "gpt-4o-mini", 503, "upstream_error", 0, 1, 1, None)
    won = Attempt(SETTING, "gpt-4o", 200, None, 5, 9, 8, None)
    [entry] = bill(pipeline, attempts=(failed, won)).entries
    assert (entry.attempt_no, entry.attempts, entry.model_sent) == (1, 2, "gpt-4o")


OTHER = SettingRef("setting-2", 9, "anthropic")
WON = Attempt(SETTING, "gpt-4o", 200, None, 5, 9, 8, None)


@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [
        (None, "read_timeout", "timed_out"),
        (None, "proxy_timeout", "timed_out"),
        (None, "step_timeout", "timed_out"),
        (None, "reset_before_response", "upstream_failed"),
        (None, "malformed_response", "upstream_failed"),
        (200, "response_cut", "upstream_failed"),
    ],
)
def test_an_earlier_attempt_that_may_be_billed_is_a_row_of_its_own(
    pipeline: Pipeline, status: int | None, error: str, outcome: str
) -> None:
    """No request, no amounts: unknown. Its setting is its own, and so is its time."""
    lost = Attempt(OTHER, "claude-x", status, error, 0, 70_000, None, None)
    further, main = bill(pipeline, attempts=(lost, WON)).entries
    assert (further.attempt_no, further.requests, further.kind) == (0, 0, EntryKind.CHARGE)
    assert (further.provider, further.setting_id, further.setting_revision) == (
        "anthropic",
        "setting-2",
        9,
    )
    assert (further.model_sent, further.model_served) == ("claude-x", "")
    assert (further.status, further.error, further.outcome) == (status or 0, error, outcome)
    assert (further.duration_us, further.first_byte_us) == (70_000, None)
    assert (further.rating_status, further.evidence) == (RatingStatus.UNKNOWN, Evidence.NONE)
    assert further.cost_picousd is further.input_tokens is further.output_text_tokens is None
    assert further.entry_id == live_entry_id(main.event_id, 0, "charge")
    assert (further.event_id, further.key_id, further.attempts) == (main.event_id, main.key_id, 2)
    assert (main.attempt_no, main.requests, main.provider) == (1, 1, "openai")
    assert main.rating_status is RatingStatus.RATED


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (None, "connect_failed"),
        (None, "connect_timeout"),
        (None, "pool_timeout"),
        (401, None),
        (429, None),
        (503, "turned_down"),
        (302, None),
    ],
)
def test_an_earlier_attempt_that_nobody_bills_is_no_row(
    pipeline: Pipeline, status: int | None, error: str | None
) -> None:
    """No connection, or an error for an answer: only counted."""
    lost = Attempt(OTHER, "claude-x", status, error, 0, 7, None, None)
    [main] = bill(pipeline, attempts=(lost, WON)).entries
    assert (main.attempt_no, main.attempts, main.requests) == (1, 2, 1)


def test_when_every_attempt_failed_the_last_one_carries_the_request(pipeline: Pipeline) -> None:
    """Only what may be billed is of unknown cost."""
    silent = Attempt(OTHER, "claude-x", None, "read_timeout", 0, 7, None, None)
    failed = Attempt(SETTING, "gpt-4o", 503, None, 5, 9, 8, None)
    further, main = bill(
        pipeline, attempts=(silent, failed), status=503, outcome="answered"
    ).entries
    assert (further.requests, further.cost_picousd) == (0, None)
    assert (main.requests, main.cost_picousd) == (1, 0)
    assert main.rating_status is RatingStatus.NOT_BILLABLE


def test_a_request_that_was_sent_and_never_answered_is_unknown(pipeline: Pipeline) -> None:
    """A reset after dispatch is not free; no connection at all is."""
    for error, status in (
        ("reset_before_response", RatingStatus.UNKNOWN),
        ("connect_failed", RatingStatus.NOT_BILLABLE),
    ):
        lost = Attempt(SETTING, "gpt-4o", None, error, 0, 7, None, None)
        [entry] = bill(
            pipeline,
            attempts=(lost,),
            outcome="upstream_failed",
            status=502,
            response=whole(b""),
            response_content_type="",
        ).entries
        assert entry.rating_status is status


def test_attempts_of_an_exchange_that_was_abandoned_are_replacements(pipeline: Pipeline) -> None:
    """No two rows of the event are one: the abandoned row was the charge of attempt 0."""
    lost = Attempt(OTHER, "claude-x", None, "read_timeout", 0, 7, None, None)
    event = make_completed(attempts=(lost, WON))
    [abandoned] = pipeline.rows(
        [], [Closing(make_admitted(event_id=event.event_id), bytes(16), 0, 9)], MANIFEST
    ).entries
    late = Chargeable(event, bytes(16), 0, 20, abandoned)
    rows = pipeline.rows([late], [], MANIFEST).entries
    assert [row.kind for row in rows] == [
        EntryKind.REVERSAL,
        EntryKind.REPLACEMENT,
        EntryKind.REPLACEMENT,
    ]
    assert len({row.entry_id for row in (abandoned, *rows)}) == 4
    assert abandoned.requests + sum(row.requests for row in rows) == 1


def test_an_answer_from_the_cache_costs_nothing(pipeline: Pipeline) -> None:
    """One request of the provider `cached`, cost zero and not null, whatever the answer reports."""
    [entry] = bill(pipeline, attempts=(), is_cache_hit=True, route_id="route-1").entries
    assert (entry.provider, entry.setting_id, entry.attempts) == ("cached", "", 0)
    assert (entry.requests, entry.cost_picousd, entry.input_tokens) == (1, 0, None)
    assert entry.rating_status is RatingStatus.NOT_BILLABLE
    assert entry.route_id == "route-1"


def of_path(path: str, **facts: object) -> dict[str, object]:
    return {"call": msgspec.structs.replace(CALL, path_template=path, operation="other", **facts)}


def test_what_is_free_by_its_path_costs_zero_and_what_is_done_later_is_unknown(
    pipeline: Pipeline,
) -> None:
    """A stored answer that is read again shows usage that was billed once."""
    for facts, status, cost in (
        (of_path("/v1/files"), RatingStatus.NOT_BILLABLE, 0),
        (of_path("/v1/responses/:response_id", method="GET"), RatingStatus.NOT_BILLABLE, 0),
        (of_path("/api/providers/openai/v1/batches"), RatingStatus.UNKNOWN, None),
        (of_path("/v1/*wildcard"), RatingStatus.RATED, 75_000_000),
    ):
        [entry] = bill(pipeline, **facts).entries
        assert (entry.rating_status, entry.cost_picousd) == (status, cost), facts


def test_an_event_time_out_of_bounds_is_clamped(pipeline: Pipeline) -> None:
    """A gateway's clock cannot scatter a batch over a hundred months."""
    far = [0, 2**45]
    entries = [bill(pipeline, admitted_at_ms=at_ms).entries[0] for at_ms in far]
    assert entries[0].occurred_at_ms == MANIFEST.booked_at_ms - 400 * 86_400_000
    assert entries[1].occurred_at_ms == MANIFEST.booked_at_ms + 86_400_000


def test_bodies_are_kept_as_the_key_wants(pipeline: Pipeline) -> None:
    """What is not to be stored is empty; with nothing to store there is no row."""
    [body] = bill(pipeline, stores_response=False, metadata='{"a":1}').bodies
    assert body.response == b""
    assert body.request != b""
    assert body.metadata == '{"a":1}'
    assert not bill(pipeline, stores_request=False, stores_response=False).bodies


def test_an_end_after_abandonment_nets_one_request(pipeline: Pipeline) -> None:
    """Reversal and replacement; the reversal repeats every dimension of what it takes back."""
    event = make_completed()
    admitted = make_admitted(event_id=event.event_id)
    [abandoned] = pipeline.rows([], [Closing(admitted, bytes(16), 0, 9)], MANIFEST).entries
    late = Chargeable(event, bytes(16), 0, 20, abandoned)
    reversal, replacement = pipeline.rows([late], [], MANIFEST).entries
    assert abandoned.requests + reversal.requests + replacement.requests == 1
    assert reversal.outcome == "abandoned"
    assert reversal.occurred_at_ms == abandoned.occurred_at_ms
    assert replacement.kind is EntryKind.REPLACEMENT
    assert replacement.cost_picousd
    ids = {abandoned.entry_id, reversal.entry_id, replacement.entry_id}
    assert len(ids | {copy_reversal_of(replacement).entry_id}) == 4


def test_a_reversal_is_the_exact_negative(pipeline: Pipeline) -> None:
    """Every additive column sums to zero, unknown stays unknown, maps included."""
    [entry] = bill(pipeline).entries
    entry = msgspec.structs.replace(
        entry, rare_quantities={"images": 2}, rare_picousd={"images": 7}
    )
    reversal = reversal_of(entry)
    for name in Entry.__struct_fields__:
        value, taken_back = getattr(entry, name), getattr(reversal, name)
        if name.startswith("rare_"):
            assert {k: v + taken_back[k] for k, v in value.items()} == {"images": 0}
        elif name == "requests" or name.endswith(("_tokens", "_picousd")):
            assert (value is None and taken_back is None) or value + taken_back == 0
        elif name not in ("kind", "entry_id"):
            assert value == taken_back


@given(st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=6), st.integers(1, 40))
def test_every_partition_has_one_owner(members: set[str], count: int) -> None:
    """Shares are disjoint, complete and even."""
    shares = {member: share_of(member, members, range(count)) for member in members}
    assert sorted(n for share in shares.values() for n in share) == list(range(count))
    sizes = [len(share) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1
    assert owner_of("janitor", []) is None
