"""Where an insert's statement ends and its data begins."""

import pytest

from infra.embedded.chdb_statement import (
    NeedsMore,
    first_word,
    insert_head,
    insert_table,
    keeps_state,
    trailing_format,
)


@pytest.mark.parametrize("lead", [b"\t", b"\n", b" ", b"\r"])
def test_native_data_may_begin_with_any_byte(lead: bytes) -> None:
    """Nine and ten columns begin with a tab and a line end; neither belongs to the statement."""
    text = b"INSERT INTO t (a) FORMAT Native\n" + lead + b"\x01rest"
    head = insert_head(text, is_whole=True)
    assert head is not None
    assert text[head.data_at :] == lead + b"\x01rest"


def test_words_inside_quotes_parentheses_and_comments_do_not_end_the_statement() -> None:
    """Columns may be called format, values or select."""
    text = (
        b'/* FORMAT x */ INSERT INTO `my``format`.`values` (format, `select`, "values") '
        b"SETTINGS a = 'FORMAT y' -- SELECT\n FORMAT JSONEachRow {}"
    )
    head = insert_head(text, is_whole=True)
    assert head is not None
    assert head.format == "JSONEachRow"
    assert head.settings.startswith("SETTINGS a = 'FORMAT y'")
    assert "\n" not in head.target
    assert text[head.data_at :] == b"{}"


@pytest.mark.parametrize(
    "text",
    [
        b"INSERT INTO t VALUES (1, 'FORMAT Native')",
        b"INSERT INTO t (a) SELECT number FROM numbers(3) FORMAT Null",
        b"INSERT INTO t WITH 1 AS x SELECT x",
        b"INSERT INTO t FROM INFILE 'x' FORMAT Native",
    ],
)
def test_an_insert_that_carries_its_rows_itself_has_no_data(text: bytes) -> None:
    """VALUES, SELECT, WITH and FROM are the engine's to read."""
    assert insert_head(text, is_whole=True) is None


@pytest.mark.parametrize("cut", range(1, 38))
def test_a_head_that_arrives_in_pieces_is_never_judged_early(cut: int) -> None:
    """Until the line end is there, more is asked for."""
    text = b"INSERT INTO t (a, b) FORMAT JSONEachRow\n{}"
    with pytest.raises(NeedsMore):
        insert_head(text[:cut], is_whole=False)


@pytest.mark.parametrize(
    ("text", "table"),
    [
        (b"INSERT INTO entries FORMAT Native", (None, "entries")),
        (b"insert into table `a b`.`c\\`d` (x) values (1)", ("a b", "c`d")),
        (b'INSERT INTO "x".y(z) SELECT 1', ("x", "y")),
        (b"INSERT INTO FUNCTION file('x') SELECT 1", None),
    ],
)
def test_the_table_of_an_insert_is_found(text: bytes, table: tuple[str | None, str] | None) -> None:
    """Quoted or not, with a database or without."""
    assert insert_table(text) == table


def test_the_format_of_a_reading_statement_is_the_trailing_one() -> None:
    """A column called format is not one."""
    assert trailing_format(b"SELECT format FROM t") is None
    assert trailing_format(b"SELECT 'FORMAT x'") is None
    assert trailing_format(b"SELECT 1\n FORMAT Native") == "Native"
    assert trailing_format(b"SELECT 1 FORMAT JSON SETTINGS a = 'b', c = 1;") == "JSON"


def test_first_word_passes_comments_and_parentheses() -> None:
    """The kind of a statement is its first word."""
    assert first_word(b"  -- INSERT\n /* SET */ (select 1)") == "SELECT"
    assert first_word(b"'x'") == ""


@pytest.mark.parametrize("text", [b"set a=1", b"USE x", b"CREATE TEMPORARY TABLE t (a Int8)"])
def test_statements_that_live_in_a_session_are_known(text: bytes) -> None:
    """A request has no session that would outlive it."""
    assert keeps_state(text)
    assert not keeps_state(b"SELECT 1")
