"""ClickHouse's engine in one owner process that speaks ClickHouse's HTTP protocol on loopback."""

import signal
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

from infra.embedded.plan import LOOPBACK, Server, ServerPlan
from infra.embedded.probe import ask
from infra.embedded.settings import EmbeddedSettings


def prepare(data_dir: Path, port: int, settings: EmbeddedSettings) -> ServerPlan:
    """The owner makes its files itself; only the directory is made here."""
    directory = data_dir / "clickhouse"
    directory.mkdir(parents=True, exist_ok=True)
    return ServerPlan(
        name="clickhouse",
        version=metadata.version("chdb-core"),
        argv=(
            sys.executable, "-m", "infra.embedded.clickhouse_server",
            "--path", str(directory.resolve()),
            "--port", str(port),
            "--memory-bytes-max", str(settings.clickhouse_memory_bytes_max),
            "--request-bytes-max", str(settings.clickhouse_request_bytes_max),
        ),
        env={"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"},
        cwd=directory,
        uid=None,
        gid=None,
        stop_signal=signal.SIGTERM,
        stop_timeout_s=30.0,
        ready_timeout_s=60.0,
        host=LOOPBACK,
        port=port,
        url=f"http://{LOOPBACK}:{port}",
    )  # fmt: skip


async def is_ready(plan: ServerPlan) -> bool:
    """`/ping` is answered only once the engine is open."""
    request = f"GET /ping HTTP/1.1\r\nHost: {plan.host}\r\nConnection: close\r\n\r\n"
    return b" 200 " in await ask(plan.host, plan.port, request.encode())


CLICKHOUSE: Final = Server("clickhouse", "CLICKHOUSE_URL", 8123, prepare, is_ready)
