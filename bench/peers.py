"""Whom Tollway is compared with: plain forwarding, and two gateways for the same job."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.machine import tree
from bench.programs import Program, free_port
from bench.targets import CHAT, KEY, Place, Running, Target, answers


class Peer:
    """A program that is all there is to a target."""

    def __init__(self, program: Program, url: str, *, model: str = "gpt-4o-mini") -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {KEY}"}
        self.model = model
        self.cold_s = 0.0
        self.answered_at_start = 0
        self._program = program

    def proxy_pids(self) -> list[int]:
        """The program and all it started."""
        return tree(self._program.pid)

    def pinned_pids(self) -> list[int]:
        """All of them."""
        return self.proxy_pids()

    def parts(self) -> dict[str, list[int]]:
        """None."""
        return {}

    def count_booked(self, expected: int) -> None:
        """It keeps no ledger."""

    def wait(self, timeout_s: float) -> "Peer":
        """Until it answers. Raises NotReady."""
        self.cold_s = self._program.wait_until(
            lambda: answers(self.url, self.headers, self.model), timeout_s
        )
        return self


@contextlib.contextmanager
def _direct(place: Place) -> Iterator[Running]:
    """The fake provider itself, on the load core: what the load generator can reach at most."""

    class Upstream(Peer):
        def __init__(self) -> None:
            self.url = place.upstream_url + CHAT
            self.headers = {}
            self.model = "gpt-4o-mini"
            self.cold_s = 0.0
            self.answered_at_start = 0

        def proxy_pids(self) -> list[int]:
            return [place.upstream_pid]

        def pinned_pids(self) -> list[int]:
            return []

    yield Upstream()


_NGINX: Final = """
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_max_body_size 64m;
  # Nothing that is measured here goes by way of a file.
  client_body_buffer_size 2m;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  upstream provider {{
    server {upstream};
    keepalive 2048;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      # For answers that ask for buffering all the same, the long ones.
      proxy_buffers 16 64k;
      proxy_busy_buffers_size 512k;
      proxy_max_temp_file_size 0;
    }}
  }}
}}
"""


@contextlib.contextmanager
def _nginx(place: Place) -> Iterator[Running]:
    """A plain reverse proxy: no key, no books, the least that forwarding can cost."""
    port = free_port()
    config = place.directory / "nginx.conf"
    config.write_text(
        _NGINX.format(
            directory=place.directory,
            port=port,
            upstream=place.upstream_url.removeprefix("http://"),
        )
    )
    argv = ["nginx", "-p", str(place.directory), "-c", str(config), "-g", "daemon off;"]
    log = place.directory / "nginx.log"
    with Program(argv, cores={place.proxy_core}, log=log) as program:
        yield Peer(program, f"http://127.0.0.1:{port}{CHAT}").wait(10)


@contextlib.contextmanager
def _litellm(place: Place) -> Iterator[Running]:
    """Its proxy as its production guide says: one worker, a master key, no database."""
    port = free_port()
    config = place.directory / "litellm.yaml"
    # JSON is YAML, and needs no library here.
    config.write_text(
        json.dumps(
            {
                "model_list": [
                    {
                        "model_name": "gpt-4o-mini",
                        "litellm_params": {
                            "model": "openai/gpt-4o-mini",
                            "api_base": f"{place.upstream_url}/v1",
                            "api_key": "sk-upstream",
                        },
                    }
                ],
                "litellm_settings": {
                    "callbacks": [],
                    "num_retries": 0,
                    "request_timeout": 600,
                    "set_verbose": False,
                    "telemetry": False,
                },
                "general_settings": {"master_key": KEY},
            }
        )
    )
    argv = [
        str(place.home / "venvs/litellm/bin/litellm"),
        *("--config", str(config), "--host", "127.0.0.1", "--port", str(port)),
        *("--num_workers", "1", "--telemetry", "False"),
        # Connections fall silent when the window is over; one that it closed would count as broken.
        *("--keepalive_timeout", "3600"),
    ]
    environ = {
        "DISABLE_ADMIN_UI": "True",
        # Without this it fetches a list of prices from the network when it starts.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }
    log = place.directory / "litellm.log"
    with Program(argv, cores={place.proxy_core}, log=log, environ=environ) as program:
        yield Peer(program, f"http://127.0.0.1:{port}{CHAT}").wait(120)


_TENSORZERO: Final = """
[gateway]
observability.enabled = false

[models.fake]
routing = ["provider"]

[models.fake.providers.provider]
type = "openai"
api_base = "{upstream}/v1/"
model_name = "gpt-4o-mini"
api_key_location = "none"
"""


@contextlib.contextmanager
def _tensorzero(place: Place) -> Iterator[Running]:
    """Its gateway, which is in its Python package; observability off, so it writes no books."""
    config = place.directory / "tensorzero.toml"
    config.write_text(_TENSORZERO.format(upstream=place.upstream_url))
    argv = [
        str(place.home / "venvs/tensorzero/bin/python"),
        str(Path(__file__).with_name("tensorzero_gateway.py")),
        str(config),
    ]
    log = place.directory / "tensorzero.log"
    environ = {"RUST_LOG": "error"}
    with Program(
        argv, cores={place.proxy_core}, log=log, environ=environ, pipes_output=True
    ) as program:
        url = program.output.readline().decode().strip()
        if not url:
            raise program.failed("did not say where it listens")
        model = "tensorzero::model_name::fake"
        yield Peer(program, f"{url}/chat/completions", model=model).wait(60)


DIRECT: Final = Target("direct", "fake upstream", _direct)
NGINX: Final = Target("nginx", "", _nginx)
LITELLM: Final = Target("litellm", "1.106.2", _litellm)
TENSORZERO: Final = Target("tensorzero", "2026.6.0", _tensorzero)
