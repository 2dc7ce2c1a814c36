"""Log lines: one each, fields kept apart, never a secret or a body."""

import errno
import logging
from pathlib import Path

import msgspec
import pytest

from runtime.logs import Log, LogFileSettings, RotatedFile, tail, take_over_stdlib
from runtime.settings import Secret


def lines_of(log_format: str = "text", **fields: object) -> list[str]:
    lines: list[str] = []
    Log(lines.append, log_format=log_format).info("thing.happened", **fields)
    return lines


def test_a_line_for_people_quotes_what_would_run_together():
    """Blanks, quotes and line ends stay inside their field, on one line."""
    (line,) = lines_of(name="a b", text='say "hi"\n', count=3, missing=None)

    assert line.endswith('thing.happened name="a b" text="say \\"hi\\"\\n" count=3 missing=-\n')
    assert line.count("\n") == 1


def test_a_json_line_decodes_to_its_fields():
    """Numbers stay numbers."""
    (line,) = lines_of("json", count=3, name="a b")

    decoded = msgspec.json.decode(line)
    assert (decoded["event"], decoded["count"], decoded["name"]) == ("thing.happened", 3, "a b")


def test_secrets_and_bodies_never_show():
    """Neither by type nor by name, and bytes only as length and hash."""
    (line,) = lines_of(
        setting=Secret("sk-1"), apikey="sk-2", authorization="sk-3", key="sk-4", answer=b"sk-5"
    )

    assert "sk-" not in line
    assert "4 bytes sha256:" in line


def test_lines_below_the_level_are_not_written():
    """Debug is off unless asked for, and bound fields are on every line."""
    lines: list[str] = []
    log = Log(lines.append).bind(worker=2)
    log.debug("thing.detail")
    log.error("thing.failed")

    assert len(lines) == 1
    assert "worker=2" in lines[0]


def test_library_logging_becomes_our_lines():
    """A warning through the standard library is one of our lines with its logger's name."""
    lines: list[str] = []
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        take_over_stdlib(Log(lines.append))
        logging.getLogger("some.library").warning("odd %s", "thing")
    finally:
        root.handlers[:] = before
        root.setLevel(level)

    (line,) = lines
    assert 'library logger=some.library message="odd thing"' in line


def test_the_tail_of_a_file_is_its_last_lines(tmp_path):
    """A missing file has none."""
    path = tmp_path / "x.log"
    path.write_text("".join(f"{number}\n" for number in range(100)))

    assert tail(path, 2) == ["98", "99"]
    assert tail(tmp_path / "none", 2) == []


@pytest.mark.parametrize("at_once", [True, False])
def test_a_rotated_file_keeps_whole_lines_within_its_limits(tmp_path, at_once):
    """However the text arrives, no file is too long and the newest lines are all there."""
    lines = [f"line {number:04d}\n".encode() for number in range(100)]
    file = RotatedFile(tmp_path / "x.log", LogFileSettings(log_file_bytes_max=95, log_files_max=3))
    for part in [b"".join(lines)] if at_once else lines:
        file.write(part)
    file.close()

    kept = [(tmp_path / name).read_bytes() for name in ("x.log.2", "x.log.1", "x.log")]
    assert all(len(content) <= 95 for content in kept)
    assert b"".join(kept) == b"".join(lines[-len(b"".join(kept)) // 10 :])
    assert len(list(tmp_path.iterdir())) == 3


def test_a_line_longer_than_a_file_is_cut_not_lost(tmp_path):
    """There is always progress."""
    file = RotatedFile(tmp_path / "x.log", LogFileSettings(log_file_bytes_max=10, log_files_max=9))
    file.write(b"x" * 25)
    file.close()

    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 25


def test_a_rotation_that_fails_is_tried_again(tmp_path, monkeypatch):
    """What describes the trouble must not end by it, nor stay silent when it is over."""
    file = RotatedFile(tmp_path / "x.log", LogFileSettings(log_file_bytes_max=10, log_files_max=3))
    file.write(b"first\n")
    with monkeypatch.context() as disk:
        for name in ("open", "replace"):
            disk.setattr(Path, name, _refused)
            file.write(b"second\n")
            file.write(b"third\n")
    file.write(b"fourth\n")
    file.close()

    assert tail(tmp_path / "x.log", 9) == ["fourth"]
    assert tail(tmp_path / "x.log.1", 9) == ["first"]


def _refused(*_arguments, **_options):
    raise OSError(errno.ENOSPC, "no space")
