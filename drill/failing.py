"""A disk that returns errors on order: the journal's own calls fail in a process that runs this.

    interpreter(path, "drill.failing", DIRECTORY, ORDERS, FIRED)

Orders are read from a file, so that they reach a process under load; every fault that happened is
a line in the other. No call outside the journal's directory is touched.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from drill.interpreters import run_as

Kind = Literal["directory", "draft", "segment"]


class Order(msgspec.Struct, frozen=True):
    """Which call fails, on what, and how.

    `skip` calls pass first, then `times` fail. `how`: before its effect, after it, or with only
    half of the bytes written (which is no error).
    """

    call: str
    kind: Kind
    error: str = "EIO"
    how: Literal["before", "after", "short"] = "before"
    skip: int = 0
    times: int = 1


class Orders(msgspec.Struct, frozen=True):
    """All orders in force; another `number` means that they are counted anew."""

    number: int
    orders: list[Order]


def give(path: Path, orders: Orders) -> None:
    """Put orders in force, whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(orders))
    draft.replace(path)


def kind_of(directory: str, path: str) -> Kind | None:
    """What a path is to the journal; None when it is nothing of its."""
    if path == directory:
        return "directory"
    if not path.startswith(directory + "/"):
        return None
    # A segment's descriptor goes by the name it was opened under, which is gone.
    return "draft" if path.endswith(".new") else "segment"


_READ: Final = os.open, os.read, os.close, os.stat, os.readlink
_decode: Final = msgspec.json.Decoder(Orders).decode


class Faults:
    """What is to fail in this process, and what did."""

    def __init__(self, directory: Path, orders: Path, fired: Path) -> None:
        self._directory = str(directory)
        self._orders_path = str(orders)
        self._fired_path = str(fired)
        self._orders = Orders(0, [])
        self._version = (0, 0)
        self._seen: list[int] = []

    def due(self, call: str, target: object) -> Order | None:
        """The order that this call of a path or descriptor meets, noted as fired."""
        path = self._path(target)
        kind = None if path is None else kind_of(self._directory, path)
        if kind is None:
            return None
        self._read()
        for index, order in enumerate(self._orders.orders):
            if (order.call, order.kind) != (call, kind):
                continue
            self._seen[index] += 1
            if order.skip < self._seen[index] <= order.skip + order.times:
                self._note(order)
                return order
        return None

    def _path(self, target: object) -> str | None:
        _, _, _, _, readlink = _READ
        if isinstance(target, int):
            with contextlib.suppress(OSError):
                return readlink(f"/proc/self/fd/{target}")
            return None
        return os.fsdecode(target) if isinstance(target, str | bytes | os.PathLike) else None

    def _read(self) -> None:
        opened, read, close, stat, _ = _READ
        try:
            found = stat(self._orders_path)
        except FileNotFoundError:
            return
        version = (found.st_ino, found.st_mtime_ns)
        if version == self._version:
            return
        descriptor = opened(self._orders_path, os.O_RDONLY)
        orders = _decode(read(descriptor, 65_536))
        close(descriptor)
        self._version = version
        if orders.number != self._orders.number:
            self._seen = [0] * len(orders.orders)
        self._orders = orders

    def _note(self, order: Order) -> None:
        opened, _, close, _, _ = _READ
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = opened(self._fired_path, flags, 0o600)
        line = f"{self._orders.number} {order.call} {order.kind} {order.error} {order.how}\n"
        _WRITE(descriptor, line.encode())
        close(descriptor)


_WRITE: Final = os.write
_BY_PATH: Final = ("open", "unlink", "link", "rename", "stat", "scandir", "listdir")
_BY_DESCRIPTOR: Final = ("write", "writev", "fsync", "fdatasync", "ftruncate", "pread", "fstat")


def install(faults: Faults) -> None:
    """Put the wrappers in place, for good."""
    for name in (*_BY_PATH, *_BY_DESCRIPTOR):
        setattr(os, name, _failing(faults, name, getattr(os, name)))
    fcntl.flock = _failing(faults, "flock", fcntl.flock)
    _wrap_fallocate(faults)


def _failing(faults: Faults, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    # A link is of its new name.
    at = 1 if name == "link" else 0

    def call(*arguments: Any, **options: Any) -> Any:
        order = faults.due(name, arguments[at] if len(arguments) > at else None)
        if order is None:
            return real(*arguments, **options)
        if order.how == "short":
            content = b"".join(arguments[1]) if name == "writev" else bytes(arguments[1])
            return _WRITE(arguments[0], content[: len(content) // 2])
        if order.how == "after":
            real(*arguments, **options)
        raise _error(order)

    return call


def _wrap_fallocate(faults: Faults) -> None:
    library = ctypes.CDLL

    class Library:
        """The C library, as the journal asks it for space."""

        def __init__(self, real: ctypes.CDLL) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        @property
        def fallocate(self) -> Callable[..., int]:
            """The call that reserves, which fails on order."""
            real = self._real.fallocate

            def reserve(descriptor: int, mode: int, offset: int, length: int) -> int:
                order = faults.due("fallocate", descriptor)
                if order is None:
                    real.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
                    return int(real(descriptor, mode, offset, length))
                ctypes.set_errno(getattr(errno, order.error))
                return -1

            return reserve

    def load(name: str | None, *arguments: Any, **options: Any) -> Any:
        real = library(name, *arguments, **options)
        return Library(real) if name is None else real

    ctypes.CDLL = load  # type: ignore[assignment,misc]


def _error(order: Order) -> OSError:
    code = getattr(errno, order.error)
    return OSError(code, f"{os.strerror(code)} (on order)")


def main() -> None:
    """Run what an interpreter is asked to, over that disk."""
    directory, orders, fired, *rest = sys.argv[1:]
    install(Faults(Path(directory), Path(orders), Path(fired)))
    run_as(rest)


if __name__ == "__main__":
    main()
