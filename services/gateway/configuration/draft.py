"""Makes the next snapshot out of the last one and what changed."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from contracts.config.keys import ApiKey
from contracts.config.users import User
from gateway.configuration.fingerprint import added, fingerprint_of, taken
from gateway.configuration.items import Changes, Item
from gateway.configuration.principals import end_user_of, principal_of
from gateway.configuration.snapshot import EMPTY, INDEX_BY_KIND, Snapshot, in_order
from gateway.configuration.table import Table, TableDraft
from gateway.values import Target

log = logging.getLogger(__name__)

_NO_ITEMS: Table[str, Item] = Table()


def apply(snapshot: Snapshot, changes: Changes, targets: Mapping[str, Target]) -> Snapshot:
    """The next snapshot, of changes that came in one part; see Draft."""
    draft = Draft(EMPTY if changes.is_full else snapshot)
    draft.take(changes, targets)
    return draft.done()


class Draft:
    """The next snapshot while it is made. What changed may come in parts, in any order of ids."""

    def __init__(self, base: Snapshot) -> None:
        self._base = base
        self._revision = base.revision
        self._fingerprint = base.fingerprint
        self._principals = TableDraft(base.principal_by_digest)
        self._keys = TableDraft(base.principal_by_key_id)
        self._users = TableDraft(base.user_by_id)
        self._users_by_user_id = TableDraft(base.users_by_user_id)
        self._targets = TableDraft(base.target_by_setting)
        self._items: dict[str, TableDraft[str, Item]] = {}
        self._indexes: dict[str, TableDraft[str, Any]] = {}
        self._unusable = dict(base.unusable)
        self._shared: dict[Any, Any] = {}

    def take(self, changes: Changes, targets: Mapping[str, Target]) -> None:
        """Puts and drops. `targets` holds what was made of the changed settings.

        One that could not be made must not keep the others, or a revocation, from taking effect: it
        is left out, and its keys are told that they have no provider setting.
        """
        self._revision = changes.revision
        for kind, item_id in changes.deleted:
            self._drop(kind, item_id)
        for broken in changes.broken:
            self._drop(broken.kind, broken.id)
            self._leave_out(broken.kind, broken.id, broken.revision)
        for item in changes.items:
            self._drop(item.kind, item.id)
            if isinstance(item.value, ApiKey):
                self._put_key(item, item.value)
            elif isinstance(item.value, User):
                self._put_user(item, item.value)
            elif item.kind == "provider_setting":
                self._put_target(item, targets.get(item.id))
            elif item.kind in INDEX_BY_KIND:
                self._put_item(item)

    def done(self) -> Snapshot:
        """The snapshot. The draft must not be used after that."""
        items = dict(self._base.items)
        tables: dict[str, Any] = {}
        for kind, draft in self._items.items():
            items[kind] = draft.done()
            name, _ = INDEX_BY_KIND[kind]
            if name:
                tables[name] = self._indexes[kind].done()
            else:
                tables["aliases"] = in_order(items[kind])
        for name in ("aliases", *(name for name, _ in INDEX_BY_KIND.values() if name)):
            tables.setdefault(name, getattr(self._base, name))
        return Snapshot(
            revision=self._revision,
            fingerprint=self._fingerprint,
            principal_by_digest=self._principals.done(),
            principal_by_key_id=self._keys.done(),
            users_by_user_id=self._users_by_user_id.done(),
            user_by_id=self._users.done(),
            target_by_setting=self._targets.done(),
            unusable=self._unusable,
            items=items,
            **tables,
        )

    def _drop(self, kind: str, item_id: str) -> None:
        revision = self._unusable.pop((kind, item_id), None)
        if revision is not None:
            self._take(kind, item_id, revision)
        elif kind == "key":
            self._drop_key(item_id)
        elif kind == "user":
            self._drop_user(item_id)
        elif kind == "provider_setting":
            self._drop_target(item_id)
        elif kind in INDEX_BY_KIND:
            self._drop_item(kind, item_id)

    def _leave_out(self, kind: str, item_id: str, revision: int) -> None:
        self._unusable[kind, item_id] = revision
        self._add(kind, item_id, revision)

    def _put_key(self, item: Item, key: ApiKey) -> None:
        try:
            if key.key_id != item.id:
                raise ValueError(f"is stored under {item.id!r}")
            principal = principal_of(key, item.revision, self._share)
        except ValueError as error:
            log.error("configuration.key_unusable id=%s error=%s", key.key_id, error)
            self._leave_out("key", item.id, item.revision)
            return
        self._principals.put(principal.digest, principal)
        self._keys.put(principal.key_id, principal)
        self._add("key", item.id, item.revision)

    def _drop_key(self, key_id: str) -> None:
        principal = self._keys.drop(key_id)
        if principal is None:
            return
        # Another key may have got its digest by now, and may have come first.
        if self._principals.get(principal.digest) is principal:
            self._principals.drop(principal.digest)
        self._take("key", key_id, principal.revision)

    def _put_user(self, item: Item, user: User) -> None:
        try:
            one = end_user_of(user, item.revision, self._share)
        except ValueError as error:
            log.error("configuration.user_unusable id=%s error=%s", user.id, error)
            # Left out, they would be a user nobody described, who may do everything.
            barred = msgspec.structs.replace(user, ttl="", revoked=True)
            one = end_user_of(barred, item.revision, self._share)
        others = self._users_by_user_id.get(one.user_id) or ()
        self._users.put(one.id, one)
        self._users_by_user_id.put(one.user_id, (*others, one))
        self._add("user", item.id, item.revision)

    def _drop_user(self, item_id: str) -> None:
        user = self._users.drop(item_id)
        if user is None:
            return
        before = self._users_by_user_id.get(user.user_id) or ()
        others = tuple(one for one in before if one.id != user.id)
        if others:
            self._users_by_user_id.put(user.user_id, others)
        else:
            self._users_by_user_id.drop(user.user_id)
        self._take("user", item_id, user.revision)

    def _put_target(self, item: Item, target: Target | None) -> None:
        if target is None:
            self._leave_out("provider_setting", item.id, item.revision)
            return
        self._targets.put(item.id, target)
        self._add("provider_setting", item.id, item.revision)

    def _drop_target(self, setting_id: str) -> None:
        target = self._targets.drop(setting_id)
        if target is not None:
            self._take("provider_setting", setting_id, target.ref.revision)

    def _put_item(self, item: Item) -> None:
        items, index, member = self._of(item.kind)
        items.put(item.id, item)
        if member:
            index.put(getattr(item.value, member), item.value)
        self._add(item.kind, item.id, item.revision)

    def _drop_item(self, kind: str, item_id: str) -> None:
        items, index, member = self._of(kind)
        item = items.drop(item_id)
        if item is None:
            return
        # As with keys: its name may be another's by now.
        if member and index.get(getattr(item.value, member)) is item.value:
            index.drop(getattr(item.value, member))
        self._take(kind, item_id, item.revision)

    def _of(self, kind: str) -> tuple[TableDraft[str, Item], TableDraft[str, Any], str]:
        """Its items, its index, and the member that the index is by."""
        name, member = INDEX_BY_KIND[kind]
        if kind not in self._items:
            self._items[kind] = TableDraft(self._base.items.get(kind, _NO_ITEMS))
            self._indexes[kind] = TableDraft(getattr(self._base, name) if name else Table())
        return self._items[kind], self._indexes[kind], member

    def _add(self, kind: str, item_id: str, revision: int) -> None:
        self._fingerprint = added(self._fingerprint, fingerprint_of(kind, item_id, revision))

    def _take(self, kind: str, item_id: str, revision: int) -> None:
        self._fingerprint = taken(self._fingerprint, fingerprint_of(kind, item_id, revision))

    def _share(self, value: Any) -> Any:
        """The same value as before, for what many keys have alike."""
        return self._shared.setdefault(value, value)
