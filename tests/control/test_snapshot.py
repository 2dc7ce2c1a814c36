"""The read model of the data plane: whatever the order of changes, it is what a fresh load gives."""

import asyncio
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stores import PostgresDatabase
from support.workers import store

from contracts.config.keys import ApiKey, TagLimits
from contracts.config.policies import Policy
from contracts.config.provider_settings import CustomProvider, ModelAlias, ProviderSetting
from contracts.config.routes import Route
from contracts.config.users import User
from contracts.exchange import SettingRef
from gateway.adapters.postgres import open_pool
from gateway.adapters.postgres_config import ROWS_A_PART, PostgresConfiguration
from gateway.configuration.draft import Draft, apply
from gateway.configuration.items import Broken, Changes, Item
from gateway.configuration.snapshot import EMPTY, KINDS, Snapshot
from gateway.configuration.table import Table, TableDraft
from gateway.configuration.watcher import Configuration
from gateway.settings import GatewaySettings
from gateway.values import Target
from runtime.settings import Secret

NAMES = "abcd"


def value_of(kind: str, item_id: str, name: str) -> msgspec.Struct:
    """A value with that id whose unique member, or user id, is `name`."""
    times: dict[str, Any] = {"created_at": ord(name), "updated_at": 2}
    if kind == "key":
        digest = sha256(name.encode()).hexdigest()
        return ApiKey(
            key_id=item_id, key_hash=digest, name=name, setting_ids=(), tags=(name,), **times
        )
    if kind == "user":
        return User(id=item_id, user_id=name, name=name, **times)
    if kind == "provider_setting":
        return ProviderSetting(id=item_id, provider="openai", name=name, **times)
    if kind == "custom_provider":
        return CustomProvider(id=item_id, provider=name, **times)
    if kind == "route":
        return Route(id=item_id, name=name, path=name, **times)
    if kind == "policy":
        return Policy(id=item_id, name=name, **times)
    if kind == "tag_limits":
        return TagLimits(tag=item_id, **times)
    return ModelAlias(id=item_id, alias=name, model="m", position=ord(name) % 2, **times)


def target_of(item: Item) -> Target:
    """Nothing is called here: a target is told by its reference."""
    fields = dict.fromkeys(field.name for field in msgspec.structs.fields(Target))
    return Target(**fields | {"ref": SettingRef(item.id, item.revision, "openai")})  # type: ignore[arg-type]


SHARES_A_NAME = {"user", "provider_setting", "policy", "tag_limits"}
OPERATIONS = st.tuples(
    st.sampled_from("1234"), st.sampled_from([*NAMES, *NAMES, "deleted", "broken"])
)
Stored = dict[tuple[str, str], tuple[str, int]]


def shown(snapshot: Snapshot) -> dict[str, object]:
    """All of a snapshot, comparable: users of one name may come in any order."""
    told: dict[str, object] = {}
    for field in msgspec.structs.fields(Snapshot):
        value = getattr(snapshot, field.name)
        told[field.name] = dict(value) if isinstance(value, Table) else value
    told["items"] = {kind: dict(table) for kind, table in snapshot.items.items() if table}
    told["users_by_user_id"] = {
        user_id: {one.id: one for one in users}
        for user_id, users in snapshot.users_by_user_id.items()
    }
    return told


def changes_of(stored: Stored, since: int, revision: int, *, is_full: bool) -> Changes:
    """What a reader of `stored` gets."""
    items = [
        Item(kind, item_id, at, value_of(kind, item_id, name))
        for (kind, item_id), (name, at) in stored.items()
        if at > since and name in NAMES
    ]
    broken = [
        Broken(kind, item_id, at)
        for (kind, item_id), (name, at) in stored.items()
        if at > since and name == "broken"
    ]
    gone = [key for key, (name, at) in stored.items() if at > since and name == "deleted"]
    return Changes(revision, tuple(items), frozenset(gone), is_full, tuple(broken))


def targets_of(changes: Changes) -> dict[str, Target]:
    """Of all settings but those named d, which cannot be called."""
    return {
        item.id: target_of(item)
        for item in changes.items
        if isinstance(item.value, ProviderSetting) and item.value.name != "d"
    }


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(
    batches=st.lists(st.lists(OPERATIONS, max_size=8), max_size=6),
    size=st.integers(1, 5),
    random=st.randoms(use_true_random=False),
)
def test_changes_in_any_order_and_parts_end_in_what_a_fresh_load_gives(kind, batches, size, random):
    """Also where a name goes from one value to another within one transaction."""
    # What a change of one kind does to the others is none.
    stored: Stored = {(other, "5"): ("a", 1) for other in KINDS if other != kind}
    snapshot = EMPTY
    for revision, batch in enumerate([[], *batches], 1):
        for item_id, name in batch:
            taken = {one for (other, _), (one, _) in stored.items() if other == kind}
            if kind in SHARES_A_NAME or name not in NAMES or name not in taken:
                stored[kind, item_id] = (name, revision)
        changes = changes_of(stored, revision - 1, revision, is_full=False)
        items = list(changes.items)
        random.shuffle(items)
        draft = Draft(snapshot)
        draft.take(msgspec.structs.replace(changes, items=()), {})
        for start in range(0, len(items), size):
            part = Changes(revision, tuple(items[start : start + size]), frozenset(), is_full=False)
            draft.take(part, targets_of(part))
        snapshot = draft.done()

        everything = changes_of(stored, 0, revision, is_full=True)
        assert shown(snapshot) == shown(apply(EMPTY, everything, targets_of(everything)))


def test_a_snapshot_that_was_taken_stays_as_it_was():
    """Whoever reads it sees one state, whatever comes after."""
    stored: Stored = {(kind, "1"): ("a", 1) for kind in KINDS}
    full = changes_of(stored, 0, 1, is_full=True)
    before = apply(EMPTY, full, targets_of(full))
    told = shown(before)

    after = apply(before, Changes(2, (), frozenset(stored), is_full=False), {})

    assert shown(before) == told
    assert shown(after) == shown(EMPTY) | {"revision": 2}
    assert after.fingerprint == 0


@given(
    entries=st.dictionaries(st.integers(0, 2000), st.integers()),
    writes=st.lists(st.tuples(st.integers(0, 2000), st.integers() | st.none())),
)
def test_a_table_is_a_mapping_and_its_drafts_do_not_change_it(entries, writes):
    """Against a dict."""
    first: TableDraft[int, int] = TableDraft(Table())
    for key, value in entries.items():
        first.put(key, value)
    table = first.done()
    draft, expected = TableDraft(table), dict(entries)
    for key, value in writes:
        if value is None:
            assert draft.drop(key) == expected.pop(key, None)
        else:
            draft.put(key, value)
            expected[key] = value
        assert draft.get(key) == expected.get(key)

    assert dict(table) == entries
    assert dict(draft.done()) == expected
    assert len(draft.done()) == len(expected)
    assert (0 in table, table.get(0, -1)) == (0 in entries, entries.get(0, -1))


KILL_LISTENERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
)


async def no_target(_: ProviderSetting, __: int) -> Target:
    raise ValueError("nothing is called here")


@pytest.fixture
def url(postgres: PostgresDatabase) -> str:
    """A database with some values of every kind, in more than one part."""
    values = [
        (item_id, value_of(kind, item_id, name))
        for kind in KINDS
        for item_id, name in zip("1234", NAMES, strict=True)
    ]
    many = [
        (f"many {number}", value_of("user", f"many {number}", f"n{number}"[0]))
        for number in range(ROWS_A_PART)
    ]
    store(postgres.url, *values, *many)
    return postgres.url


async def test_the_database_works_out_the_same_fingerprint(url):
    """Of everything that is stored, also of what cannot be in force."""
    database = GatewaySettings(postgres_url=Secret(url))
    async with open_pool(database) as pool:
        source = PostgresConfiguration(pool, database)
        configuration = Configuration(source, no_target, 60)
        await configuration.refresh()
        snapshot = configuration.snapshot

        assert await source.fingerprint() == (snapshot.revision, snapshot.fingerprint)
        assert set(snapshot.unusable) == {("provider_setting", item_id) for item_id in "1234"}
        assert len(snapshot.user_by_id) == 4 + ROWS_A_PART

        await pool.execute("DELETE FROM configuration_items WHERE kind = 'user' AND id = '1'")
        assert await source.fingerprint() != (snapshot.revision, snapshot.fingerprint)


async def until_gone(configuration: Configuration, key_id: str) -> None:
    async with asyncio.timeout(60):
        while key_id in configuration.snapshot.principal_by_key_id:
            await configuration.wait_for_change(configuration.snapshot, 1)


async def test_a_database_put_back_and_written_to_since_is_read_anew(url):
    """Its revisions go on from an older one, so that they alone do not tell."""
    database = GatewaySettings(postgres_url=Secret(url))
    async with open_pool(database) as pool:
        source = PostgresConfiguration(pool, database)
        configuration = Configuration(source, no_target, 60)
        await configuration.refresh()
        revision = configuration.snapshot.revision
        # As a restore leaves it: one key is not there, another change has its revision.
        await pool.execute("DELETE FROM configuration_items WHERE kind = 'key' AND id = '1'")
        assert "1" in configuration.snapshot.principal_by_key_id

        following = asyncio.create_task(configuration.run())
        try:
            while not await pool.fetch(KILL_LISTENERS):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.02)
            await until_gone(configuration, "1")
        finally:
            following.cancel()
            await asyncio.wait([following])
        assert configuration.snapshot.revision == revision
        assert await source.fingerprint() == (revision, configuration.snapshot.fingerprint)


class FailingOnce(PostgresConfiguration):
    """Its first attempt to listen fails."""

    has_failed = False

    async def listen(self, wake):
        if not self.has_failed:
            self.has_failed = True
            raise ConnectionResetError
        return await super().listen(wake)


async def test_a_database_put_back_before_anybody_listened_is_read_anew(url):
    """The first attempt to listen failed: nobody knows what became of it since it was read."""
    database = GatewaySettings(postgres_url=Secret(url))
    async with open_pool(database) as pool:
        configuration = Configuration(FailingOnce(pool, database), no_target, 60)
        await configuration.refresh()
        await pool.execute("DELETE FROM configuration_items WHERE kind = 'key' AND id = '1'")
        following = asyncio.create_task(configuration.run())
        try:
            await until_gone(configuration, "1")
        finally:
            following.cancel()
            await asyncio.wait([following])


async def test_what_no_notification_announced_is_found_by_polling(url):
    """The backstop of a connection that is lost and does not know it."""
    database = GatewaySettings(postgres_url=Secret(url))
    async with open_pool(database) as pool:
        configuration = Configuration(PostgresConfiguration(pool, database), no_target, 0.05)
        await configuration.refresh()
        following = asyncio.create_task(configuration.run())
        try:
            await pool.execute(
                "UPDATE configuration_items SET document = document || '{\"revoked\": true}',"
                " revision = nextval('configuration_revision') WHERE kind = 'key' AND id = '1'"
            )
            async with asyncio.timeout(60):
                while not configuration.snapshot.principal_by_key_id["1"].is_revoked:
                    await configuration.wait_for_change(configuration.snapshot, 1)
        finally:
            following.cancel()
            await asyncio.wait([following])
