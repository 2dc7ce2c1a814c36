"""The journal's settings."""

from typing import Annotated

import msgspec

from gateway.settings import GatewaySettings
from runtime.settings import BadSettings, Duration, load

_MIB = 1024 * 1024
EVENT_OVERHEAD_BYTES_MAX = 1024 * 1024
"""All of an event but its bodies: names, metadata, cost map, a usage document."""


def _d(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class JournalSettings(msgspec.Struct, frozen=True):
    """What the journal and its shippers can be told. Names are the environment's, in lower case."""

    metering_partitions: Annotated[int, _d("partitions of the stream of exchanges")] = 8
    journal_lanes: Annotated[int, _d("lanes a worker")] = 2
    journal_bytes_max: Annotated[
        int, _d("all segments on this machine; past it new requests are refused or unmetered")
    ] = 8192 * _MIB
    journal_segment_bytes: Annotated[int, _d("a segment is rolled at this size")] = 64 * _MIB
    journal_segment_age: Annotated[
        Duration, _d("a segment with records is rolled at this age, so that booked ones can go")
    ] = Duration(600)
    journal_record_bytes_max: Annotated[
        int, _d("longest event; below the broker's max_payload")
    ] = 6 * _MIB
    journal_volatile: Annotated[
        bool, _d("the directory does not outlive this machine: refuse after seconds of lag")
    ] = False
    journal_volatile_age: Annotated[
        Duration, _d("lag at which a volatile journal stops accepting requests")
    ] = Duration(5)
    journal_any_filesystem: Annotated[
        bool, _d("run on NFS, SMB or FUSE, where locks may not hold")
    ] = False
    journal_keep: Annotated[
        Duration, _d("a booked segment is kept this much longer, unless the journal is half full")
    ] = Duration(60)
    journal_fsync_after: Annotated[
        Duration, _d("lag of the oldest unshipped byte from which fsync begins")
    ] = Duration(0.25)
    journal_fsync_interval: Annotated[Duration, _d("one fsync for everything since the last")] = (
        Duration(0.05)
    )
    parcel_interval: Annotated[Duration, _d("shortest time between two parcels of a lane")] = (
        Duration(0.02)
    )
    parcel_bytes_max: Annotated[int, _d("a parcel is cut here; a longer record goes alone")] = (
        512 * 1024
    )
    parcel_ack_timeout: Annotated[Duration, _d("longest wait for the broker's answer")] = Duration(
        5
    )
    parcel_backoff_max: Annotated[Duration, _d("longest pause between two tries")] = Duration(2)
    booked_poll: Annotated[Duration, _d("how often the checkpoint is read while some is open")] = (
        Duration(1)
    )
    resend_after: Annotated[
        Duration, _d("all shipped, nothing booked for this long: send again from what is booked")
    ] = Duration(10)
    adopt_interval: Annotated[Duration, _d("how often segments of the dead are looked for")] = (
        Duration(15)
    )
    adopt_max: Annotated[int, _d("incarnations of the dead shipped at a time, a worker")] = 8


def load_journal_settings(settings: GatewaySettings) -> JournalSettings:
    """The journal's settings. Raises BadSettings, also when an event might not fit a record."""
    journal = load(JournalSettings)
    needed = 2 * settings.event_body_bytes_max + EVENT_OVERHEAD_BYTES_MAX
    if needed > journal.journal_record_bytes_max:
        raise BadSettings(
            [
                f"EVENT_BODY_BYTES_MAX={settings.event_body_bytes_max} needs"
                f" JOURNAL_RECORD_BYTES_MAX of at least {needed}"
            ]
        )
    return journal
