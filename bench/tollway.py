"""Tollway as a target: the whole product, books and all, with one data worker on the proxy core."""

import contextlib
import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from bench.machine import pin, tree, yield_to_others
from bench.programs import Program, free_port
from bench.targets import CHAT, KEY, Place, Running, Target, answers, post
from infra.embedded.instance import read_addresses
from runtime.state import ProcessRow, read_states, rows

_READY_TIMEOUT_S: Final = 180.0
_STOP_TIMEOUT_S: Final = 120.0
_GATEWAY: Final = "gateway"
_MODEL: Final = "gpt-4o-mini"

_BOOKED_POLL_S: Final = 0.3
_BOOKED_STALL_S: Final = 30.0
"""So long without a new entry, and what is missing is not waited for any more."""

_LOOK_AGAIN_S: Final = 1.0
"""A doubled entry would come after the count is already right."""


class RunningTollway:
    """An instance that `tollway up` started."""

    def __init__(self, program: Program, data_dir: Path, environment: dict[str, str]) -> None:
        self.url = f"http://127.0.0.1:{environment['PROXY_PORT']}{CHAT}"
        self.headers = {"Authorization": f"Bearer {KEY}"}
        self.model = _MODEL
        self.cold_s = 0.0
        self.answered_at_start = 0
        self._program = program
        self._data_dir = data_dir
        self._ledger_url = environment["CLICKHOUSE_URL"]

    def processes(self) -> dict[str, ProcessRow]:
        """Every process that runs now, by name."""
        return {row.name: row for row in rows(read_states(self._data_dir)) if row.pid is not None}

    def workers(self) -> list[int]:
        """The data workers."""
        return [
            row.pid
            for name, row in self.processes().items()
            if name.startswith("gateway-worker-") and row.pid is not None
        ]

    def proxy_pids(self) -> list[int]:
        """The gateway: its supervisor, the admin process, the data worker."""
        pid = self.processes()[_GATEWAY].pid
        return [] if pid is None else tree(pid)

    def pinned_pids(self) -> list[int]:
        """The data worker alone has the proxy core."""
        return self.workers()

    def parts(self) -> dict[str, list[int]]:
        """The broker, metering, the stores, reporting, and the launcher that watches them."""
        parts = {
            row.name: tree(row.pid)
            for row in self.processes().values()
            if row.kind != "worker" and row.name != _GATEWAY and row.pid is not None
        }
        return {**parts, "launcher": [self._program.pid]}

    def count_booked(self, expected: int) -> tuple[int, float]:
        """The ledger's own count, asked of its store."""
        began = grown = time.monotonic()
        booked = self._booked()
        while booked < expected and time.monotonic() - grown < _BOOKED_STALL_S:
            time.sleep(_BOOKED_POLL_S)
            now = self._booked()
            if now != booked:
                booked, grown = now, time.monotonic()
        took_s = time.monotonic() - began
        time.sleep(_LOOK_AGAIN_S)
        return self._booked(), took_s

    def _booked(self) -> int:
        question = b"SELECT sum(requests) FROM tollway.entries FORMAT TabSeparated"
        return int(post(self._ledger_url, {}, question) or 0)

    def restarts(self) -> dict[str, int]:
        """Processes that died and came again."""
        return {row.name: row.restarts for row in self.processes().values() if row.restarts}


def _put(url: str, document: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        url,
        data=json.dumps(document).encode(),
        headers={"Content-Type": "application/json"},
        method="PUT",
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        made: dict[str, Any] = json.load(answer)
    return made


def _configure(admin_url: str, upstream_url: str) -> None:
    setting = _put(
        f"{admin_url}/api/provider-settings",
        {"provider": "openai", "setting": {"apikey": "sk-upstream", "url": upstream_url}},
    )
    _put(
        f"{admin_url}/api/key-management/keys",
        {"name": "bench", "key": KEY, "settingIds": [setting["id"]], "tags": ["bench"]},
    )


@contextlib.contextmanager
def _start(place: Place) -> Iterator[Running]:
    data_dir = place.directory / "data"
    argv = [
        str(Path(sys.executable).with_name("tollway")),
        *("up", "--json", "--no-demo", "--workers", "1", "--data-dir", str(data_dir)),
        *("--proxy-port", str(free_port()), "--admin-port", str(free_port())),
        *("--reporting-port", str(free_port())),
    ]
    with Program(
        argv,
        cores=set(place.load_cores),
        log=place.directory / "tollway.log",
        # The bench has no admin password to give.
        environ={"ADMIN_PASS": "", "ALLOW_PRIVATE_UPSTREAMS": "true"},
        stop_timeout_s=_STOP_TIMEOUT_S,
        pipes_output=True,
    ) as program:
        if not program.output.readline().startswith(b"{"):
            raise program.failed("tollway up did not announce itself")
        addresses = read_addresses(data_dir)
        running = RunningTollway(program, data_dir, addresses.environment)
        for pid in running.workers():
            pin(pid, {place.proxy_core})
        # With a core of their own these would not stand in the load generator's way; the broker
        # keeps its priority, for the gateway waits for it.
        for name, pids in running.parts().items():
            if name not in ("nats", "launcher"):
                for pid in pids:
                    yield_to_others(pid)
        _configure(addresses.admin_url, place.upstream_url)
        running.cold_s = program.wait_until(
            lambda: answers(running.url, running.headers, running.model), _READY_TIMEOUT_S
        )
        # A key that is not yet known is refused and leaves no entry: only the last try counts.
        running.answered_at_start = 1
        yield running
        restarts = running.restarts()
        if restarts:
            raise program.failed(f"processes died during the round: {restarts}")


TOLLWAY: Final = Target("tollway", metadata.version("tollway"), _start)
