"""Our own programs as test handles: real child processes, stopped or killed with the test."""

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from support import loopback
from support.servers import dies_with_parent, free_port

SECRETS_KEY = base64.b64encode(bytes(range(32))).decode()
"""What gateways under test seal provider secrets with."""


class Program:
    """A child process running one of our modules, logging to a file."""

    def __init__(self, name: str, argv: list[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._argv = argv
        self._env = {**os.environ, **env}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; does not wait."""
        assert self.process is None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self._argv],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=dies_with_parent(signal.SIGKILL),  # noqa: PLW1509 - only prctl
            )

    def wait_until(self, is_ready: Callable[[], bool], seconds: float = 60.0) -> None:
        """Waits for it to be ready. Raises AssertionError with its log when it is not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                break
            try:
                if is_ready():
                    return
            except (httpx.TransportError, OSError):
                pass
            time.sleep(0.03)
        raise AssertionError(f"{self.name} is not ready:\n{self.log.read_text()[-4000:]}")

    def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM and wait; the exit status."""
        assert self.process is not None
        self.process.terminate()
        status = self.process.wait(seconds)
        self.process = None
        return status

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def demo_upstream(directory: Path) -> tuple[Program, str]:
    """The demo provider, started, and its base URL."""
    port = free_port()
    program = Program(
        "demo-upstream",
        ["infra.demo_upstream", "--port", str(port)],
        {},
        directory / "demo-upstream.log",
    )
    program.start()
    url = f"http://127.0.0.1:{port}"
    program.wait_until(lambda: loopback.get(f"{url}/v1/models").status_code == 200)
    return program, url


class Gateway(Program):
    """The gateway service with its two ports."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self.proxy_port = free_port()
        self.admin_port = free_port()
        self.reporting_port = free_port()
        """Nobody's, unless a test has reporting: this machine may run a Tollway of its own."""
        self.data_dir = directory / "data"
        super().__init__(
            "gateway",
            ["gateway"],
            {
                "PROXY_PORT": str(self.proxy_port),
                "ADMIN_PORT": str(self.admin_port),
                "DATA_DIR": str(self.data_dir),
                "GATEWAY_WORKERS": "1",
                "DRAIN_S": "5",
                "REPORTING_URL": f"http://127.0.0.1:{self.reporting_port}",
                "JOURNAL_STOP": "1",
                "ALLOW_PRIVATE_UPSTREAMS": "true",
                "SECRETS_KEY": SECRETS_KEY,
                **env,
            },
            directory / "gateway.log",
        )
        self.proxy_url = f"http://127.0.0.1:{self.proxy_port}"
        self.admin_url = f"http://127.0.0.1:{self.admin_port}"

    def start_ready(self) -> "Gateway":
        """Started, and answering on both ports."""
        self.start()
        self.wait_until(lambda: loopback.get(f"{self.proxy_url}/health").status_code == 200)
        self.wait_until(lambda: loopback.get(f"{self.admin_url}/api/health").status_code == 200)
        return self

    def setting(self, base_url: str, **changes: object) -> str:
        """A new provider setting; its id."""
        answer = loopback.put(
            f"{self.admin_url}/api/provider-settings",
            json={
                "provider": "openai",
                "setting": {"apikey": "sk-upstream", "url": base_url},
                **changes,
            },
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def key(self, key: str, setting_id: str, **changes: object) -> dict[str, object]:
        """A new key, in force in every worker when this returns."""
        answer = loopback.put(
            f"{self.admin_url}/api/key-management/keys",
            json={"name": key, "key": key, "settingIds": [setting_id], **changes},
        )
        assert answer.status_code == 200, answer.text
        self.await_key(key)
        return dict(answer.json())

    def await_key(self, key: str) -> None:
        """Returns when a key is in force, with its settings. Raises AssertionError."""
        probe = {"authorization": f"Bearer {key}"}
        deadline = time.monotonic() + 60
        while True:
            # A route that nobody made: the key is looked up, and no provider hears of it.
            answer_now = loopback.post(
                f"{self.proxy_url}/api/routes/-", headers=probe, content=b"{}"
            )
            if answer_now.json()["error"]["code"] != "invalid_api_key":
                return
            assert time.monotonic() < deadline, f"{key} is not in force"
            time.sleep(0.02)
