"""Migrations against real servers: idempotent, harmless when two run, forward only."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import nats
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from support.bricksllm import bricks_database
from support.servers import RunningServer
from support.stores import ClickHouseDatabase, NatsServer, PostgresDatabase

from contracts import subjects
from infra.migrations import migrate
from infra.migrations.clickhouse import migrate_clickhouse
from infra.migrations.files import MigrationChanged
from infra.migrations.migrate import StoreFailed
from infra.migrations.nats import migrate_nats
from infra.migrations.postgres import migrate_postgres
from infra.migrations.settings import MigrationSettings
from runtime.settings import Duration, Secret


@pytest.fixture
def settings(
    nats_server: NatsServer, clickhouse: ClickHouseDatabase, postgres: PostgresDatabase
) -> MigrationSettings:
    """All three stores; the two with tables have been migrated by their fixtures."""
    return nats_server.migration_settings(
        clickhouse_url=clickhouse.url,
        clickhouse_database=clickhouse.database,
        postgres_url=Secret(postgres.url),
    )


async def test_a_second_run_has_nothing_to_do(settings: MigrationSettings) -> None:
    """Everything a run made is found in place by the next."""
    first = await migrate(settings)
    assert [line for line in first if "price book" not in line] == [
        "nats: EXCHANGES",
        "nats: DEAD_LETTERS",
        "nats: KV_CHECKPOINTS",
        "nats: KV_MEMBERS",
        "nats: KV_PRICE_BOOKS",
    ]
    assert await migrate(settings) == []


async def test_two_runs_at_once_do_no_harm(settings: MigrationSettings) -> None:
    """Both end well, and a third finds nothing to do."""
    await asyncio.gather(*(migrate(settings) for _ in range(3)))
    assert await migrate(settings) == []


async def test_a_dry_run_names_everything_and_changes_nothing(
    nats_server: NatsServer, clickhouse: ClickHouseDatabase, postgres: PostgresDatabase
) -> None:
    """Against stores that are there but empty."""
    settings = nats_server.migration_settings(
        clickhouse_url=clickhouse.url,
        clickhouse_database="never_made",
        postgres_url=Secret(postgres.url.replace(postgres.database, "never_made")),
    )
    lines = await migrate(settings, dry_run=True)
    assert "clickhouse: 0001_pre_ledger.sql" in lines
    assert "nats: EXCHANGES" in lines
    client = clickhouse.client()
    assert client.command("SELECT count() FROM system.databases WHERE name = 'never_made'") == 0
    client.close()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(postgres.url.replace(postgres.database, "never_made"))
    connection = await nats.connect(nats_server.url, connect_timeout=60)
    assert await connection.jetstream(timeout=60).streams_info() == []
    await connection.close()


async def test_the_exchange_stream_refuses_instead_of_forgetting(nats_server: NatsServer) -> None:
    """On disk, no age limit, full means refused; and a bigger disk is one setting away."""
    await nats_server.migrate(stream_bytes_max=1 << 20)
    connection = await nats.connect(nats_server.url, connect_timeout=60)
    jetstream = connection.jetstream(timeout=60)
    config = (await jetstream.stream_info(subjects.EXCHANGES_STREAM)).config
    assert config.storage == StorageType.FILE
    assert config.retention == RetentionPolicy.LIMITS
    assert config.discard == DiscardPolicy.NEW
    assert config.max_age == 0
    assert config.allow_direct
    parcel = bytes(300_000)
    for _ in range(3):
        await jetstream.publish(subjects.exchanges_subject(7), parcel)
    with pytest.raises(nats.js.errors.APIError) as caught:
        await jetstream.publish(subjects.exchanges_subject(7), parcel)
    assert caught.value.err_code == 10077
    assert await nats_server.migrate(stream_bytes_max=1 << 30) == ["change EXCHANGES: max_bytes"]
    await jetstream.publish(subjects.exchanges_subject(7), parcel)
    state = (await jetstream.stream_info(subjects.EXCHANGES_STREAM)).state
    assert (state.first_seq, state.last_seq) == (1, 4)
    await connection.close()


async def test_the_same_parcel_twice_is_stored_twice(nats_server: NatsServer) -> None:
    """A re-send that heals a gap must not be swallowed: no message id, no window."""
    await nats_server.migrate()
    connection = await nats.connect(nats_server.url, connect_timeout=60)
    first, second = [
        await connection.jetstream(timeout=60).publish(subjects.exchanges_subject(0), b"parcel")
        for _ in range(2)
    ]
    assert (first.seq, second.seq) == (1, 2)
    await connection.close()


async def test_checkpoints_are_swapped_only_by_who_read_the_last_one(
    nats_server: NatsServer,
) -> None:
    """Compare-and-set works, gets go to the leader, entries never expire."""
    await nats_server.migrate()
    connection = await nats.connect(nats_server.url, connect_timeout=60)
    jetstream = connection.jetstream(timeout=60)
    config = (await jetstream.stream_info(f"KV_{subjects.CHECKPOINTS_BUCKET}")).config
    assert not config.allow_direct
    assert config.max_age == 0
    assert config.max_msgs_per_subject == 1
    bucket = await jetstream.key_value(subjects.CHECKPOINTS_BUCKET)
    key = subjects.checkpoint_key(3)
    revision = await bucket.create(key, b"1")
    await bucket.update(key, b"2", last=revision)
    with pytest.raises(KeyWrongLastSequenceError):
        await bucket.update(key, b"3", last=revision)
    assert (await bucket.get(key)).value == b"2"
    await connection.close()


async def test_members_are_forgotten_when_unheard_of(nats_server: NatsServer) -> None:
    """The bucket's entries expire after MEMBER_TTL."""
    await nats_server.migrate(member_ttl=Duration(0.2))
    connection = await nats.connect(nats_server.url, connect_timeout=60)
    bucket = await connection.jetstream(timeout=60).key_value(subjects.MEMBERS_BUCKET)
    await bucket.put("a", b"here")
    async with asyncio.timeout(60):
        while True:
            try:
                await bucket.get("a")
            except KeyNotFoundError:
                break
            await asyncio.sleep(0.05)
    await connection.close()


async def test_current_follows_the_build_unless_pinned(nats_server: NatsServer) -> None:
    """The shipped book is put under its version; an operator's pin outlives migrations."""
    lines = await nats_server.migrate(price_book=True)
    connection = await nats.connect(nats_server.url, connect_timeout=60)
    bucket = await connection.jetstream(timeout=60).key_value(subjects.PRICE_BOOKS_BUCKET)
    shipped = (await bucket.get("current")).value
    assert shipped is not None
    assert f"price book {shipped.decode()}" in lines
    assert (await bucket.get(shipped.decode())).value is not None
    await bucket.put("current", b"older")
    await bucket.put("pinned", b"older")
    assert await nats_server.migrate(price_book=True) == []
    assert (await bucket.get("current")).value == b"older"
    await bucket.delete("pinned")
    await nats_server.migrate(price_book=True)
    assert (await bucket.get("current")).value == shipped
    await connection.close()


async def test_a_changed_file_stops_the_run(postgres: PostgresDatabase, tmp_path: Path) -> None:
    """What was applied is never edited; later files wait too."""
    settings = MigrationSettings(postgres_url=Secret(postgres.url))
    file = tmp_path / "9001_pre_one.sql"
    file.write_text("CREATE TABLE one (a int)")
    assert await migrate_postgres(settings, directory=tmp_path) == [file.name]
    file.write_text("CREATE TABLE one (a bigint)")
    (tmp_path / "9002_pre_two.sql").write_text("CREATE TABLE two (a int)")
    with pytest.raises(MigrationChanged, match="9001_pre_one"):
        await migrate_postgres(settings, directory=tmp_path)
    connection = await asyncpg.connect(postgres.url)
    assert await connection.fetchval("SELECT to_regclass('two')") is None
    await connection.close()


async def test_a_file_that_fails_leaves_nothing_of_itself(
    postgres: PostgresDatabase, tmp_path: Path
) -> None:
    """One transaction a file; what came before it stays."""
    settings = MigrationSettings(postgres_url=Secret(postgres.url))
    (tmp_path / "9001_pre_good.sql").write_text("CREATE TABLE good (a int)")
    (tmp_path / "9002_pre_bad.sql").write_text("CREATE TABLE bad (a int); SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate_postgres(settings, directory=tmp_path)
    connection = await asyncpg.connect(postgres.url)
    assert await connection.fetchval("SELECT to_regclass('good')") == "good"
    assert await connection.fetchval("SELECT to_regclass('bad')") is None
    await connection.close()
    assert await migrate_postgres(settings, dry_run=True, directory=tmp_path) == [
        "9002_pre_bad.sql"
    ]


async def test_a_failed_clickhouse_file_is_tried_again(
    clickhouse: ClickHouseDatabase, tmp_path: Path
) -> None:
    """It counts as applied only when its last statement went through."""
    settings = MigrationSettings(
        clickhouse_url=clickhouse.url, clickhouse_database=clickhouse.database
    )
    file = tmp_path / "9001_pre_x.sql"
    first = "CREATE TABLE IF NOT EXISTS x (a String DEFAULT ';') ENGINE = MergeTree ORDER BY a;\n"
    file.write_text(first + "-- a comment; with a semicolon\nNO SUCH STATEMENT;")
    with pytest.raises(DatabaseError):
        await migrate_clickhouse(settings, directory=tmp_path)
    file.write_text(first)
    assert await migrate_clickhouse(settings, directory=tmp_path) == [file.name]
    assert await migrate_clickhouse(settings, directory=tmp_path) == []


async def test_phases_are_applied_apart(postgres: PostgresDatabase, tmp_path: Path) -> None:
    """`pre` may run while the old build serves, `post` only after it."""
    settings = MigrationSettings(postgres_url=Secret(postgres.url))
    (tmp_path / "9001_pre_a.sql").write_text("SELECT 1")
    (tmp_path / "9002_post_b.sql").write_text("SELECT 1")
    assert await migrate_postgres(settings, phase="pre", directory=tmp_path) == ["9001_pre_a.sql"]
    assert await migrate_postgres(settings, phase="post", directory=tmp_path) == ["9002_post_b.sql"]


async def test_a_missing_postgres_database_is_made(
    postgres_process: object, postgres: PostgresDatabase, tmp_path: Path
) -> None:
    """Also by two runners at once."""
    fresh = postgres.url.replace(postgres.database, f"{postgres.database}_fresh")
    settings = MigrationSettings(postgres_url=Secret(fresh))
    await asyncio.gather(*(migrate_postgres(settings, directory=tmp_path) for _ in range(2)))
    connection = await asyncpg.connect(fresh)
    assert await connection.fetchval("SELECT count(*) FROM schema_migrations") == 0
    await connection.close()


async def test_a_database_of_bricksllm_is_not_touched(postgres_process: RunningServer) -> None:
    """Its settings have the names of ours, so this mistake is made easily."""
    with bricks_database(postgres_process.url) as bricks:
        bricks.insert("provider_settings", id="theirs")
        settings = MigrationSettings(postgres_url=Secret(bricks.url))
        for dry_run in (True, False):
            with pytest.raises(StoreFailed, match="tollway import bricksllm"):
                await migrate(settings, dry_run=dry_run)
        connection = await asyncpg.connect(bricks.url)
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        )
        kept = await connection.fetchval("SELECT id FROM provider_settings")
        await connection.close()

    assert kept == "theirs"
    assert [row[0] for row in tables] == [
        "custom_providers",
        "events",
        "keys",
        "policies",
        "provider_settings",
        "routes",
        "users",
    ]


def test_the_command_says_what_it_would_do(
    nats_server: NatsServer, clickhouse: ClickHouseDatabase, postgres: PostgresDatabase
) -> None:
    """`python -m infra.migrations`, dry and real, and with a setting that cannot be read."""
    environment = {
        "PATH": os.environ["PATH"],
        "NATS_URL": nats_server.url,
        "CLICKHOUSE_URL": clickhouse.url,
        "CLICKHOUSE_DATABASE": clickhouse.database,
        "POSTGRES_URL": postgres.url,
        "STREAM_BYTES_MAX": "1_000_000",
        "DEAD_LETTER_BYTES_MAX": "1_000_000",
    }

    def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "infra.migrations", *arguments],
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    assert "nats: EXCHANGES\n" in run("--dry-run").stdout
    assert "nats: EXCHANGES\n" in run().stdout
    assert run().stdout == "nothing to do\n"
    refused = run(STREAM_REPLICAS="many")
    assert refused.returncode == 2
    assert refused.stderr.startswith("STREAM_REPLICAS: ")
    assert "STREAM_BYTES_MAX" not in refused.stderr


async def test_a_store_that_is_away_is_an_error_in_time(nats_server: NatsServer) -> None:
    """The run fails instead of waiting for ever."""
    nats_server.kill()
    with pytest.raises((OSError, nats.errors.Error)):
        await migrate_nats(nats_server.migration_settings())
