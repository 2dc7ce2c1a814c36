"""What happened, written down before the last byte goes out, and shipped until it is booked.

Enters: encoded events. Leaves: parcels on the stream of exchanges.
1. An event whose append returned survives the death of the process and reaches the stream, in
   order within its lane, at least once.
2. A file is removed when the checkpoint says that it is booked, not before.
3. What cannot be shipped is kept, named and counted; nothing is passed over.
Never: a decision about a request, a broker on the path of a response.
"""

from gateway.ports import JournalUnavailable
from gateway.recording.counts import JournalFacts
from gateway.recording.journal import Journal
from gateway.recording.lane import Lane, RecordTooLarge
from gateway.recording.segments import UnsafeFilesystem
from gateway.recording.settings import JournalSettings

__all__ = [
    "Journal",
    "JournalFacts",
    "JournalSettings",
    "JournalUnavailable",
    "Lane",
    "RecordTooLarge",
    "UnsafeFilesystem",
]
