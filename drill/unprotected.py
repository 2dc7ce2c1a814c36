"""Protections switched off, one at a time, in a process of the drill's own: the drill must notice.

    interpreter(path, "drill.unprotected", NAME)

The services hold no switches. What is switched off here is replaced after it was imported and
before the service runs.
"""

import sys
from collections.abc import Callable
from typing import Final

import msgspec

from drill import without_gateway, without_metering
from drill.interpreters import run_as


class Protection(msgspec.Struct, frozen=True):
    """Whose it is, and how it is taken away; None: by a statement to the ledger."""

    service: str
    switch_off: Callable[[], None] | None


PROTECTIONS: Final = {
    "an admission is kept before dispatch": Protection("gateway", without_gateway.no_admission),
    "the journals of the dead are adopted": Protection("gateway", without_gateway.no_adoption),
    "a journal is locked by its owner": Protection("gateway", without_gateway.no_lock),
    "what was not acknowledged or booked is sent again": Protection(
        "gateway", without_gateway.nothing_sent_again
    ),
    "a journal is kept until it is booked": Protection(
        "gateway", without_gateway.shipped_is_booked
    ),
    "what cannot be recorded is refused": Protection("gateway", without_gateway.served_unrecorded),
    "keys are kept in memory": Protection("gateway", without_gateway.no_database_no_keys),
    "a client that leaves is an end": Protection("gateway", without_gateway.leaving_is_no_end),
    "an insert that failed is looked for": Protection("metering", without_metering.error_is_done),
    "only missing rows are inserted again": Protection(
        "metering", without_metering.repeated_uncounted
    ),
    "a pending batch is finished": Protection("metering", without_metering.pending_forgotten),
    "checkpoints are compared and set": Protection("metering", without_metering.no_compare_and_set),
    "a gap is not stepped over": Protection("metering", without_metering.gaps_stepped_over),
    "a parcel is booked once": Protection("metering", without_metering.repeats_taken),
    "the ledger's marks outweigh the checkpoint": Protection(
        "metering", without_metering.marks_ignored
    ),
    "a missing checkpoint is not zero": Protection("metering", without_metering.missing_is_zero),
    "the stream must be the checkpoint's": Protection("metering", without_metering.any_stream),
    "the ledger must hold what is committed": Protection("metering", without_metering.any_ledger),
    "partitions are found in the stream": Protection(
        "metering", without_metering.only_its_own_partitions
    ),
    "an admission without an end is closed": Protection("metering", without_metering.never_closed),
    "unknown is not zero": Protection("metering", without_metering.unpriced_is_free),
    "the ledger refuses an insert past its deadline": Protection("clickhouse", None),
}
"""Every protection that a drill can do without, by what it says."""


def main() -> None:
    """Run what an interpreter is asked to, without one protection."""
    name, *rest = sys.argv[1:]
    switch_off = PROTECTIONS[name].switch_off
    assert switch_off is not None, name
    switch_off()
    run_as(rest)


if __name__ == "__main__":
    main()
