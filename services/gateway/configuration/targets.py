"""Targets of provider settings, whose secrets may take long to unseal, or not be readable now.

Nobody waits for them: what is ready at once goes into force with everything else, the rest when it
is ready. Until then the setting stays in force as it was, whole: a new address must not be called
with an old credential.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from contracts.config.provider_settings import ProviderSetting
from gateway.configuration.items import Changes, Item
from gateway.ports import SealUnavailable
from gateway.values import Target

log = logging.getLogger(__name__)

TargetMaker = Callable[[ProviderSetting, int], Awaitable[Target]]
"""From a setting and its revision. Raises SealUnavailable when the same may succeed later."""

WAIT_S: Final = 0.1
"""For secrets that are unsealed by a call; a revocation beside them waits as long."""
FIRST_WAIT_S: Final = 10.0
"""At the start, when there is nothing in force that could be revoked."""
RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 30.0


class TargetsInTime:
    """Makes targets. `wake` is called when a late one is ready to be taken."""

    def __init__(self, make_target: TargetMaker, wake: Callable[[], None]) -> None:
        self._make_target = make_target
        self._wake = wake
        self._late: dict[str, asyncio.Task[None]] = {}
        self._ready: dict[str, tuple[Item, Target | None]] = {}

    async def of(
        self, changes: Changes, in_force: Mapping[str, Target], *, is_first: bool = False
    ) -> tuple[Changes, dict[str, Target]]:
        """What goes into force now: the changes, and targets of their settings by id.

        In place of a late setting stands what is `in_force`, at its own revision; nothing when
        nothing is. One that cannot be called has no target, loudly.
        """
        if changes.is_full:
            await self.close()
        settings = {item.id: item for item in changes.items if item.kind == "provider_setting"}
        for kind, item_id in changes.deleted:
            if kind == "provider_setting":
                self._forget(item_id)
        for broken in changes.broken:
            if broken.kind == "provider_setting":
                self._forget(broken.id)
        attempts: dict[str, asyncio.Task[Target]] = {}
        for item in settings.values():
            self._forget(item.id)
            attempts[item.id] = asyncio.create_task(self._made(item))
        if attempts:
            try:
                await asyncio.wait(attempts.values(), timeout=FIRST_WAIT_S if is_first else WAIT_S)
            except asyncio.CancelledError:
                for attempt in attempts.values():
                    attempt.cancel()
                raise
        targets: dict[str, Target] = {}
        items = [item for item in changes.items if item.kind != "provider_setting"]
        for item_id, attempt in attempts.items():
            item = settings[item_id]
            if attempt.done() and not _is_to_be_repeated(attempt):
                target = _outcome(item_id, attempt)
            else:
                self._late[item_id] = asyncio.create_task(
                    self._later(item, attempt), name="configuration.target"
                )
                target = in_force.get(item_id)
                if target is None:
                    continue
                item = msgspec.structs.replace(item, revision=target.ref.revision)
            items.append(item)
            if target is not None:
                targets[item_id] = target
        return msgspec.structs.replace(changes, items=tuple(items)), targets

    def take_late(self) -> tuple[tuple[Item, ...], dict[str, Target]]:
        """Settings that have become ready since, and their targets: without one, out of force."""
        ready, self._ready = self._ready, {}
        items = tuple(item for item, _ in ready.values())
        return items, {item.id: target for item, target in ready.values() if target is not None}

    async def close(self) -> None:
        """No late one comes any more."""
        late = list(self._late.values())
        self._late.clear()
        self._ready.clear()
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _made(self, item: Item) -> Target:
        assert isinstance(item.value, ProviderSetting)
        return await self._make_target(item.value, item.revision)

    async def _later(self, item: Item, attempt: asyncio.Task[Target]) -> None:
        """Tries until there is an outcome; whoever is cancelled leaves no attempt behind."""
        pause_s = RETRY_FIRST_S
        try:
            while True:
                await asyncio.wait([attempt])
                if not _is_to_be_repeated(attempt):
                    break
                if pause_s == RETRY_FIRST_S:
                    log.warning(
                        "configuration.setting_waits id=%s reason=%s", item.id, attempt.exception()
                    )
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)
                attempt = asyncio.create_task(self._made(item))
        finally:
            attempt.cancel()
        self._ready[item.id] = (item, _outcome(item.id, attempt))
        self._late.pop(item.id, None)
        self._wake()

    def _forget(self, item_id: str) -> None:
        self._ready.pop(item_id, None)
        task = self._late.pop(item_id, None)
        if task is not None:
            task.cancel()


def _is_to_be_repeated(attempt: asyncio.Task[Target]) -> bool:
    return not attempt.cancelled() and isinstance(attempt.exception(), SealUnavailable)


def _outcome(item_id: str, attempt: asyncio.Task[Target]) -> Target | None:
    """What an attempt made; None, loudly, when the setting cannot be called."""
    error = None if attempt.cancelled() else attempt.exception()
    if error is not None:
        # The kind only: the text of some errors holds what the setting holds.
        log.error("configuration.setting_unusable id=%s error=%s", item_id, type(error).__name__)
        return None
    return None if attempt.cancelled() else attempt.result()
