"""Every command that the README gives is run by a test or by CI, and it says here where."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
CI: Final = ".ci/run"
HOUSE: Final = "tests/e2e/test_house.py"
OWN_SERVERS: Final = "tests/e2e/test_own_servers.py"
COMMANDS: Final = "tests/cli/test_commands.py"

RUN_IN: Final[dict[str, tuple[str, str]]] = {
    # command: the file that runs it, and how it is written there
    ". .venv/bin/activate": (CI, ". .venv/bin/activate"),
    "PYTHONPATH=tests python -m bench.configuration": (CI, "python -m bench.configuration"),
    "PYTHONPATH=tests python -m bench.idle_streams": (CI, "python -m bench.idle_streams"),
    "bench/metering.py": (CI, "python bench/metering.py"),
    "curl": (HOUSE, 'readme_commands("curl ")'),
    "export": (HOUSE, "export TOLLWAY_KEY="),
    "make": (CI, "make\n"),
    "make bench": (CI, "make bench"),
    "make check": ("Makefile", "test: install check"),
    "make conformance": (CI, "make conformance"),
    "make down": (CI, "make down"),
    "make drill": (CI, "make drill"),
    "make test": (CI, "make test\n"),
    "make up": (CI, "make up"),
    "make up ARGS=--detach": (CI, 'make up ARGS="--detach'),
    "python -m gateway --check-config": (
        "tests/control/test_secrets.py",
        '"-m", "gateway", "--check-config"',
    ),
    "tollway COMMAND --help": (COMMANDS, '"--help"'),
    "tollway audit": (HOUSE, 'house.run("audit"'),
    "tollway demo": (HOUSE, 'readme_commands("tollway demo")'),
    "tollway doctor": ("tests/cli/test_up.py", '"doctor"'),
    "tollway down": ("tests/e2e/conftest.py", 'tollway("down"'),
    "tollway gateway": (OWN_SERVERS, '"gateway"'),
    "tollway import bricksllm": ("tests/cli/test_import.py", '"import", "bricksllm"'),
    "tollway logs": (COMMANDS, 'tollway("logs"'),
    "tollway lost": (OWN_SERVERS, '"lost"'),
    "tollway lost INCARNATION": (OWN_SERVERS, '"lost"'),
    "tollway metering": (OWN_SERVERS, '"metering"'),
    "tollway migrate": (OWN_SERVERS, '"migrate"'),
    "tollway reporting": (OWN_SERVERS, '"reporting"'),
    "tollway resync": (OWN_SERVERS, '"resync"'),
    "tollway secrets": ("tests/control/test_secrets.py", '"gateway.secrets_command"'),
    "tollway status": ("tests/e2e/conftest.py", 'self.run("status"'),
    "tollway trace replay": (HOUSE, 'house.run("trace", "replay"'),
    "tollway trace replay FILE": (HOUSE, 'house.run("trace", "replay"'),
    "tollway up": ("tests/e2e/conftest.py", '"up",'),
}

_PROGRAMS: Final = ("make", "tollway", "python", ".", "curl", "export")
_NAMED_ONLY: Final = ("tollway", "python", "curl")
"""By one of these words alone the program is meant."""


def commands_of(readme: str) -> set[str]:
    """What a reader is told to type: in blocks, in the text, and in the table of the command line.

    Of blocks the first words only, up to what differs from machine to machine.
    """
    found = set()
    for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL):
        for line in block.replace("\\\n", "").splitlines():
            found.add(line.split()[0] if line.startswith(("curl ", "export ")) else line)
    text = re.sub(r"```.*?```", "", readme, flags=re.DOTALL)
    for code in re.findall(r"`([^`\n]+)`", text):
        words = [word for word in code.split() if "=" not in word or word.startswith("ARGS=")]
        is_script = re.fullmatch(r"(?:bench|docs)/\w+\.py", code)
        if is_script or (words and words[0] in _PROGRAMS and code not in _NAMED_ONLY):
            found.add(code)
    section = text.partition("## Command line\n")[2].partition("\n## ")[0]
    for first_cell in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE):
        found.update(f"tollway {name}" for name in re.findall(r"`([^`]+)`", first_cell))
    return found


def test_every_command_of_the_readme_is_run_somewhere():
    """None is missing here, and none is here that the README does not give any more."""
    assert commands_of((ROOT / "README.md").read_text()) == set(RUN_IN)


@pytest.mark.parametrize("command", RUN_IN)
def test_what_is_said_to_run_a_command_does(command: str):
    """As far as it holds the words."""
    path, words = RUN_IN[command]

    assert words in (ROOT / path).read_text()


def test_commands_are_found_wherever_they_stand():
    """In blocks with continued lines, in the text behind a variable, in the table."""
    readme = """
```sh
curl http://127.0.0.1:8002/ \\
  -d '{}'
make up
```
`X=1 python -m thing` and `make fly ARGS=--high`, `bench/it.py`, not `python` or `a file.py`.

## Command line

| command | does |
|---|---|
| `up`, `lost` | things, `not this` |

## More
"""
    assert commands_of(readme) == {
        "X=1 python -m thing",
        "bench/it.py",
        "curl",
        "make fly ARGS=--high",
        "make up",
        "tollway lost",
        "tollway up",
    }
