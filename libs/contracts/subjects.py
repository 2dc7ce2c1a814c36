"""Every subject, stream and bucket name, once."""

from typing import Final

EXCHANGES_STREAM: Final = "EXCHANGES"
"""Raw events in parcels; file storage, `discard: new`, no max_age; purged by the janitor only."""

DEAD_LETTERS_STREAM: Final = "DEAD_LETTERS"
"""What could not be decoded or rated, with its reason."""

CHECKPOINTS_BUCKET: Final = "CHECKPOINTS"
"""One entry a partition, `p.<n>`. No TTL, direct gets off: a follower may answer old."""

MEMBERS_BUCKET: Final = "MEMBERS"
"""Who meters what; entries expire. Only an optimisation: correctness never rests on it."""

PRICE_BOOKS_BUCKET: Final = "PRICE_BOOKS"
"""Price books by version (gzip of canonical JSON), put there before a batch names one."""


def exchanges_subject(partition: int) -> str:
    """Where the parcels of a partition go."""
    return f"exchanges.{partition}"


EXCHANGES_SUBJECTS: Final = "exchanges.*"


def dead_letters_subject(partition: int) -> str:
    """Where the dead letters of a partition go."""
    return f"dead_letters.{partition}"


DEAD_LETTERS_SUBJECTS: Final = "dead_letters.*"


def checkpoint_key(partition: int) -> str:
    """The key of a partition's checkpoint."""
    return f"p.{partition}"


def resend_subject(incarnation: bytes) -> str:
    """Core NATS: metering asks whoever ships this incarnation to send again from what is booked."""
    return f"journal.resend.{incarnation.hex()}"


def lost_key(incarnation: bytes) -> str:
    """Key in the checkpoints bucket: an operator declared the rest of this incarnation lost."""
    return f"lost.{incarnation.hex()}"
