"""Keeps the snapshot in step with the database: a notification wakes it, a poll backs it up."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from contracts.config.provider_settings import ProviderSetting
from gateway.configuration.items import Changes
from gateway.configuration.snapshot import EMPTY, Snapshot, apply
from gateway.values import Target

log = logging.getLogger(__name__)

TargetMaker = Callable[[ProviderSetting, int], Awaitable[Target]]
"""From a setting and its revision."""


async def make_targets(changes: Changes, make_target: TargetMaker) -> dict[str, Target]:
    """Targets of the changed settings by id; one that cannot be called is left out, loudly."""
    targets: dict[str, Target] = {}
    for item in changes.items:
        setting = item.value
        if not isinstance(setting, ProviderSetting):
            continue
        try:
            targets[item.id] = await make_target(setting, item.revision)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, it cannot be called
            # The kind only: the text of some errors holds what the setting holds.
            log.error(
                "configuration.setting_unusable id=%s error=%s", item.id, type(error).__name__
            )
    return targets


class ConfigurationSource(Protocol):
    """Where configuration is stored."""

    async def changes_since(self, revision: int) -> Changes:
        """Everything after `revision`; everything there is when it is 0.

        Raises OSError, TimeoutError or the store's own errors when it cannot be reached.
        """
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
        self._make_target = make_target
        self._poll_interval_s = poll_interval_s
        self._wake = asyncio.Event()

    async def refresh(self) -> None:
        """Read what changed and swap the snapshot."""
        changes = await self._source.changes_since(self.snapshot.revision)
        if changes.is_full or changes.revision != self.snapshot.revision:
            self.snapshot = apply(
                self.snapshot, changes, await make_targets(changes, self._make_target)
            )

    async def run(self) -> None:
        """Follow the store until cancelled. An unreachable store leaves the last snapshot in force."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(), name="configuration.listen")
            tasks.create_task(self._follow(), name="configuration.follow")

    async def _listen(self) -> None:
        while True:
            try:
                lost = await self._source.listen(self._wake.set)
                # What changed while nobody listened was not announced to us.
                self._wake.set()
                await lost
            except Exception as error:  # noqa: BLE001 - any failure of the store means: try again
                log.warning("configuration.listen_failed error=%r", error)
            await asyncio.sleep(min(1.0, self._poll_interval_s))

    async def _follow(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), self._poll_interval_s)
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - the last snapshot stays in force
                log.warning("configuration.refresh_failed error=%r", error)
                await asyncio.sleep(0.2)
