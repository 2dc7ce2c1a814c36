"""Log lines: one each, fields kept apart, never a secret or a body."""

import logging

import msgspec

from runtime.logs import Log, tail, take_over_stdlib
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
