"""Names, order and statements of migration files, and where the stores are."""

from pathlib import Path

import pytest

from infra.migrations.files import sql_files, statements
from infra.migrations.settings import MigrationSettings
from runtime.settings import load


def test_statements_are_cut_at_semicolons_that_mean_it() -> None:
    """Not inside quotes and comments; comments go, so a last one makes no statement."""
    text = "-- a; b\nSELECT ';', \"x;y\", `;` /* ; */ , 'it''s \\' ;';\n\nSELECT 4 - 2 / 1;\n-- end"
    assert statements(text) == [
        "SELECT ';', \"x;y\", `;`   , 'it''s \\' ;'",
        "SELECT 4 - 2 / 1",
    ]


def test_files_come_in_order_and_with_proper_names(tmp_path: Path) -> None:
    """A name out of the pattern would run at a moment nobody meant."""
    for name in ("0002_post_b.sql", "0001_pre_a.sql", "notes.txt"):
        (tmp_path / name).write_text("SELECT 1")
    assert [file.name for file in sql_files(tmp_path)] == ["0001_pre_a.sql", "0002_post_b.sql"]
    (tmp_path / "3_c.sql").write_text("SELECT 1")
    with pytest.raises(ValueError, match="3_c"):
        sql_files(tmp_path)


def test_one_address_wins_over_the_separate_settings() -> None:
    """POSTGRES_URL, else POSTGRESQL_*, with the first host and an escaped password."""
    separate = {
        "POSTGRESQL_HOSTS": "db-1, db-2",
        "POSTGRESQL_USERNAME": "u",
        "POSTGRESQL_PASSWORD": "p@/ss",
        "POSTGRESQL_DB_NAME": "books",
        "POSTGRESQL_SSL_MODE": "disable",
    }
    assert load(MigrationSettings, separate).postgres_dsn() == (
        "postgresql://u:p%40%2Fss@db-1:5432/books?sslmode=disable"
    )
    whole = load(MigrationSettings, {**separate, "POSTGRES_URL": "postgresql://x@y/z"})
    assert whole.postgres_dsn() == "postgresql://x@y/z"
    assert "postgresql://x" not in repr(whole)
