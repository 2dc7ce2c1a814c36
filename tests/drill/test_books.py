"""The comparison itself: each kind of difference is found, and none where there is none."""

import msgspec
import pytest

from drill.books import LedgerRow, Provided, judge
from drill.load import Ask, Told

ASK = Ask("plain", "gpt-4o", 10, 5, False)
TOLD = Told("a-1", ASK, began=10.0, ended=11.0, status=200, is_whole=True)
SEEN = {10: [Provided(200, True, {"prompt": 10})]}
ROW = LedgerRow(
    "a-1", "charge", 1, "0.000075000000", 10, 5, "answered", "reported", "rated", "e1", "v1", 200
)
BROKEN = msgspec.structs.replace(TOLD, is_whole=False, status=None)
ABANDONED = msgspec.structs.replace(
    ROW, cost_usd=None, outcome="abandoned", evidence="none", rating_status="unknown"
)


def changed(**facts):
    """The row with other facts."""
    return msgspec.structs.replace(ROW, **facts)


def test_agreeing_records_are_clean():
    """One charge of the right amount for an answered request."""
    verdict = judge([TOLD], SEEN, [ROW], [])
    assert verdict.is_clean
    assert (verdict.booked, verdict.picousd) == (1, 75_000_000)


@pytest.mark.parametrize(
    ("told", "seen", "rows"),
    [
        pytest.param(TOLD, SEEN, [], id="no entry"),
        pytest.param(BROKEN, SEEN, [], id="no answer, and the provider saw it"),
        pytest.param(
            TOLD, SEEN, [ROW, changed(kind="reversal", requests=-1, entry_id="e2")], id="taken back"
        ),
    ],
)
def test_what_was_admitted_and_is_not_booked_is_lost(told, seen, rows):
    """The client's status or the provider's record prove the admission."""
    assert judge([told], seen, rows, []).lost


@pytest.mark.parametrize(
    "second",
    [changed(entry_id="e2"), ROW, changed(entry_id="e2", event_id="v2", requests=0)],
    ids=["another entry", "the same entry", "another event"],
)
def test_what_is_booked_twice_is_doubled(second):
    """By net requests, by entry and by event."""
    assert judge([TOLD], SEEN, [ROW, second], []).doubled


@pytest.mark.parametrize(
    "row",
    [
        changed(cost_usd="0.000075000001"),
        changed(cost_usd=None),
        changed(input_tokens=11),
        changed(status=500),
        changed(outcome="upstream_failed"),
        changed(evidence="estimated"),
        ABANDONED,
    ],
    ids=["amount", "no amount", "tokens", "status", "outcome", "evidence", "abandoned"],
)
def test_what_is_booked_otherwise_is_wrong(row):
    """Against what the client asked for and got."""
    assert judge([TOLD], SEEN, [row], [10.5]).wrong


def test_abandoned_needs_a_dead_gateway():
    """Only a worker's death while a request was under way makes an honest abandoned."""
    assert judge([BROKEN], SEEN, [ABANDONED], [10.5]).is_clean
    assert judge([BROKEN], SEEN, [ABANDONED], [5.0]).wrong


def test_a_refused_or_unknown_request_in_the_ledger_is_strange():
    """Neither may be billed."""
    body = b'{"error": {"code": "metering_unavailable"}}'
    refused = msgspec.structs.replace(TOLD, status=503, body=body)
    assert judge([refused], {}, [], []).is_clean
    assert judge([refused], {}, [ROW], []).strange
    assert judge([], {}, [ROW], []).strange


def test_abandoned_is_honest_while_the_disk_was_full_unless_the_answer_is_whole():
    """Its end found no room: the answer was broken off."""
    assert judge([BROKEN], SEEN, [ABANDONED], [], [(9.0, 12.0)]).is_clean
    assert judge([BROKEN], SEEN, [ABANDONED], [], [(1.0, 2.0)]).wrong
    assert judge([TOLD], SEEN, [ABANDONED], [], [(9.0, 12.0)]).wrong


def test_a_request_nobody_can_prove_may_be_there_or_not():
    """No answer and unseen by the provider: net effect zero or one."""
    assert judge([BROKEN], {}, [], []).is_clean
    assert judge([BROKEN], {}, [ABANDONED], [10.5]).is_clean
