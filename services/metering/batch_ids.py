"""Ids of batches: UUIDv7 whose times ascend within a partition, whatever any clock does. Pure.

What a checkpoint does not know of is looked for among later ids alone, so an id that went back in
time would hide its batch, and a hidden batch is booked twice.
"""

from contracts.ids import new_id


def next_batch_id(ledger_ms: int, newest_ms: int) -> bytes:
    """An id of the ledger's time, or of the millisecond after `newest_ms` when that is later."""
    return max(ledger_ms, newest_ms + 1).to_bytes(6, "big") + new_id()[6:]
