"""The framing of journal segments and parcels: records, the running hash, parcel headers.

A lane of a gateway worker is an *incarnation*: 128 random bits, one partition, a sequence of
segment files. Offsets are *logical*: bytes of records since the incarnation began, running on
across segments, so that one number says what is booked and a gap is `offset > booked`
(docs/adr/0003).

    segment file:  header | record | record | ...
    record:        length u32 LE | crc32c(payload) u32 LE | payload
    running hash:  hash_0 = the incarnation; hash_n = blake2b-128(hash_{n-1} | record header n)

A record header holds its payload's length and checksum, so the running hash of the headers stands
for the bytes: two files that part anywhere have different hashes from there on.
"""

import struct
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

import google_crc32c
import msgspec

RECORD_HEADER: Final = struct.Struct("<II")
RECORD_HEADER_BYTES: Final = RECORD_HEADER.size
RECORD_BYTES_MAX: Final = 16 * 1024 * 1024
"""No record is longer; a length beyond it is damage, not data."""

SEGMENT_MAGIC: Final = b"TWSEG1\x00\x00"
SEGMENT_HEADER: Final = struct.Struct("<8s16sIIQ16sI")
"""magic | incarnation | segment_no | partition | base offset | hash at base | crc32c of the rest"""
SEGMENT_HEADER_BYTES: Final = SEGMENT_HEADER.size
CHAIN_BYTES: Final = 16
NUMBER_MAX: Final = (1 << 63) - 1
SEGMENT_NO_MAX: Final = (1 << 32) - 1


class BadRecord(ValueError):
    """The bytes at `position` are no record: torn, zero-filled, flipped or misframed."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"bad record at byte {position}: {reason}")
        self.position = position
        self.reason = reason


class BadSegment(ValueError):
    """The file does not begin with a segment header of this format."""


class SegmentHeader(msgspec.Struct, frozen=True):
    """The first bytes of a segment file; `base_offset` is the logical offset of its first record."""

    incarnation: bytes
    segment_no: int
    partition: int
    base_offset: int
    base_chain: bytes

    def pack(self) -> bytes:
        """The header as bytes, with its own checksum."""
        head = SEGMENT_HEADER.pack(
            SEGMENT_MAGIC,
            self.incarnation,
            self.segment_no,
            self.partition,
            self.base_offset,
            self.base_chain,
            0,
        )[:-4]
        return head + struct.pack("<I", google_crc32c.value(head))

    @classmethod
    def unpack(cls, head: bytes) -> "SegmentHeader":
        """Raises BadSegment when the bytes are not a whole, undamaged header."""
        if len(head) < SEGMENT_HEADER_BYTES:
            raise BadSegment("shorter than a segment header")
        magic, incarnation, segment_no, partition, base, chain, crc = SEGMENT_HEADER.unpack(
            head[:SEGMENT_HEADER_BYTES]
        )
        if magic != SEGMENT_MAGIC:
            raise BadSegment("not a segment of this format")
        if google_crc32c.value(head[: SEGMENT_HEADER_BYTES - 4]) != crc:
            raise BadSegment("damaged segment header")
        return cls(incarnation, segment_no, partition, base, chain)


def frame(payload: bytes) -> bytes:
    """A payload as one record."""
    return RECORD_HEADER.pack(len(payload), google_crc32c.value(payload)) + payload


def advance(chain: bytes, record_header: bytes) -> bytes:
    """The running hash after one more record, given its eight header bytes."""
    return blake2b(chain + record_header, digest_size=CHAIN_BYTES).digest()


class Record(msgspec.Struct, frozen=True):
    """One record with its logical place: [offset, end)."""

    payload: bytes
    offset: int
    end: int
    chain: bytes
    """The running hash after this record."""


def records(content: bytes, offset: int, chain: bytes) -> Iterator[Record]:
    """The records of a parcel or of a segment's tail, checked one by one.

    `offset` and `chain` are the logical offset and running hash before the first byte. Raises
    BadRecord at the first byte that is not a whole, undamaged record; what came before it was good.
    """
    position = 0
    total = len(content)
    while position < total:
        if total - position < RECORD_HEADER_BYTES:
            raise BadRecord(position, "torn header")
        length, crc = RECORD_HEADER.unpack_from(content, position)
        if length == 0:
            raise BadRecord(position, "zero length")
        if length > RECORD_BYTES_MAX:
            raise BadRecord(position, "impossible length")
        start = position + RECORD_HEADER_BYTES
        end = start + length
        if end > total:
            raise BadRecord(position, "torn payload")
        payload = content[start:end]
        if google_crc32c.value(payload) != crc:
            raise BadRecord(position, "checksum differs")
        chain = advance(chain, content[position:start])
        yield Record(payload, offset + position, offset + end, chain)
        position = end


class ParcelHeaders(msgspec.Struct, frozen=True):
    """What a parcel says of itself, as message headers.

    A parcel is a byte range of an incarnation, cut at record boundaries. `end` marks the
    incarnation's END: an empty parcel that says nothing will ever follow `offset`.
    `last_time_ms` is the writer's clock at the newest record of the parcel.
    """

    incarnation: bytes
    segment_no: int
    offset: int
    count: int
    hash_before: bytes
    last_time_ms: int
    is_end: bool = False

    def to_headers(self) -> dict[str, str]:
        """As NATS headers."""
        headers = {
            "Tw-Incarnation": self.incarnation.hex(),
            "Tw-Segment": str(self.segment_no),
            "Tw-Offset": str(self.offset),
            "Tw-Count": str(self.count),
            "Tw-Hash-Before": self.hash_before.hex(),
            "Tw-Last-Time": str(self.last_time_ms),
        }
        if self.is_end:
            headers["Tw-End"] = "1"
        return headers

    @classmethod
    def from_headers(cls, headers: dict[str, str]) -> "ParcelHeaders":
        """Raises ValueError (or KeyError) when a header is missing, malformed or out of range."""
        parcel = cls(
            bytes.fromhex(headers["Tw-Incarnation"]),
            int(headers["Tw-Segment"]),
            int(headers["Tw-Offset"]),
            int(headers["Tw-Count"]),
            bytes.fromhex(headers["Tw-Hash-Before"]),
            int(headers["Tw-Last-Time"]),
            headers.get("Tw-End") == "1",
        )
        if len(parcel.incarnation) != CHAIN_BYTES or len(parcel.hash_before) != CHAIN_BYTES:
            raise ValueError("an incarnation and a running hash have sixteen bytes")
        numbers = (parcel.segment_no, parcel.offset, parcel.count, parcel.last_time_ms)
        if min(numbers) < 0 or max(numbers) > NUMBER_MAX or parcel.segment_no > SEGMENT_NO_MAX:
            raise ValueError("a number that no journal has")
        return parcel
