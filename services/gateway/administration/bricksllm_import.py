"""Takes over the configuration of a BricksLLM installation: all in one transaction, or nothing.

What has an id that is here already stays as it is when both are the same. Where they are not, or
where a key, a path or a name is already another's, that is a conflict: nothing is written until
somebody says who wins.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Literal

import msgspec

from contracts.config.keys import ApiKey
from contracts.config.policies import Policy
from contracts.config.provider_settings import CustomProvider, ProviderSetting
from contracts.config.routes import Route
from contracts.config.users import User
from gateway.administration.bricksllm_rows import Remark
from gateway.administration.bricksllm_values import Advance, Taken
from gateway.administration.store import Change, Reading, Store
from gateway.ports import SealBroken, Sealer, SealUnavailable

ACTOR: Final = "tollway import bricksllm"

Progress = Callable[[int], AbstractContextManager[Advance]]

Resolution = Literal["", "keep", "replace"]
"""Who wins a conflict: what is here, or what is imported. "": nobody, so nothing is written."""

_KINDS: Final[dict[str, type[msgspec.Struct]]] = {
    "custom_providers": CustomProvider,
    "provider_settings": ProviderSetting,
    "policies": Policy,
    "keys": ApiKey,
    "users": User,
    "routes": Route,
}
"""Each after those that it refers to."""
_OWN_MEMBER: Final = {
    "custom_providers": ("provider", "name"),
    "keys": ("key_hash", "key"),
    "routes": ("path", "path"),
}
"""What only one of a kind may have, and what it is called."""


class Wishes(msgspec.Struct, frozen=True):
    """What whoever imports wants."""

    is_dry: bool = False
    skips_invalid: bool = False
    resolution: Resolution = ""


class Clash(msgspec.Struct, frozen=True):
    """A row that cannot simply be written, and what became of it; "" while nobody has decided."""

    table: str
    id: str
    text: str
    outcome: Literal["", "kept", "replaced", "left out"]


class TableCount(msgspec.Struct):
    """How the rows of a table fare. `kept` and `replaced` are what is here, in a conflict."""

    found: int = 0
    imported: int = 0
    already_there: int = 0
    kept: int = 0
    replaced: int = 0
    left_out: int = 0


class Report(msgspec.Struct, frozen=True):
    """`refused` says that invalid rows or conflicts stand in the way: nothing is written then."""

    dry_run: bool
    refused: bool
    written: bool
    tables: dict[str, TableCount]
    invalid: list[Remark]
    conflicts: list[Clash]
    notes: list[Remark]


class _Plan(msgspec.Struct):
    """What to write, in its order, and what stands in the way."""

    counts: dict[str, TableCount]
    writes: list[tuple[str, msgspec.Struct]] = []
    clashes: list[Clash] = []
    is_refused: bool = False


async def import_all(
    taken: Taken, store: Store, sealer: Sealer, wishes: Wishes, progress: Progress
) -> Report:
    """`progress` is told how many are written. Raises SealUnavailable, StoreUnavailable."""
    async with store.read() as reading:
        plan = await _planned(taken, reading, sealer, wishes)
    # Asking an endpoint to encrypt may take seconds: not while every other writer waits.
    sealed = {
        item_id: await sealer.seal(taken.secrets[item_id], item_id)
        for item_id, value in plan.writes
        if isinstance(value, ProviderSetting)
    }
    if plan.is_refused or wishes.is_dry or not plan.writes:
        return _report(taken, plan, wishes, is_written=False)
    async with store.change(ACTOR) as change:
        plan = await _planned(taken, change, sealer, wishes)
        if not plan.is_refused:
            with progress(len(plan.writes)) as advance:
                for item_id, value in plan.writes:
                    await change.put(item_id, await _sealed(item_id, value, taken, sealed, sealer))
                    advance()
    return _report(taken, plan, wishes, is_written=not plan.is_refused)


async def _sealed(
    item_id: str, value: msgspec.Struct, taken: Taken, sealed: Mapping[str, str], sealer: Sealer
) -> msgspec.Struct:
    """With its secrets sealed as they are to be now: the key may have changed meanwhile."""
    if not isinstance(value, ProviderSetting):
        return value
    text = sealed.get(item_id)
    if text is None or not sealer.is_current(text):
        text = await sealer.seal(taken.secrets[item_id], item_id)
    return msgspec.structs.replace(value, sealed=text)


def _report(taken: Taken, plan: _Plan, wishes: Wishes, *, is_written: bool) -> Report:
    return Report(
        dry_run=wishes.is_dry,
        refused=plan.is_refused,
        written=is_written,
        tables=plan.counts,
        invalid=taken.invalid,
        conflicts=plan.clashes,
        notes=taken.notes,
    )


async def _planned(
    taken: Taken, reading: Reading | Change, sealer: Sealer, wishes: Wishes
) -> _Plan:
    plan = _Plan(counts={table: TableCount() for table in _KINDS})
    id_here: dict[str, str] = {}
    for table, kind in _KINDS.items():
        values: dict[str, Any] = getattr(taken, table)
        here = {_id_of(value): value for value in await reading.find(kind)}
        member, name = _OWN_MEMBER.get(table, ("", ""))
        owners = {getattr(value, member): item_id for item_id, value in here.items() if member}
        count = plan.counts[table]
        wrong = sum(remark.table == table for remark in taken.invalid)
        count.found, count.left_out = len(values) + wrong, wrong
        for item_id, as_taken in values.items():
            value = _renamed(as_taken, id_here)
            owner = owners.get(getattr(value, member)) if member else None
            if owner not in (None, item_id):
                text = f"{owner} has the same {name} here"
                _clash(
                    plan, table, item_id, text, "left out" if wishes.resolution == "keep" else ""
                )
                count.left_out += wishes.resolution == "keep"
                id_here[item_id] = str(owner)
            elif item_id not in here:
                count.imported += 1
                plan.writes.append((item_id, value))
            elif await _is_same(here[item_id], value, taken, sealer):
                count.already_there += 1
            elif wishes.resolution == "replace":
                _clash(plan, table, item_id, _DIFFERS, "replaced")
                count.replaced += 1
                plan.writes.append((item_id, value))
            else:
                _clash(plan, table, item_id, _DIFFERS, "kept" if wishes.resolution else "")
                count.kept += bool(wishes.resolution)
    undecided = any(not clash.outcome for clash in plan.clashes)
    plan.is_refused = undecided or bool(taken.invalid and not wishes.skips_invalid)
    return plan


_DIFFERS: Final = "is here already, and is not the same"


def _clash(
    plan: _Plan,
    table: str,
    item_id: str,
    text: str,
    outcome: Literal["", "kept", "replaced", "left out"],
) -> None:
    plan.clashes.append(Clash(table, item_id, text, outcome))


def _id_of(value: Any) -> str:
    return str(value.key_id if isinstance(value, ApiKey) else value.id)


def _renamed(value: Any, id_here: Mapping[str, str]) -> Any:
    """With the ids that its keys have here, where these are other ones."""
    if not (id_here and isinstance(value, User | Route)):
        return value
    return msgspec.structs.replace(value, key_ids=_each_once(value.key_ids, id_here))


def _each_once(ids: Sequence[str], id_here: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(id_here.get(one, one) for one in ids))


async def _is_same(here: Any, value: Any, taken: Taken, sealer: Sealer) -> bool:
    """Secrets that can no longer be read are taken for other ones."""
    if not isinstance(here, ProviderSetting):
        return bool(here == value)
    if msgspec.structs.replace(here, sealed="") != value:
        return False
    try:
        return await sealer.unseal(here.sealed, here.id) == taken.secrets[here.id]
    except (SealBroken, SealUnavailable):
        return False
