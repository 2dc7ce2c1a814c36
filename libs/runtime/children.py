"""Supervisor of child processes: start in order, keep alive, stop in reverse, say what runs.

    supervisor = Supervisor("gateway", [admin, (worker_1, worker_2)], data_dir=..., log=...)
    raise SystemExit(await run_until_signal(supervisor))

Members of a tuple start together. State goes to `<data_dir>/run/<name>.json`.
"""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from runtime.children_spec import Child, Probe, RestartLimits, StartFailed, Step
from runtime.logs import Log, LogFileSettings, RotatedFile, silent, tail
from runtime.processes import birth_mark
from runtime.spawn import Spawned
from runtime.state import ProcessState, State, SupervisorState, hold, write_state

__all__ = ["Child", "Probe", "RestartLimits", "StartFailed", "Step", "Supervisor"]

_LAST_LINES: Final = 20
Stage = Child | Step | tuple[Child | Step, ...]


class _Kept:
    """A child and what is known of it now."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.state: State = "waiting"
        self.spawned: Spawned | None = None
        self.started_at: float | None = None
        self.ready_at: float | None = None
        self.restarts = 0
        self.reason = "not ready"
        self.keeper: asyncio.Task[None] | None = None
        self.became_ready: asyncio.Future[None] | None = None
        self.log_file: RotatedFile | None = None


class Supervisor:
    """Owns a set of children. One event loop, the main thread."""

    def __init__(
        self,
        name: str,
        stages: Sequence[Stage],
        *,
        data_dir: Path,
        log: Log | None = None,
        log_dir: Path | None = None,
        log_files: LogFileSettings | None = None,
        limits: RestartLimits | None = None,
        chance: Callable[[], float] | None = None,
        on_change: Callable[[ProcessState], None] | None = None,
    ) -> None:
        """`log_dir` None passes the children's output through to ours.

        `on_change` hears of every change of a child's state, in order.
        """
        self.name = name
        self._stages = [stage if isinstance(stage, tuple) else (stage,) for stage in stages]
        self._kept = {
            part.name: _Kept(part)
            for stage in self._stages
            for part in stage
            if isinstance(part, Child)
        }
        self._data_dir = data_dir
        self._log = log or silent()
        self._log_dir = log_dir
        self._log_files = log_files
        self._limits = limits or RestartLimits()
        self._on_change = on_change
        self._chance = chance or random.Random().random
        self._started_at = time.time()
        self._birth = birth_mark(os.getpid())
        self._stopping = False
        self._hold: int | None = None

    async def start(self) -> None:
        """Start every stage, each when the one before is ready.

        Raises StartFailed (what was started is still running: call `stop`), or what a Step raises.
        """
        self._hold = hold(self._data_dir, self.name)
        if self._hold is None:
            # Two would write one state file, and the first one's children would be lost from it.
            reason = f"another one runs on {self._data_dir}"
            raise StartFailed(self.name, reason, [])
        self._stopping = False
        self._write_state()
        try:
            for stage in self._stages:
                async with asyncio.TaskGroup() as group:
                    for part in stage:
                        group.create_task(self._start_part(part), name=f"start.{part.name}")
                if self._stopping:
                    raise StartFailed(self.name, "it was stopped meanwhile", [])
        except BaseExceptionGroup as failures:
            raise _first_of(failures) from None

    async def _start_part(self, part: Child | Step) -> None:
        if isinstance(part, Step):
            self._log.debug("step.started", name=part.name)
            await part.run()
            self._log.debug("step.done", name=part.name)
            return
        kept = self._kept[part.name]
        loop = asyncio.get_running_loop()
        kept.became_ready = loop.create_future()
        kept.keeper = loop.create_task(self._keep(kept), name=f"keep.{part.name}")
        kept.keeper.add_done_callback(lambda keeper: self._on_keeper_end(kept, keeper))
        await kept.became_ready

    def _on_keeper_end(self, kept: _Kept, keeper: asyncio.Task[None]) -> None:
        error = None if keeper.cancelled() else keeper.exception()
        if error is None:
            return
        self._log.error("keeper.failed", name=kept.child.name, reason=repr(error))
        if kept.became_ready is not None and not kept.became_ready.done():
            kept.became_ready.set_exception(error)

    async def stop(self) -> None:
        """Stop every child in reverse order. Safe to call at any time, more than once."""
        self._stopping = True
        for stage in reversed(self._stages):
            children = [part for part in stage if isinstance(part, Child)]
            stopped = {child.name: asyncio.Event() for child in children}
            async with asyncio.TaskGroup() as group:
                for child in children:
                    group.create_task(self._stop_in_turn(child, stopped), name=f"stop.{child.name}")
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None

    async def _stop_in_turn(self, child: Child, stopped: dict[str, asyncio.Event]) -> None:
        try:
            for name in child.stop_after:
                await stopped[name].wait()
            await self._stop_one(self._kept[child.name])
        finally:
            stopped[child.name].set()

    def kill(self) -> None:
        """SIGKILL to every child at once; `stop` must still be awaited."""
        self._stopping = True
        for kept in self._kept.values():
            if kept.spawned is not None:
                kept.spawned.kill_group()

    def states(self) -> tuple[ProcessState, ...]:
        """The children as they are now."""
        return tuple(self._state_of(kept) for kept in self._kept.values())

    async def _keep(self, kept: _Kept) -> None:
        deaths = 0
        deaths_at_start = 0
        while not self._stopping:
            kept.ready_at = None
            failure = await self._run_once(kept)
            if self._stopping:
                return
            if kept.ready_at is not None:
                was_well_s = time.monotonic() - kept.ready_at
                deaths = 0 if was_well_s > self._limits.well_after_s else deaths
            ready = kept.became_ready
            if ready is not None and not ready.done():
                deaths_at_start += 1
                if deaths_at_start >= self._limits.deaths_at_start_max or kept.reason == "timeout":
                    self._set(kept, "stopped")
                    ready.set_exception(self._start_failed(kept, failure))
                    return
            pause_s = self._pause_s(deaths)
            deaths += 1
            kept.restarts += 1
            self._set(kept, "backing_off")
            self._log.warning(
                "child.died",
                name=kept.child.name,
                reason=failure,
                restarts=kept.restarts,
                pause_s=round(pause_s, 3),
            )
            await asyncio.sleep(pause_s)

    async def _run_once(self, kept: _Kept) -> str:
        """Run the child until it ends; why it never became ready, or its exit in words."""
        child = kept.child
        try:
            spawned = Spawned(child, self._log_writer(kept))
        except OSError as error:
            kept.spawned = None
            return f"cannot run {child.argv[0]}: {error.strerror or error}"
        kept.spawned = spawned
        kept.started_at = time.time()
        self._set(kept, "starting")
        try:
            reason = await self._await_ready(kept, spawned)
            if reason is None:
                kept.ready_at = time.monotonic()
                self._set(kept, "ready")
                self._log.info("child.ready", name=child.name, pid=spawned.pid, port=child.port)
                if kept.became_ready is not None and not kept.became_ready.done():
                    kept.became_ready.set_result(None)
            elif spawned.returncode is None:
                kept.reason = "timeout"
                self._log.warning("child.not_ready", name=child.name, reason=reason)
                await spawned.stop(child.stop_signal, child.stop_timeout_s)
                return reason
            returncode = await spawned.exited()
        finally:
            if spawned.returncode is not None:
                spawned.drain_output()
                kept.spawned = None
        return _exit_in_words(returncode)

    async def _await_ready(self, kept: _Kept, spawned: Spawned) -> str | None:
        child = kept.child
        if child.probe is None:
            return None
        deadline = time.monotonic() + child.ready_timeout_s
        reason = "no answer"
        exited = asyncio.ensure_future(spawned.exited())
        try:
            while not exited.done():
                answer = await self._ask(child.probe)
                if answer is None:
                    return None
                reason = answer
                if time.monotonic() > deadline:
                    return f"not ready after {child.ready_timeout_s:g} s: {reason}"
                await asyncio.wait({exited}, timeout=self._limits.probe_interval_s)
        finally:
            exited.cancel()
        return reason

    async def _ask(self, probe: Probe) -> str | None:
        try:
            async with asyncio.timeout(self._limits.probe_timeout_s):
                return await probe()
        except TimeoutError:
            return "no answer in time"
        except OSError as error:
            return error.strerror or str(error) or type(error).__name__
        except Exception as error:  # noqa: BLE001 - a probe's fault must not end the supervision
            return repr(error)

    async def _stop_one(self, kept: _Kept) -> None:
        child, spawned = kept.child, kept.spawned
        if spawned is not None:
            self._set(kept, "stopping")
            began = time.monotonic()
            returncode = await spawned.stop(child.stop_signal, child.stop_timeout_s)
            spawned.drain_output()
            self._log.info(
                "child.stopped",
                name=child.name,
                exit=_exit_in_words(returncode),
                took_s=round(time.monotonic() - began, 2),
            )
        if kept.keeper is not None:
            kept.keeper.cancel()
            await asyncio.wait({kept.keeper})
            kept.keeper = None
        if kept.became_ready is not None and not kept.became_ready.done():
            kept.became_ready.cancel()
        if kept.log_file is not None:
            kept.log_file.close()
            kept.log_file = None
        kept.spawned = None
        self._set(kept, "stopped")

    def _pause_s(self, deaths: int) -> float:
        limits = self._limits
        pause = min(limits.pause_max_s, limits.pause_first_s * 2.0 ** min(deaths, 30))
        return pause * (1.0 - limits.jitter_ratio * self._chance())

    def _start_failed(self, kept: _Kept, reason: str) -> StartFailed:
        lines: list[str] = []
        if self._log_dir is not None:
            lines = tail(self._log_path(kept.child.name), _LAST_LINES)
        return StartFailed(kept.child.name, reason, lines)

    def _log_path(self, name: str) -> Path:
        assert self._log_dir is not None
        return self._log_dir / f"{name}.log"

    def _log_writer(self, kept: _Kept) -> Callable[[bytes], None] | None:
        if self._log_dir is None:
            return None
        if kept.log_file is None:
            kept.log_file = RotatedFile(self._log_path(kept.child.name), self._log_files)
        return kept.log_file.write

    def _set(self, kept: _Kept, state: State) -> None:
        kept.state = state
        if self._hold is None:
            return
        self._write_state()
        if self._on_change is None:
            return
        try:
            self._on_change(self._state_of(kept))
        except Exception as error:  # noqa: BLE001 - nor must whoever only watches
            self._log.error("observer.failed", name=kept.child.name, reason=repr(error))

    def _state_of(self, kept: _Kept) -> ProcessState:
        spawned = kept.spawned
        return ProcessState(
            name=kept.child.name,
            kind=kept.child.kind,
            pid=spawned.pid if spawned else None,
            birth=spawned.birth if spawned else None,
            port=kept.child.port,
            state=kept.state,
            started_at=kept.started_at if spawned else None,
            restarts=kept.restarts,
            version=kept.child.version,
        )

    def _write_state(self) -> None:
        state = SupervisorState(
            supervisor=self.name,
            pid=os.getpid(),
            birth=self._birth,
            started_at=self._started_at,
            processes=self.states(),
        )
        try:
            write_state(self._data_dir, state)
        except OSError as error:
            # A full disk must not stop the supervision it only describes.
            self._log.error("state.unwritten", reason=str(error))


def _exit_in_words(returncode: int) -> str:
    if returncode >= 0:
        return f"exit status {returncode}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-returncode).name}"
    return f"killed by signal {-returncode}"


@contextlib.contextmanager
def _signals(handler: Callable[[int], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for signum in signals:
        loop.add_signal_handler(signum, handler, signum)
    try:
        yield
    finally:
        for signum in signals:
            loop.remove_signal_handler(signum)


async def run_until_signal(
    supervisor: Supervisor, *, on_ready: Callable[[], Awaitable[None]] | None = None
) -> int:
    """Start, call `on_ready`, wait for SIGINT, SIGTERM or SIGHUP, stop; a second signal kills.

    The exit status: 0 after a signal. Raises what `start` or `on_ready` raises, all stopped.
    """
    asked = asyncio.Event()

    def on_signal(_signum: int) -> None:
        if asked.is_set():
            supervisor.kill()
        asked.set()

    async def serve() -> None:
        await supervisor.start()
        if on_ready is not None:
            await on_ready()
        await asked.wait()

    with _signals(on_signal):
        serving = asyncio.ensure_future(serve())
        asking = asyncio.ensure_future(asked.wait())
        try:
            await asyncio.wait({serving, asking}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                serving.cancel()
            await asyncio.wait({serving})
            if not serving.cancelled():
                serving.result()
        finally:
            asking.cancel()
            await supervisor.stop()
    return 0


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
