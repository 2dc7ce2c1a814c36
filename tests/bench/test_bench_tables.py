"""What the bench makes of its rows: tables, and whether a ratio fell since earlier ones."""

import json
from collections.abc import Callable

import msgspec
import pytest

from bench.__main__ import REGRESSED_STATUS, main
from bench.against import CHANGE_MIN, Change, changes, has_regressed
from bench.load import DEFAULT_MODES, LONG_BYTES, MODES, request_body
from bench.report import as_json, as_text
from bench.rows import Measured, Row, append, read

Rows = Callable[..., list[Row]]


def measured(target: str, mode: str, cpu_us: float, round_no: int = 1, **more: object) -> Measured:
    """A row of which only the CPU time matters."""
    row = Measured(
        target=target,
        version="1",
        round_no=round_no,
        mode=mode,
        at=0.0,
        window_s=5.0,
        sent=100,
        answered=100,
        status_errors=0,
        socket_errors=0,
        timeouts=0,
        answers_per_s=20.0,
        answer_bytes=621.0,
        p50_ms=1.0,
        p99_ms=2.0,
        cpu_us=cpu_us,
        core_share=0.9,
        foreign_share=0.0,
        pss_mb=100.0,
        parts_cpu_us={},
    )
    return msgspec.structs.replace(row, **more)


def run(own: list[float], peer: list[float], mode: str = "c64") -> list[Row]:
    """Rounds of Tollway and TensorZero, CPU us of each."""
    rows: list[Row] = [measured("tollway", mode, us, no) for no, us in enumerate(own, 1)]
    rows += [measured("tensorzero", mode, us, no) for no, us in enumerate(peer, 1)]
    return rows


def the_change(then: list[Row], now: list[Row]) -> Change:
    """The only one there is."""
    (change,) = changes(then, now)
    return change


def test_a_slower_machine_is_no_regression():
    """Both take twice as long: the ratio is what it was."""
    change = the_change(run([100, 102], [120, 121]), run([200, 204], [240, 242]))

    assert change.verdict == "same"
    assert change.change == pytest.approx(0)
    assert not has_regressed([change])


@pytest.mark.parametrize(
    ("now_us", "verdict"), [(50.0, "better"), (108.0, "same"), (125.0, "REGRESSED")]
)
def test_a_ratio_that_moved_beyond_the_least_change_is_said_to(now_us, verdict):
    """In either direction."""
    change = the_change(run([100, 101], [100, 101]), run([now_us, now_us], [100, 100]))

    assert change.verdict == verdict
    assert has_regressed([change]) == (verdict == "REGRESSED")


def test_a_fall_that_the_rounds_themselves_show_is_unclear():
    """Rounds of one run that differ by more than the runs do prove nothing."""
    change = the_change(run([80, 130], [100, 100]), run([120, 120], [100, 100]))

    assert change.spread is not None
    assert abs(change.change) > CHANGE_MIN
    assert change.verdict == "unclear"


def test_one_round_on_each_side_is_judged_by_the_least_change_alone():
    """There is no spread of one round."""
    change = the_change(run([100], [100]), run([125], [100]))

    assert change.spread is None
    assert change.verdict == "REGRESSED"


def test_rounds_that_others_disturbed_do_not_count():
    """As in the tables."""
    disturbed = measured("tollway", "c64", 900, 3, foreign_share=0.5)

    change = the_change(run([100, 100], [100, 100]), [*run([100, 100], [100, 100]), disturbed])

    assert change.verdict == "same"


def test_modes_and_peers_that_one_side_lacks_are_left_out():
    """A new mode has nothing to be compared with."""
    now = run([100], [100]) + run([100], [100], "c1024")

    assert [(change.mode, change.peer) for change in changes(run([100], [100]), now)] == [
        ("c64", "tensorzero")
    ]


def test_rows_come_back_as_they_were_written(tmp_path):
    """Those of before the peak of memory was measured too."""
    row = measured("tollway", "up1m", 3000, peak_mb=250.0)
    append(tmp_path / "rows.jsonl", row)
    old = json.loads((tmp_path / "rows.jsonl").read_bytes())
    del old["peak_mb"]
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write(json.dumps(old) + "\n")

    assert read(tmp_path / "rows.jsonl") == [row, msgspec.structs.replace(row, peak_mb=None)]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_has_a_table(mode):
    """With its ratio, its errors and what the ledger lacks."""
    row = measured("tollway", mode, 100, timeouts=3, booked=97, booked_after_s=1.0)

    text = as_text([row, measured("tensorzero", mode, 275)])

    assert f"tollway {mode}, round 1: of 100 sent 100 answered" in text
    assert "3 timed out" in text
    assert f"tollway {mode}, round 1: 97 exchanges booked for 100 answers" in text
    if mode not in ("c1", "c8"):
        assert " 2.75 |" in text


def test_json_holds_the_changes():
    """As the table does."""
    found = as_json(run([125], [100]), run([100], [100]))["changes"]

    assert [(one["mode"], one["verdict"]) for one in found] == [("c64", "REGRESSED")]


def test_the_exit_status_tells_a_regression_only_when_asked_against(tmp_path, capsys):
    """Nothing fails for being slow otherwise."""
    then, now = tmp_path / "then.jsonl", tmp_path / "now.jsonl"
    for path, rows in ((then, run([100], [100])), (now, run([125], [100]))):
        for row in rows:
            append(path, row)

    assert main(["--show", str(now)]) == 0
    assert "REGRESSED" not in capsys.readouterr().out
    assert main(["--show", str(now), "--against", str(then)]) == REGRESSED_STATUS
    assert "REGRESSED" in capsys.readouterr().out
    assert main(["--show", str(then), "--against", str(now)]) == 0


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("json", 900, 1_400),
        ("slow", 900, 1_400),
        ("down", 900, 1_400),
        ("up", LONG_BYTES, LONG_BYTES * 1.03),
    ],
)
def test_requests_are_as_long_as_the_page_says(kind, low, high):
    """And well-formed; only streams ask for a stream."""
    body = request_body("m", kind)
    asked = json.loads(body)

    assert low <= len(body) <= high
    assert asked.get("stream", False) == (kind == "slow")


def test_modes_that_are_not_measured_by_default_are_the_long_ones():
    """Ten minutes: what is left out is asked for by name."""
    assert set(MODES) - set(DEFAULT_MODES) == {"c1024", "paced1024", "up1m", "down1m"}
