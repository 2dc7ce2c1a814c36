"""When a service counts as ready: it answers its health path, or its state file says so."""

import asyncio
from pathlib import Path

from infra.embedded.plan import LOOPBACK, Server, ServerPlan
from infra.embedded.probe import ask
from runtime.children import Probe
from runtime.state import read_state, state_path


def server_answers(server: Server, plan: ServerPlan) -> Probe:
    """An embedded server's own probe."""

    async def probe() -> str | None:
        return None if await server.is_ready(plan) else f"{server.name} does not answer yet"

    return probe


def answers_ok(*targets: tuple[int, str]) -> Probe:
    """Every (port, path) answers a GET with a status of 2xx."""

    async def one(port: int, path: str) -> str | None:
        question = f"GET {path} HTTP/1.1\r\nhost: {LOOPBACK}\r\nconnection: close\r\n\r\n"
        answer = await ask(LOOPBACK, port, question.encode())
        if answer.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2")):
            return None
        line = answer.split(b"\r\n", 1)[0].decode("latin-1") or "no answer"
        return f"GET {path} on port {port}: {line}"

    async def probe() -> str | None:
        answers = await asyncio.gather(*(one(port, path) for port, path in targets))
        return next((answer for answer in answers if answer is not None), None)

    return probe


def supervisor_ready(data_dir: Path, name: str) -> Probe:
    """The running supervisor of that name says that all of its children are ready."""
    path = state_path(data_dir, name)

    async def probe() -> str | None:
        state = read_state(path)
        if state is None or not state.is_running:
            return f"{name} has not begun"
        waiting = [process.name for process in state.processes if process.state != "ready"]
        if not state.processes or waiting:
            return f"waiting for {', '.join(waiting) or 'its children'}"
        return None

    return probe
