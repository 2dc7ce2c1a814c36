"""`tollway up`: everything on this machine, in the foreground or detached."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number

from infra.cli.parameters import (
    DATA_DIR_DEFAULT,
    AdminPort,
    AsJson,
    DataDir,
    ProxyPort,
    ReportingPort,
)
from infra.cli.problems import Problem
from infra.embedded.instance import Announcement, DetachedReply, UpOptions, make_data_dir
from infra.embedded.launcher import Observer, check_new, run_up
from runtime.state import ProcessState


def up(
    *,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    detach: Annotated[bool, Parameter(negative="", help="Return when all is ready.")] = False,
    proxy_port: ProxyPort = 8002,
    admin_port: AdminPort = 8001,
    reporting_port: ReportingPort = 8003,
    workers: Annotated[
        int,
        Parameter(
            env_var="GATEWAY_WORKERS",
            help="Gateway workers; 0 is one a core.",
            validator=Number(gte=0),
        ),
    ] = 0,
    no_demo: Annotated[bool, Parameter(negative="", help="No demo provider, no demo key.")] = False,
    as_json: AsJson = False,
) -> int:
    """Start everything on this machine and keep it alive until Ctrl-C."""
    options = UpOptions(
        data_dir=str(data_dir.resolve()),
        proxy_port=proxy_port,
        admin_port=admin_port,
        reporting_port=reporting_port,
        workers=workers,
        with_demo=not no_demo,
    )
    if detach:
        announcement = _start_detached(options)
        _announce(announcement, as_json=as_json)
        if not as_json:
            sys.stderr.write("\nIt goes on without this terminal; `tollway down` stops it.\n")
        return 0
    return asyncio.run(run_up(options, _Terminal(as_json=as_json)))


class _Terminal(Observer):
    """Progress on standard error, the result on standard output."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._is_up = False

    def preparing(self, text: str) -> None:
        """One line a step."""
        _tell(f"  ...     {text}")

    def changed(self, process: ProcessState) -> None:
        """Lines for what a person waits for or worries about."""
        where = f" port {process.port}" if process.port else ""
        if process.state == "ready" and not (self._is_up and process.restarts == 0):
            again = f", restart {process.restarts}" if process.restarts else ""
            _tell(f"  ready   {process.name}{where}{again}")
        elif process.state == "backing_off":
            _tell(f"  died    {process.name}, starting it again")
        elif process.state == "stopped":
            _tell(f"  stopped {process.name}")

    def ready(self, announcement: Announcement, took_s: float) -> None:
        """Everything a newcomer needs."""
        self._is_up = True
        _announce(announcement, as_json=self._as_json)
        _tell(f"\nReady in {took_s:.1f} s. Ctrl-C stops everything.")


def _tell(line: str) -> None:
    # A terminal that went away must not disturb the supervision; its SIGHUP stops us in order.
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")


def _announce(announcement: Announcement, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(announcement)) + "\n")
    else:
        sys.stdout.write(_banner(announcement))
    sys.stdout.flush()


def _banner(announcement: Announcement) -> str:
    lines = [
        "",
        f"  proxy      {announcement.proxy_url}",
        f"  admin      {announcement.admin_url}    described at /docs",
        f"  reporting  {announcement.reporting_url}    described at /docs",
        f"  data       {announcement.data_dir}",
        "",
    ]
    key = announcement.demo_key
    if key is not None:
        lines += [
            f"  demo key   {key}",
            "",
            f"curl -s {announcement.proxy_url}/v1/chat/completions"
            f" -H 'Authorization: Bearer {key}'"
            " -H 'Content-Type: application/json'"
            """ -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}'""",
            "",
            "from openai import OpenAI",
            f'client = OpenAI(base_url="{announcement.proxy_url}/v1", api_key="{key}")',
            "answer = client.chat.completions.create(",
            '    model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}]',
            ")",
            "print(answer.choices[0].message.content, answer.usage)",
            "",
        ]
    return "\n".join(lines) + "\n"


def _start_detached(options: UpOptions) -> Announcement:
    """Start an instance in a session of its own and wait for its word. Raises Problem, PortInUse."""
    check_new(options)
    log_dir = Path(options.data_dir) / "logs"
    make_data_dir(log_dir.parent)
    log_dir.mkdir(exist_ok=True)
    reading, writing = os.pipe()
    with (log_dir / "detached.log").open("ab") as log_file:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "infra.embedded.detached",
                msgspec.json.encode(options).decode(),
                str(writing),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            pass_fds=(writing,),
            start_new_session=True,
        )
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as replies:
            said = replies.read()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    if not said:
        status = process.wait()
        raise Problem(f"it ended with status {status}; see {log_dir / 'detached.log'}")
    reply = msgspec.json.decode(said, type=DetachedReply)
    if reply.announcement is None:
        process.wait()
        raise Problem(reply.problem)
    # It outlives us on purpose; the interpreter must not warn about that.
    process.returncode = 0
    return reply.announcement
