"""The settings page says what the code reads."""

import runpy
from pathlib import Path

MAKER = Path(__file__).parents[2] / "docs" / "settings_table.py"


def test_settings_page_is_up_to_date():
    """`make docs` would change nothing, and every setting has a description."""
    names = runpy.run_path(str(MAKER))

    page = names["page"]()

    assert names["PAGE"].read_text(encoding="utf-8") == page
    assert "|  |\n" not in page.replace("| `", "")
