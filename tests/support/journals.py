"""Reads the events of a gateway's journal from its files, while it runs."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from contracts.exchange import ExchangeCompleted, RequestAdmitted, decode
from contracts.records import SEGMENT_HEADER_BYTES, BadRecord, SegmentHeader, records
from support.programs import Gateway


def journal(gateway: Gateway) -> Iterator[RequestAdmitted | ExchangeCompleted]:
    """Every event in the journal's segments."""
    for path in sorted(Path(gateway.data_dir).glob("journal/**/*.seg")):
        # Under this name it is never without its header; a draft may go while it is read.
        content = path.read_bytes()
        header = SegmentHeader.unpack(content)
        try:
            tail = content[SEGMENT_HEADER_BYTES:]
            for record in records(tail, header.base_offset, header.base_chain):
                yield decode(record.payload)
        except BadRecord:
            continue  # The reserved space behind the last record.


def ends_of(gateway: Gateway, name: str) -> list[ExchangeCompleted]:
    """The completions of the requests of this custom id, in any order: their ids know milliseconds,
    and each lane has its own file. Every admitted one has exactly one.
    """
    events = [event for event in journal(gateway) if event.caller.custom_id == name]
    admitted = Counter(event.event_id for event in events if isinstance(event, RequestAdmitted))
    completed = [event for event in events if isinstance(event, ExchangeCompleted)]
    assert admitted == Counter(event.event_id for event in completed if event.was_admitted)
    return completed


def end_of(gateway: Gateway, name: str, seconds: float = 60.0) -> ExchangeCompleted:
    """The only completion of this custom id, once it is there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = [
            event
            for event in journal(gateway)
            if isinstance(event, ExchangeCompleted) and event.caller.custom_id == name
        ]
        if found:
            [end] = ends_of(gateway, name)
            return end
        time.sleep(0.05)
    raise AssertionError(f"{name} has not completed")
