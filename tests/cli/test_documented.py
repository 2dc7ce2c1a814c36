"""What can be typed is documented."""

from pathlib import Path

import pytest

from infra.cli import COMMANDS
from infra.demo_upstream.asked import HEADERS

TEXT = (Path(__file__).parent.parent.parent / "docs" / "cli.md").read_text()


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_is_in_the_document(name):
    """By its whole name, or in the list of those that share a rule."""
    assert f"tollway {name}" in TEXT or f"`{name}`" in TEXT


@pytest.mark.parametrize("name", HEADERS)
def test_every_header_of_the_demo_provider_is_in_the_document(name):
    """As it is sent."""
    assert f"`x-demo-{name}:" in TEXT
