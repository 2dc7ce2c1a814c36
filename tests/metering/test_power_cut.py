"""Power cuts of the ledger's host: a disk image copied while the engine stands still, then mounted."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from metering_ledgers import IN_TIME_MS, ClockAhead
from metering_proxy import HttpProxy, first_insert
from metering_shipping import exchanges
from metering_stack import SOON, Stack, book_all
from support.servers import RunningServer
from support.stores import NatsServer, migrated

from contracts.checkpoint import Pending
from infra.embedded.clickhouse import CLICKHOUSE
from metering.filling import Filling
from metering.ports import Billed, Refused, Unavailable

IMAGE_BYTES = 400 * 1024 * 1024


class Disk:
    """An ext4 file system in a file, mounted; `cut_power` goes on from what had reached it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._image = directory / "disk.img"
        self.mount_point = directory / "disk"
        self.mount_point.mkdir()
        with self._image.open("wb") as image:
            image.truncate(IMAGE_BYTES)
        self._run("mkfs.ext4", "-q", str(self._image))
        self._mount()

    def cut_power(self, server: RunningServer) -> None:
        """The server is stopped where it stands; what the disk had then is all there is."""
        server.pause()
        after = self._directory / "after.img"
        shutil.copyfile(self._image, after)
        server.kill()
        self.unmount()
        after.replace(self._image)
        self._mount()

    def unmount(self) -> None:
        """Also with files still open."""
        self._run("umount", "-l", str(self.mount_point))

    def _mount(self) -> None:
        # Nothing reaches it by the clock alone, however long a step takes: only what is synced.
        self._run("mount", "-o", "loop,commit=3600", str(self._image), str(self.mount_point))

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of the test's own; skipped where loop devices cannot be mounted."""
    try:
        disk = Disk(tmp_path)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs root and loop devices: {error}")
    yield disk
    disk.unmount()


@pytest.fixture
async def cuttable(
    disk: Disk, nats_server: NatsServer
) -> AsyncIterator[tuple[Stack, RunningServer]]:
    """A stack whose ledger lives on that disk."""
    await nats_server.migrate()
    server = RunningServer(CLICKHOUSE, disk.mount_point)
    server.start()
    stack = Stack(nats_server.url, migrated(server.url, "ledger"))
    await stack.open()
    await stack.put_price_book()
    yield stack, server
    await stack.close()
    server.kill()


@pytest.mark.long_form(short=3, long=50)
async def test_power_cuts_around_a_commit_lose_and_double_nothing(
    disk: Disk, cuttable: tuple[Stack, RunningServer], rounds: int
) -> None:
    """Between the insert's end and the commit, and after a commit: net effect one, every time."""
    stack, server = cuttable
    shipper = await stack.shipper()
    shipper.write(exchanges(20))
    await shipper.ship()
    await book_all(await stack.meter())
    for cut in range(1, rounds + 1):
        shipper.write(exchanges(20))
        await shipper.ship()
        async with HttpProxy(server.url) as proxy:
            # The rows are in, the meter does not know: the deduplication log is never synced.
            proxy.harm = first_insert("cut")
            unknowing = await stack.meter(clickhouse_url=proxy.url, **SOON)
            with pytest.raises(Unavailable):
                await unknowing.step()
        disk.cut_power(server)
        server.start()

        heir = await stack.meter()
        await book_all(heir)

        wanted = 20 * (cut + 1)
        assert heir.progress.recoveries == 1
        assert await stack.totals() == {
            "rows": wanted,
            "events": wanted,
            "requests": wanted,
            "wrong": 0,
        }


async def token_is_proof(
    self: Filling, pending: Pending, billed: Billed, *, is_drifted: bool
) -> int:
    """Recovery repeats the insert under its first token and believes the OK: nothing is counted."""
    block = self._ledger.seal(billed.entries)
    await self._ledger.insert(block, f"{pending.batch_id}:1", pending.insert_by_ms)
    return block.rows


async def test_without_the_count_a_power_cut_doubles(
    disk: Disk, cuttable: tuple[Stack, RunningServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same cut has teeth: rows are there, their token is not, and a repeat inserts them again."""
    stack, server = cuttable
    shipper = await stack.shipper()
    shipper.write(exchanges(20))
    await shipper.ship()
    async with HttpProxy(server.url) as proxy:
        proxy.harm = first_insert("cut")
        with pytest.raises(Unavailable):
            await (await stack.meter(clickhouse_url=proxy.url)).step()
    disk.cut_power(server)
    server.start()

    monkeypatch.setattr(Filling, "fill", token_is_proof)
    await book_all(await stack.meter(ledger=lambda ledger: ClockAhead(ledger, IN_TIME_MS)))

    totals = await stack.totals()
    assert totals == {"rows": 40, "events": 20, "requests": 40, "wrong": 20}


async def test_without_syncing_inserts_a_power_cut_loses(
    disk: Disk, cuttable: tuple[Stack, RunningServer]
) -> None:
    """Rows of a committed batch that were not synced are gone; the next look at it says so."""
    stack, server = cuttable
    client = stack.database.client()
    client.command("ALTER TABLE entries MODIFY SETTING fsync_after_insert = 0")
    client.close()
    shipper = await stack.shipper()
    shipper.write(exchanges(20))
    await shipper.ship()
    await book_all(await stack.meter())
    assert (await stack.totals())["rows"] == 20
    disk.cut_power(server)
    server.start()

    assert (await stack.totals())["rows"] < 20
    with pytest.raises(Refused, match="restored to an older state"):
        await (await stack.meter()).step()
