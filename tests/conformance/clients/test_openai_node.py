"""OpenAI's client for Node, run as the program beside its lock; CI must have Node."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import GATEWAY, RECORDED, RECORDER

NODE = Path(__file__).parents[1] / "node"


BASES = ["/v1", "/api/providers/openai/v1"]


def outcomes_of(program: str, *arguments: str) -> dict[str, str]:
    """What a program of Node's prints."""
    if not shutil.which("node") or not (NODE / "node_modules" / "openai").is_dir():
        assert not os.environ.get("CI"), (
            "CI has Node, and openai for it: npm ci in tests/conformance/node"
        )
        pytest.skip("needs Node with npm")
    done = subprocess.run(
        ["node", str(NODE / program), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("base", BASES)
def test_what_node_sees(base):
    """Chat, streams, tools, Responses, models, files, sound and errors, each named by its outcome."""
    outcomes = outcomes_of("conformance.js", GATEWAY + base)

    assert len(outcomes) == 16
    assert {name: outcome for name, outcome in outcomes.items() if outcome != "ok"} == {}


@pytest.mark.parametrize("base", BASES)
def test_every_call_of_node_is_what_it_is_without_the_gateway(base):
    """What goes up and what comes down; the account is not administered through the gateway."""
    outcomes = outcomes_of("every_call.js", GATEWAY + base, RECORDER, RECORDED["openai"])

    assert len(outcomes) > 280
    assert {name: outcome for name, outcome in outcomes.items() if outcome != "ok"} == {}
