"""`python -m gateway.secrets_command status|rotate`: looks after the sealing of provider secrets."""

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from contracts.config.provider_settings import ProviderSetting
from gateway.adapters.postgres import open_pool
from gateway.adapters.postgres_store import PostgresStore
from gateway.adapters.seal_keys import SealKeys, seal_keys
from gateway.adapters.sealer import open_sealer
from gateway.administration.store import Store, StoreUnavailable
from gateway.ports import SealBroken, Sealer, SealUnavailable
from gateway.progress_bar import Advance, progress_bar
from gateway.settings import GatewaySettings, load_settings
from runtime.output import say
from runtime.sealing import KEYS_MAX, BadKeys, KeyRing, SealKey, key_id_of, write_key_file
from runtime.settings import BadSettings

ACTOR: Final = "tollway secrets rotate"


class CannotRotate(Exception):
    """Nothing was changed; the message says why."""


class Status(msgspec.Struct, frozen=True):
    """`keys` are the ids of those that are here, newest first; `sealed` counts settings by what
    they are sealed with: a key's id, `clear` or `external`. `unreadable` holds reasons by setting.
    """

    keys: list[str]
    key_file: str
    sealed: dict[str, int]
    unreadable: dict[str, str]


class Rotation(msgspec.Struct, frozen=True):
    """`key` is the id that seals now (None: an endpoint does), `dropped` those that left the file."""

    key: str | None
    is_new: bool
    resealed: int
    unchanged: int
    dropped: list[str]
    dry_run: bool


def sealed_with(sealed: str) -> str:
    """A key's id, `clear` or `external`."""
    return key_id_of(sealed) or sealed.partition(" ")[0]


async def status(store: Store, sealer: Sealer, keys: SealKeys) -> Status:
    """What is stored, and whether it can be read here. Raises BadKeys, OSError, StoreUnavailable."""
    settings = await _with_secrets(store)
    return Status(
        keys=[key.id for key in keys.ring().keys],
        key_file=str(keys.path),
        sealed=dict(Counter(sealed_with(setting.sealed) for setting in settings)),
        unreadable=await _unreadable(settings, sealer, lambda: None),
    )


async def rotate(
    store: Store,
    sealer: Sealer,
    keys: SealKeys,
    *,
    seals_externally: bool,
    keeps_old: bool,
    is_dry: bool,
    progress: Callable[[int], contextlib.AbstractContextManager[Advance]],
) -> Rotation:
    """Seal everything anew, all or nothing. Raises CannotRotate, BadKeys, OSError, StoreUnavailable.

    The new key is in the file before anything is sealed with it, and the old ones leave it only
    when nothing is: whenever this ends, what is stored can be read with what is in the file.
    """
    makes_key = not (seals_externally or keys.fixed.keys)
    settings = await _with_secrets(store)
    with progress(2 * len(settings)) as advance:
        unreadable = await _unreadable(settings, sealer, advance)
        if unreadable:
            named = "; ".join(
                f"{setting_id}: {reason}" for setting_id, reason in unreadable.items()
            )
            raise CannotRotate(
                f"some secrets cannot be read, send them again or delete their settings: {named}"
            )
        old = keys.ring()
        if is_dry:
            resealed = (
                len(settings)
                if makes_key or seals_externally
                else sum(not sealer.is_current(setting.sealed) for setting in settings)
            )
            newest = old.newest
            return Rotation(
                key=None if makes_key or newest is None or seals_externally else newest.id,
                is_new=makes_key,
                resealed=resealed,
                unchanged=len(settings) - resealed,
                dropped=[key.id for key in old.keys] if makes_key and not keeps_old else [],
                dry_run=True,
            )
        if makes_key and len(old.keys) >= KEYS_MAX:
            raise CannotRotate(f"{keys.path} holds {KEYS_MAX} keys: take the last ones out of it")
        if makes_key:
            write_key_file(keys.path, KeyRing((SealKey.new(), *old.keys)))
        newest = keys.ring().newest
        resealed = await _reseal(
            store, sealer, settings, everything=seals_externally, advance=advance
        )
    dropped: list[str] = []
    if makes_key and not keeps_old and newest is not None:
        write_key_file(keys.path, KeyRing((newest,)))
        dropped = [key.id for key in old.keys]
    return Rotation(
        key=None if seals_externally or newest is None else newest.id,
        is_new=makes_key,
        resealed=resealed,
        unchanged=max(0, len(settings) - resealed),
        dropped=dropped,
        dry_run=False,
    )


async def _with_secrets(store: Store) -> list[ProviderSetting]:
    async with store.read() as reading:
        return [setting for setting in await reading.find(ProviderSetting) if setting.sealed]


async def _unreadable(
    settings: list[ProviderSetting], sealer: Sealer, advance: Advance
) -> dict[str, str]:
    found: dict[str, str] = {}
    for setting in settings:
        try:
            await sealer.unseal(setting.sealed, setting.id)
        except (SealBroken, SealUnavailable) as error:
            found[setting.id] = str(error)
        advance()
    return found


async def _reseal(
    store: Store,
    sealer: Sealer,
    settings: list[ProviderSetting],
    *,
    everything: bool,
    advance: Advance,
) -> int:
    """How many were sealed anew. Calls of endpoints are made before the transaction, not in it."""
    ready: dict[str, tuple[str, str]] = {}
    for setting in settings:
        if everything or not sealer.is_current(setting.sealed):
            ready[setting.id] = (setting.sealed, await _sealed_anew(setting, sealer))
        advance()
    resealed = 0
    async with store.change(ACTOR) as change:
        for setting in await change.find(ProviderSetting):
            before, sealed = ready.get(setting.id, ("", ""))
            if before != setting.sealed or not before:
                # New, or changed since it was read.
                if sealer.is_current(setting.sealed):
                    continue
                sealed = await _sealed_anew(setting, sealer)
            await change.put(setting.id, msgspec.structs.replace(setting, sealed=sealed))
            resealed += 1
    return resealed


async def _sealed_anew(setting: ProviderSetting, sealer: Sealer) -> str:
    return await sealer.seal(await sealer.unseal(setting.sealed, setting.id), setting.id)


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Two rotations at once would drop each other's keys. Raises CannotRotate."""
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRotate("another rotation is under way") from None
        yield
    finally:
        os.close(descriptor)


async def _run(arguments: argparse.Namespace, settings: GatewaySettings) -> int:
    keys = seal_keys(settings)
    async with open_pool(settings) as pool, open_sealer(settings) as sealer:
        store = PostgresStore(pool)
        if arguments.command == "status":
            found = await status(store, sealer, keys)
            _show(msgspec.to_builtins(found), as_json=arguments.as_json)
            return 1 if found.unreadable else 0
        with _only_one(keys.path):
            done = await rotate(
                store,
                sealer,
                keys,
                seals_externally=settings.enable_encryption,
                keeps_old=arguments.keep_old,
                is_dry=arguments.dry_run,
                progress=partial(progress_bar, "secrets"),
            )
        _show(msgspec.to_builtins(done), as_json=arguments.as_json)
        return 0


def _show(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        say(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            text = ", ".join(f"{key}: {one}" for key, one in value.items()) or "none"
        elif isinstance(value, list):
            text = ", ".join(value) or "none"
        elif isinstance(value, bool):
            text = "yes" if value else "no"
        else:
            text = "none" if value is None else str(value)
        say(f"{name.replace('_', ' '):<11} {text}")


def main() -> int:
    """Entry point. Status 1 when something cannot be read or done, 2 when the database is away."""
    parser = argparse.ArgumentParser(prog="python -m gateway.secrets_command", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    rotating = commands.add_parser("rotate", help="seal every secret with a new key")
    rotating.add_argument("--dry-run", action="store_true", help="print, change nothing")
    rotating.add_argument("--keep-old", action="store_true", help="leave older keys in the file")
    for command in (rotating, commands.add_parser("status", help="show what seals them")):
        command.add_argument("--json", action="store_true", dest="as_json")
    arguments = parser.parse_args()
    try:
        return asyncio.run(_run(arguments, load_settings()))
    except StoreUnavailable as error:
        sys.stderr.write(f"tollway: the configuration database does not answer: {error}\n")
        return 2
    except (BadSettings, BadKeys, CannotRotate, SealBroken, SealUnavailable, OSError) as error:
        sys.stderr.write(f"tollway: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
