"""Whether a port is free, who has it when it is not, and taking it."""

import errno
import random
import socket
from typing import Final

import msgspec

BACKLOG: Final = 2048
_CHOSEN: Final = range(28_000, 32_000)
"""Below what kernels give to outgoing connections: while a server is away, nobody who calls another
has its port, nor gets to himself who goes on calling it.
"""


class PortOwner(msgspec.Struct, frozen=True):
    """The process that listens. Both None when the system does not let us see it."""

    pid: int | None
    program: str | None


class PortInUse(OSError):
    """A port that was to be ours belongs to another process; the text names both."""

    def __init__(self, port: int, owner: PortOwner) -> None:
        who = f"by pid {owner.pid} ({owner.program})" if owner.pid else "by another user's process"
        super().__init__(errno.EADDRINUSE, f"port {port} is in use {who}")
        self.port = port
        self.owner = owner

    def __str__(self) -> str:
        return str(self.strerror)


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now. Raises PermissionError below 1024 without right."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            # Binding alone may pass beside a socket that is bound but does not listen yet.
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def owner(port: int) -> PortOwner:
    """Who listens on a TCP port, as far as the system lets us see."""
    import psutil

    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return PortOwner(None, None)
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or connection.laddr.port != port:
            continue
        if connection.pid is None:
            break
        try:
            return PortOwner(connection.pid, psutil.Process(connection.pid).name())
        except psutil.Error:
            return PortOwner(connection.pid, "unknown")
    return PortOwner(None, None)


def require_free(port: int, host: str = "127.0.0.1") -> None:
    """Raises PortInUse, naming the port and its owner, when it is taken."""
    if not is_free(port, host):
        raise PortInUse(port, owner(port))


def choose_free(count: int, host: str = "127.0.0.1") -> list[int]:
    """Distinct ports that are free now. The next one to ask may get them first: use them soon.

    Raises OSError when there are not so many.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(_CHOSEN, len(_CHOSEN)):
        if len(found) == count:
            break
        if is_free(port, host):
            found.append(port)
    if len(found) < count:
        raise OSError(errno.EADDRINUSE, f"no {count} ports of {_CHOSEN} are free on {host}")
    return found


def bind(host: str, port: int) -> socket.socket:
    """A listening socket that children may inherit. Raises OSError when the port is taken.

    Bound once by a supervisor and inherited by its workers: a worker that dies resets nobody else's
    queued connections, which sockets bound apiece with SO_REUSEPORT would.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.listen(BACKLOG)
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener
