"""What a supervisor needs to know to run one server program."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from infra.embedded.settings import EmbeddedSettings

LOOPBACK: Final = "127.0.0.1"


class ServerPlan(msgspec.Struct, frozen=True):
    """One server program, ready to be executed: its directory and files exist.

    `env` is the whole environment, not an addition. `uid` and `gid` are what to become before the
    program runs (None: stay who we are; supplementary groups are to be dropped with them). `cwd`
    must be entered before the change of user: with it a server reaches its data below directories
    its user may not pass. `stop_signal` asks for a clean end; give it `stop_timeout_s`.
    `url` is what the matching setting of the services should be.
    """

    name: str
    version: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    uid: int | None
    gid: int | None
    stop_signal: int
    stop_timeout_s: float
    ready_timeout_s: float
    host: str
    port: int
    url: str


class Server(msgspec.Struct, frozen=True):
    """An embedded server: `prepare` makes its directory and files (blocking, idempotent).

    `is_ready` tells whether it answers now; it never raises for a server that is not there and
    returns within a second.
    """

    name: str
    url_setting: str
    default_port: int
    prepare: Callable[[Path, int, EmbeddedSettings], ServerPlan]
    is_ready: Callable[[ServerPlan], Awaitable[bool]]
