"""The page on compatibility and the suite of the checklist say the same."""

import re
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "compatibility.md").read_text()
STANCES = ("same", "fixed", "not")
NOT_YET = ("limits", "policies")
DONE = ("yes", "yes, with Redis")
ADMIN_API = range(1, 51)
DATA_PLANE = (*range(51, 57), *range(58, 65), *range(70, 81))


def rows() -> list[list[str]]:
    """Number, BricksLLM, Tollway, stance, now."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.splitlines()
        if re.match(r"\| \d+ \|", line)
    ]


def numbers_with_tests() -> Counter[int]:
    """How many tests bear a number."""
    found: Counter[int] = Counter()
    for path in HERE.glob("test_checklist_*.py"):
        found.update(
            int(one) for one in re.findall(r"^def test_(\d\d)_", path.read_text(), re.MULTILINE)
        )
    return found


def test_every_point_has_one_row():
    """From 1 to 98, in order, with five cells that say something."""
    assert [int(row[0]) for row in rows()] == list(range(1, 99))
    for row in rows():
        assert len(row) == 5
        assert all(row)


@pytest.mark.parametrize("number", [*ADMIN_API, *DATA_PLANE])
def test_every_point_of_both_apis_has_a_test(number):
    """One test bears its number."""
    assert numbers_with_tests()[number] == 1


def test_every_test_has_a_row():
    """No test bears a number that the page does not have."""
    assert set(numbers_with_tests()) <= {int(row[0]) for row in rows()}


def test_stances_and_what_is_to_come_are_of_the_named_kinds():
    """A point that is not done, or not yet, says what it waits for."""
    for _, _, _, stance, now in rows():
        assert stance.split()[0] in STANCES
        if now not in DONE:
            assert now.rpartition("not yet: ")[2] in NOT_YET


def test_what_the_suite_shows_is_there_now():
    """A point with a test is no promise."""
    for row in rows():
        if int(row[0]) in numbers_with_tests():
            assert row[4] in DONE
