"""OpenAI's client for Node, run as the program beside its lock; CI must have Node."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import GATEWAY

NODE = Path(__file__).parents[1] / "node"


@pytest.mark.parametrize("base", ["/v1", "/api/providers/openai/v1"])
def test_what_node_sees(base):
    """Chat, streams, tools, Responses, models, files, sound and errors, each named by its outcome."""
    if not shutil.which("node") or not (NODE / "node_modules" / "openai").is_dir():
        assert not os.environ.get("CI"), "CI has Node, and openai for it"
        pytest.skip("needs Node with npm")
    done = subprocess.run(
        ["node", str(NODE / "conformance.js"), GATEWAY + base],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert len(outcomes) == 16
    assert {name: outcome for name, outcome in outcomes.items() if outcome != "ok"} == {}
