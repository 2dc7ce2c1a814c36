"""Starts the gateway with two providers behind it, and the clients' tests against them.

`make conformance` runs this with `.venv`'s interpreter and names the clients' interpreter and what
goes to their pytest. The two environments meet over HTTP alone. Lanes run side by side, each with
keys, settings and a demo provider of its own. The exit status is pytest's.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
TREE = HERE.parents[1]
NO_TESTS = 5
sys.path[:0] = [str(TREE / part) for part in ("libs", "services", ".", "tests")]

from provider import recording_provider  # noqa: E402
from support.programs import Gateway, demo_upstream  # noqa: E402
from support.servers import RunningServer, run_apart  # noqa: E402
from support.stores import NatsServer  # noqa: E402

from infra.embedded.postgres import POSTGRES  # noqa: E402
from infra.migrations.postgres import migrate_postgres  # noqa: E402
from infra.migrations.settings import MigrationSettings  # noqa: E402
from runtime.settings import Secret  # noqa: E402

OF_OPENAI = ["every_call", "openai", "openai_errors", "azure"]


class Lane(NamedTuple):
    """`python` runs the tests of `subjects`, one after the other; its keys end in its name."""

    name: str
    python: str
    subjects: list[str]

    @property
    def files(self) -> list[str]:
        """Where the tests are."""
        return [f"clients/test_{subject}.py" for subject in self.subjects]


def lanes(clients: str) -> list[Lane]:
    """LiteLLM holds OpenAI's client at an older major version; the newest is in `.venv`."""
    return [
        Lane("-others", clients, ["litellm", "langchain", "anthropic", "every_call_anthropic"]),
        Lane("-openai", clients, ["openai_node", *OF_OPENAI]),
        Lane("-newest", sys.executable, OF_OPENAI),
    ]


def described(gateway: Gateway, lane: Lane, demo_url: str, recorder_url: str) -> None:
    """Settings and keys as the tests know them; `clients/conftest.py` says which is for what."""

    def setting(provider: str, url: str = demo_url, **more: str) -> str:
        return gateway.setting(
            url,
            provider=provider,
            setting={"apikey": "sk-of-the-provider", "url": url, **more},
        )

    openai, anthropic = setting("openai"), setting("anthropic")
    azure = setting("azure", resourceName="mine")
    gateway.key(f"sk-all{lane.name}", openai, settingIds=[openai, anthropic, azure])
    # What these settings are made to suffer must not rest those of the other tests.
    for provider in ("openai", "anthropic"):
        gateway.key(f"sk-{provider}-errors{lane.name}", setting(provider))
        gateway.key(f"sk-{provider}-recorded{lane.name}", setting(provider, recorder_url))
    gateway.key(
        f"sk-narrow{lane.name}",
        openai,
        settingIds=[openai, anthropic],
        allowedModels=["gpt-4.1"],
    )


def run(lane: Lane, env: dict[str, str], options: list[str]) -> tuple[int, str]:
    """The exit status of a lane's tests, and what they said."""
    done = subprocess.run(
        [lane.python, "-m", "pytest", "-c", str(HERE / "pytest.ini"), *options, *lane.files],
        cwd=HERE,
        env=env | {"LANE": lane.name},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def main(arguments: list[str]) -> int:
    """`arguments`: the clients' interpreter, then options of pytest."""
    interpreter, *options = arguments
    began = time.monotonic()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-")))
        # Root's Postgres runs as another user, who must be able to get to its directory.
        directory.chmod(0o755)
        for part in ("nats", "postgres", "gateway"):
            (directory / part).mkdir()
        bus = NatsServer(directory / "nats")
        stack.callback(bus.kill)
        bus.start()
        run_apart(bus.migrate())
        postgres = RunningServer(POSTGRES, directory / "postgres")
        stack.callback(postgres.stop)
        postgres.start()
        run_apart(migrate_postgres(MigrationSettings(postgres_url=Secret(postgres.url))))
        gateway = Gateway(
            directory / "gateway", {"NATS_URL": bus.url, "POSTGRES_URL": postgres.url}
        )
        stack.callback(gateway.kill)
        gateway.start_ready()
        recorder_url = stack.enter_context(recording_provider())
        env = {
            **os.environ,
            "GATEWAY_URL": gateway.proxy_url,
            "RECORDER_URL": recorder_url,
            # The clients are to ask nobody but the gateway.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LANGSMITH_TRACING": "false",
            "NO_PROXY": "127.0.0.1",
        }
        under_way = []
        with ThreadPoolExecutor() as threads:
            for lane in lanes(str(Path(interpreter).absolute())):
                (directory / lane.name).mkdir()
                demo, demo_url = demo_upstream(directory / lane.name)
                stack.callback(demo.kill)
                described(gateway, lane, demo_url, recorder_url)
                asked = threads.submit(run, lane, env | {"PROVIDER_URL": demo_url}, options)
                under_way.append((lane, asked))
            statuses = []
            for lane, asked in under_way:
                status, said = asked.result()
                statuses.append(status)
                sys.stdout.write(f"{', '.join(lane.subjects)}:\n{said}")
                sys.stdout.flush()
        sys.stdout.write(f"clients' conformance: {time.monotonic() - began:.0f} s\n")
        # Options such as -k may leave a lane without a test.
        return max((status for status in statuses if status != NO_TESTS), default=NO_TESTS)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
