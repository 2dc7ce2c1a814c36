"""`tollway doctor`: what is wrong here, and how to mend it."""

import asyncio
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from infra.cli.checks import Check, directory, ports, processes, programs, service_settings
from infra.cli.parameters import (
    DATA_DIR_DEFAULT,
    AdminPort,
    AsJson,
    DataDir,
    ProxyPort,
    ReportingPort,
)
from infra.cli.server_checks import servers
from infra.embedded.instance import find_addresses, launcher_state

_MARKS = {"ok": "ok  ", "warning": "warn", "bad": "BAD "}


def doctor(
    *,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    proxy_port: ProxyPort = 8002,
    admin_port: AdminPort = 8001,
    reporting_port: ReportingPort = 8003,
    as_json: AsJson = False,
) -> int:
    """Check settings, programs, ports, disk and servers; say how to mend what is wrong.

    Servers are those the environment names, else those of the instance that runs. Exit status 1
    when something is bad.
    """
    data_dir = data_dir.resolve()
    wanted = {"proxy": proxy_port, "admin": admin_port, "reporting": reporting_port}
    checks = asyncio.run(_examine(data_dir, wanted))
    if as_json:
        sys.stdout.write(json.dumps({"checks": msgspec.to_builtins(checks)}) + "\n")
    else:
        for check in checks:
            sys.stdout.write(f"{_MARKS[check.verdict]}  {check.name}: {check.detail}\n")
            if check.mend:
                sys.stdout.write(f"      {check.mend}\n")
    return 1 if any(check.verdict == "bad" for check in checks) else 0


async def _examine(data_dir: Path, wanted: dict[str, int]) -> list[Check]:
    is_running = launcher_state(data_dir) is not None
    addresses = find_addresses(data_dir) if is_running else None
    environ = {**os.environ, "DATA_DIR": str(data_dir)}
    if addresses is not None:
        environ = {**addresses.environment, **environ}
        urls = (addresses.proxy_url, addresses.admin_url, addresses.reporting_url)
        wanted = {
            name: urlsplit(url).port or port
            for (name, port), url in zip(wanted.items(), urls, strict=True)
        }
    return [
        *programs(),
        *directory(data_dir),
        *processes(data_dir),
        *ports(wanted, is_running=is_running),
        *await service_settings(environ),
        *await servers(environ),
    ]
