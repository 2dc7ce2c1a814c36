"""Ports of the embedded servers: chosen free once, then kept in the data directory."""

from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

from runtime.ports import choose_free, is_free
from runtime.state import make_run_dir, write_atomically


def keep_ports(
    data_dir: Path, names: Iterable[str], others: Collection[int] = ()
) -> dict[str, int]:
    """A free port a name: last time's if nobody has it now, another one if somebody does.

    None of `others`, which nobody has yet and somebody is to have.
    """
    path = make_run_dir(data_dir) / "ports"
    try:
        remembered = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
    except (OSError, msgspec.DecodeError):
        remembered = {}
    names = list(names)
    ports = {name: remembered[name] for name in names if _is_usable(remembered.get(name), others)}
    missing = [name for name in names if name not in ports]
    if missing:
        given = {*others, *ports.values()}
        chosen = [port for port in choose_free(len(missing) + len(given)) if port not in given]
        ports.update(zip(missing, chosen, strict=False))
    write_atomically(path, msgspec.json.encode(ports))
    return ports


def _is_usable(port: int | None, others: Collection[int]) -> bool:
    return port is not None and port not in others and 1024 <= port <= 65_535 and is_free(port)
