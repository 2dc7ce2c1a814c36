"""Starts the gateway with the demo provider behind it, and the clients' tests against them.

`make conformance` runs this with `.venv`'s interpreter and names the clients' interpreter and what
goes to their pytest. The two environments meet over HTTP alone. The exit status is pytest's.
"""

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
TREE = HERE.parents[1]
# LiteLLM holds OpenAI's client at an older major version; the newest is in `.venv`.
OF_OPENAI = ["clients/test_openai.py", "clients/test_openai_errors.py", "clients/test_azure.py"]
NO_TESTS = 5
sys.path[:0] = [str(TREE / part) for part in ("libs", "services", ".", "tests")]

from support.programs import Gateway, demo_upstream  # noqa: E402
from support.servers import RunningServer, run_apart  # noqa: E402
from support.stores import NatsServer  # noqa: E402

from infra.embedded.postgres import POSTGRES  # noqa: E402
from infra.migrations.postgres import migrate_postgres  # noqa: E402
from infra.migrations.settings import MigrationSettings  # noqa: E402
from runtime.settings import Secret  # noqa: E402


def described(gateway: Gateway, provider_url: str) -> None:
    """Settings and keys as the tests know them; `clients/conftest.py` says which is for what."""

    def setting(provider: str, **more: str) -> str:
        return gateway.setting(
            provider_url,
            provider=provider,
            setting={"apikey": "sk-of-the-provider", "url": provider_url, **more},
        )

    openai, anthropic = setting("openai"), setting("anthropic")
    azure = setting("azure", resourceName="mine")
    gateway.key("sk-all", openai, settingIds=[openai, anthropic, azure])
    gateway.key("sk-openai", openai)
    # What these settings are made to suffer must not rest those of the other tests.
    for provider in ("openai", "anthropic"):
        gateway.key(f"sk-{provider}-errors", setting(provider))
    gateway.key("sk-narrow", openai, settingIds=[openai, anthropic], allowedModels=["gpt-4.1"])


def main(arguments: list[str]) -> int:
    """`arguments`: the clients' interpreter, then options of pytest."""
    interpreter, *rest = arguments
    interpreter = str(Path(interpreter).absolute())
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-")))
        # Root's Postgres runs as another user, who must be able to get to its directory.
        directory.chmod(0o755)
        for part in ("nats", "postgres", "provider", "gateway"):
            (directory / part).mkdir()
        bus = NatsServer(directory / "nats")
        stack.callback(bus.kill)
        bus.start()
        run_apart(bus.migrate())
        postgres = RunningServer(POSTGRES, directory / "postgres")
        stack.callback(postgres.stop)
        postgres.start()
        run_apart(migrate_postgres(MigrationSettings(postgres_url=Secret(postgres.url))))
        provider, provider_url = demo_upstream(directory / "provider")
        stack.callback(provider.kill)
        gateway = Gateway(
            directory / "gateway", {"NATS_URL": bus.url, "POSTGRES_URL": postgres.url}
        )
        stack.callback(gateway.kill)
        gateway.start_ready()
        described(gateway, provider_url)
        env = {
            **os.environ,
            "GATEWAY_URL": gateway.proxy_url,
            "PROVIDER_URL": provider_url,
            # The clients are to ask nobody but the gateway.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LANGSMITH_TRACING": "false",
            "NO_PROXY": "127.0.0.1",
        }
        statuses = [
            subprocess.run(
                [python, "-m", "pytest", "-c", str(HERE / "pytest.ini"), *rest, *paths],
                cwd=HERE,
                env=env,
                check=False,
            ).returncode
            for python, paths in ((interpreter, ["clients"]), (sys.executable, OF_OPENAI))
        ]
        # Options such as -k may leave one of the two without a test.
        return max((status for status in statuses if status != NO_TESTS), default=NO_TESTS)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
