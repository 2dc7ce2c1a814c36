"""Everything up, as `make up` starts it, on ports of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from support import loopback
from support.servers import free_port

REQUEST_BODY_BYTES_MAX = 1024 * 1024
"""A limit that a test can afford to reach."""

TOLLWAY = str(Path(sys.executable).with_name("tollway"))


def tollway(*arguments: str, seconds: float = 150) -> subprocess.CompletedProcess[str]:
    """One run of the command line."""
    return subprocess.run(
        [TOLLWAY, *arguments],
        env={**os.environ, "REQUEST_BODY_BYTES_MAX": str(REQUEST_BODY_BYTES_MAX)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@dataclass(frozen=True)
class House:
    """A running installation."""

    data_dir: Path
    proxy_url: str
    admin_url: str
    reporting_url: str
    demo_key: str

    def run(self, *arguments: str, seconds: float = 150) -> subprocess.CompletedProcess[str]:
        """A command on this installation."""
        return tollway(*arguments, "--data-dir", str(self.data_dir), seconds=seconds)

    def chat(self, custom_id: str, **changes: object) -> httpx.Response:
        """A chat completion with the demo key."""
        headers = changes.pop("headers", {})
        return loopback.post(
            f"{self.proxy_url}/v1/chat/completions",
            headers={
                "authorization": f"Bearer {self.demo_key}",
                "x-custom-event-id": custom_id,
                **headers,
            },
            json={"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], **changes},
            timeout=60,
        )

    def processes(self) -> list[dict[str, object]]:
        """What `tollway status --json` says."""
        return list(json.loads(self.run("status", "--json").stdout)["processes"])


def up_arguments(data_dir: Path, ports: list[int]) -> list[str]:
    """`tollway up` in the background on these ports."""
    proxy, admin, reporting = map(str, ports)
    return [
        "up",
        "--detach",
        "--json",
        "--workers",
        "1",
        "--data-dir",
        str(data_dir),
        "--proxy-port",
        proxy,
        "--admin-port",
        admin,
        "--reporting-port",
        reporting,
    ]


def started(data_dir: Path, ports: list[int]) -> House:
    """Starts it and reads what it prints: exactly one JSON object."""
    done = tollway(*up_arguments(data_dir, ports))
    assert done.returncode == 0, done.stderr + done.stdout
    told = json.loads(done.stdout)
    assert set(told) == {"data_dir", "proxy_url", "admin_url", "reporting_url", "demo_key"}
    return House(Path(told.pop("data_dir")), **told)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """An installation for the tests of one file."""
    ports = [free_port() for _ in range(3)]
    data_dir = tmp_path_factory.mktemp("house")
    try:
        yield started(data_dir, ports)
    finally:
        tollway("down", "--data-dir", str(data_dir))
