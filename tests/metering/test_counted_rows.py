"""What a checkpoint counts of its ledger's rows; pure, but for the ledger's answer."""

import pytest

from contracts.checkpoint import Checkpoint
from contracts.ids import to_text
from metering.agreement import Agreement, aware_of
from metering.batch_ids import next_batch_id
from metering.next_checkpoint import booked
from metering.ports import Mark, Refused

CHECKPOINT = Checkpoint(
    3, "now", 0, None, {}, newest_batch_ms=2_000, proved_batch_ms=1_000, rows_since_proved=7
)


class Answer:
    """A ledger's, to the one question that is asked here."""

    def __init__(self, rows: int, of_newest: int) -> None:
        self.rows, self.of_newest = rows, of_newest
        self.asked: tuple[int, int] | None = None

    async def rows_between(self, first_ms: int, last_ms: int) -> tuple[int, int]:
        self.asked = first_ms, last_ms
        return self.rows, self.of_newest


def batch(at_ms: int) -> str:
    return to_text(next_batch_id(at_ms, 0))


def test_a_batch_adds_its_rows() -> None:
    """As the newest, and between the proved one and the newest, which a recovery may book."""
    after = booked(CHECKPOINT, batch(3_000), 5)
    assert (after.newest_batch_ms, after.proved_batch_ms, after.rows_since_proved) == (
        3_000, 1_000, 12,
    )  # fmt: skip
    after = booked(CHECKPOINT, batch(1_500), 5)
    assert (after.newest_batch_ms, after.rows_since_proved) == (2_000, 12)


def test_a_batch_that_is_not_looked_for_adds_nothing() -> None:
    """One of before the proved batch, and one of which no row was booked."""
    assert booked(CHECKPOINT, batch(500), 5) == CHECKPOINT
    assert booked(CHECKPOINT, batch(3_000), 0) == CHECKPOINT


def test_what_the_ledger_says_is_booked_later_is_counted_too() -> None:
    """By its marks: their rows, and the newest of their times."""
    marks = {b"a" * 16: Mark(9, 0, 0, 4_000, 3), b"b" * 16: Mark(9, 0, 0, 3_000, 2)}
    after = aware_of(marks, CHECKPOINT)
    assert (after.newest_batch_ms, after.proved_batch_ms, after.rows_since_proved) == (
        4_000, 1_000, 12,
    )  # fmt: skip


async def test_a_ledger_that_holds_all_proves_the_newest_batch() -> None:
    """From then on its rows are the first that are counted; more than expected is no harm."""
    for rows in (7, 9):
        ledger = Answer(rows, 4)
        after = await Agreement(ledger).with_ledger(CHECKPOINT)  # type: ignore[arg-type]
        assert ledger.asked == (1_000, 2_000)
        assert (after.newest_batch_ms, after.proved_batch_ms, after.rows_since_proved) == (
            2_000, 2_000, 4,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "of_newest", "says"),
    [
        (6, 4, "lacks 1 of 7 rows of the last batches"),
        (9, 0, "lacks the newest of the last batches"),
    ],
)
async def test_a_ledger_that_lacks_rows_is_refused(rows: int, of_newest: int, says: str) -> None:
    """The newest batch has rows: without any of them it is not there, whatever else is."""
    with pytest.raises(Refused, match=f"{says}, committed up to 1970-01-01 00:00:02 UTC"):
        await Agreement(Answer(rows, of_newest)).with_ledger(CHECKPOINT)  # type: ignore[arg-type]


async def test_without_a_batch_nothing_is_asked() -> None:
    """Nothing was ever booked."""
    ledger = Answer(0, 0)
    empty = Checkpoint(3, "now", 0, None, {})
    assert await Agreement(ledger).with_ledger(empty) is empty  # type: ignore[arg-type]
    assert ledger.asked is None
