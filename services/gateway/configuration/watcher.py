"""Keeps the snapshot in step with the database: a notification wakes it, a poll backs it up."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, Protocol

from gateway.configuration.draft import Draft, apply
from gateway.configuration.items import Changes
from gateway.configuration.snapshot import EMPTY, Snapshot
from gateway.configuration.targets import TargetMaker, TargetsInTime

log = logging.getLogger(__name__)

_RETRY_S: Final = 0.2


class ConfigurationSource(Protocol):
    """Where configuration is stored."""

    def changes_since(self, revision: int) -> AsyncGenerator[Changes, None]:
        """Everything after `revision`, everything there is when it is 0: one state, in parts.

        There is at least one part. Only the first may be full or hold what was deleted meanwhile.
        Raises OSError, TimeoutError or the store's own errors when it cannot be reached.
        """
        ...

    async def fingerprint(self) -> tuple[int, int]:
        """The newest revision, and the fingerprint of all there is."""
        ...

    async def listen(self, wake: Callable[[], None]) -> Awaitable[None]:
        """Calls `wake` at each notification; the awaitable ends when the connection is lost."""
        ...


class Configuration:
    """Holds the snapshot in force. Read `snapshot` once an exchange, so that it sees one state."""

    def __init__(
        self, source: ConfigurationSource, make_target: TargetMaker, poll_interval_s: float
    ) -> None:
        self.snapshot: Snapshot = EMPTY
        self._source = source
        self._poll_interval_s = poll_interval_s
        self._wake = asyncio.Event()
        self._targets = TargetsInTime(make_target, self._wake.set)
        self._changed = asyncio.Event()
        self._is_doubtful = False
        """The database may have become another one: a revision alone does not say so."""

    async def refresh(self) -> None:
        """Read what changed and swap the snapshot."""
        self._take_late_targets()
        await self._read_since(self.snapshot.revision)
        if self._is_doubtful:
            revision, fingerprint = await self._source.fingerprint()
            mine = self.snapshot
            if revision == mine.revision and fingerprint != mine.fingerprint:
                log.warning("configuration.differs revision=%d", revision)
                await self._read_since(0)
            # At another revision there is nothing to compare yet; whoever changed it woke us.
            self._is_doubtful = revision != mine.revision

    async def _read_since(self, revision: int) -> None:
        draft: Draft | None = None
        async with contextlib.aclosing(self._source.changes_since(revision)) as parts:
            async for part in parts:
                if draft is None:
                    if not part.is_full and part.revision == revision:
                        return
                    draft = Draft(EMPTY if part.is_full else self.snapshot)
                in_force = self.snapshot.target_by_setting
                is_first = self.snapshot is EMPTY
                draft.take(*await self._targets.of(part, in_force, is_first=is_first))
        if draft is not None:
            self._put_in_force(draft.done())

    def _put_in_force(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self, since: Snapshot, seconds: float) -> None:
        """Until another snapshot than `since` is in force, for so long at the most."""
        if self.snapshot is since:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()

    def _take_late_targets(self) -> None:
        items, targets = self._targets.take_late()
        if items:
            late = Changes(self.snapshot.revision, items, frozenset(), is_full=False)
            self._put_in_force(apply(self.snapshot, late, targets))

    async def run(self) -> None:
        """Follow the store until cancelled. An unreachable store leaves the last snapshot in force."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(), name="configuration.listen")
                tasks.create_task(self._follow(), name="configuration.follow")
        finally:
            await self._targets.close()

    async def _listen(self) -> None:
        is_again = False
        while True:
            try:
                lost = await self._source.listen(self._wake.set)
                # What changed while nobody listened was not announced to us.
                self._is_doubtful |= is_again
                self._wake.set()
                await lost
            except Exception as error:  # noqa: BLE001 - any failure of the store means: try again
                log.warning("configuration.listen_failed error=%r", error)
            is_again = True
            await asyncio.sleep(min(1.0, self._poll_interval_s))

    async def _follow(self) -> None:
        while True:
            # Not `wait_for`: that of Python 3.11 drops a cancellation that meets the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_interval_s):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - the last snapshot stays in force
                log.warning("configuration.refresh_failed error=%r", error)
                await asyncio.sleep(_RETRY_S)
                self._wake.set()
