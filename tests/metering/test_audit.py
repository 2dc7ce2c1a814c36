"""The audit finds nothing in right books, and names each kind of difference in wrong ones."""

import time
from pathlib import Path

import pytest
from metering_events import make_admitted
from metering_shipping import Shipper, exchanges
from metering_stack import PATIENCE_S, Stack, book_all

from contracts.ids import to_text
from contracts.records import SegmentHeader
from metering.adapters.nats_link import NatsLink
from metering.audit import Findings, as_text, audit

pytestmark = pytest.mark.xdist_group("metering-clickhouse")

HOUR_MS = 3_600_000


async def look(stack: Stack, data_dir: Path) -> Findings:
    link = await NatsLink.open(
        stack.nats_url, name="a", creds=None, tls_ca=None, timeout_s=PATIENCE_S
    )
    stack.links.append(link)
    now_ms = int(time.time() * 1000)
    return await audit(link, stack.http, data_dir, now_ms - 24 * HOUR_MS, now_ms + HOUR_MS)


def write_journal(shipper: Shipper, data_dir: Path) -> None:
    """The shipper's records as a segment file."""
    journal = data_dir / "journal"
    journal.mkdir()
    header = SegmentHeader(shipper.incarnation, 0, shipper.partition, 0, shipper.incarnation)
    content = header.pack() + b"".join(shipper.records) + bytes(4096)
    (journal / "one.seg").write_bytes(content)


async def test_right_books_show_no_difference(stack: Stack, tmp_path: Path) -> None:
    """Booked, waiting and open events are told apart; reserved space in a segment is no record."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    shipper = await stack.shipper()
    at_ms = int(time.time() * 1000) - 3 * HOUR_MS
    shipper.write(
        [*exchanges(10, at_ms=at_ms), make_admitted(admitted_at_ms=at_ms, timeout_ms=5 * HOUR_MS)]
    )
    await shipper.ship()
    await book_all(await stack.meter())
    shipper.write(exchanges(2, at_ms=at_ms))
    await shipper.ship()
    shipper.write(exchanges(1, at_ms=at_ms))
    write_journal(shipper, data_dir)
    findings = await look(stack, data_dir)
    assert findings.is_right, as_text(findings)
    assert findings.evidence_events == 14
    assert (findings.ledger_events, findings.ledger_requests) == (10, 10)
    assert (findings.waiting, findings.open) == (3, 1)
    assert findings.by_outcome == {"answered": 10}
    assert findings.cost_usd == "0.00075"
    assert "no difference" in as_text(findings)


async def test_lost_doubled_and_gapped_events_are_named(stack: Stack, tmp_path: Path) -> None:
    """A row gone, a row twice, a parcel gone with nobody to send it again."""
    shipper = await stack.shipper()
    at_ms = int(time.time() * 1000) - 3 * HOUR_MS
    shipper.write(exchanges(30, at_ms=at_ms))
    seqs = await shipper.ship(records_per_parcel=10)
    await book_all(await stack.meter())
    rows = await stack.http.rows("SELECT event_id FROM entries ORDER BY event_id")
    client = stack.database.client()
    client.command(
        f"ALTER TABLE entries DELETE WHERE event_id = '{rows[0][0]}' SETTINGS mutations_sync=1"
    )
    client.command(
        "INSERT INTO entries SETTINGS insert_deduplication_token = 'by hand' SELECT * REPLACE (now64(3) + 60 AS insert_by) FROM entries "
        f"WHERE event_id = '{rows[1][0]}'"
    )
    client.close()
    other = await stack.shipper(1)
    other.write(exchanges(20, at_ms=at_ms))
    gone = await other.ship(records_per_parcel=10)
    await stack.jetstream.delete_msg("EXCHANGES", gone[1])
    findings = await look(stack, tmp_path)
    assert not findings.is_right
    assert findings.missing == [rows[0][0]]
    assert findings.not_one == [rows[1][0]]
    [gap] = findings.gaps
    assert (gap.incarnation, gap.from_offset, gap.to_offset) == (
        other.name,
        other.offsets[10],
        other.offsets[20],
    )
    text = as_text(findings)
    assert "DIFFERENT" in text
    assert to_text(bytes.fromhex(rows[1][0].replace("-", ""))) in text
    assert len(seqs) == 6
