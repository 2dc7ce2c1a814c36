"""Content codings of requests and answers: lz4 frames, zstd, gzip, deflate."""

import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

import lz4.frame  # type: ignore[import-untyped]
from backports import zstd

ENCODED_FROM_BYTES: Final = 65_536
"""Smaller answers go plain: on loopback a coding only costs."""


class CodingUnknown(ValueError):
    """A content coding we do not speak."""


class BodyDamaged(ValueError):
    """A body that does not unpack, or ends in the middle."""


class Unpacker:
    """Unpacks a body as it comes; frames of one coding may follow each other."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._inner = make()
        self._has_begun = False

    def feed(self, data: bytes) -> bytes:
        """Raises BodyDamaged."""
        unpacked = bytearray()
        try:
            while data:
                if self._inner.eof:
                    self._inner = self._make()
                self._has_begun = True
                unpacked += self._inner.decompress(data)
                data = self._inner.unused_data if self._inner.eof else b""
        except (RuntimeError, ValueError, zlib.error, zstd.ZstdError) as error:
            raise BodyDamaged(str(error)) from None
        return bytes(unpacked)

    def finish(self) -> None:
        """Raises BodyDamaged when the body ended in the middle of a frame."""
        if self._has_begun and not self._inner.eof:
            raise BodyDamaged("the body ends in the middle of a compressed frame")


_UNPACKERS: Final[dict[str, Callable[[], Any]]] = {
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
    "gzip": lambda: zlib.decompressobj(31),
    "deflate": lambda: zlib.decompressobj(15),
}


def unpacker(coding: str) -> Unpacker | None:
    """None for an identity body. Raises CodingUnknown."""
    if coding in ("", "identity"):
        return None
    if coding not in _UNPACKERS:
        raise CodingUnknown(coding)
    return Unpacker(_UNPACKERS[coding])


class Packer(Protocol):
    """Packs an answer piece by piece."""

    def compress(self, data: bytes, /) -> bytes:
        """What can be sent now."""
        ...

    def flush(self) -> bytes:
        """The rest."""
        ...


class _Lz4:
    def __init__(self) -> None:
        self._inner = lz4.frame.LZ4FrameCompressor()
        self._lead = self._inner.begin()

    def compress(self, data: bytes, /) -> bytes:
        lead, self._lead = self._lead, b""
        packed: bytes = lead + self._inner.compress(data)
        return packed

    def flush(self) -> bytes:
        lead, self._lead = self._lead, b""
        packed: bytes = lead + self._inner.flush()
        return packed


_PACKERS: Final[dict[str, Callable[[], Packer]]] = {
    "lz4": _Lz4,
    "zstd": lambda: zstd.ZstdCompressor(level=1),
    "gzip": lambda: zlib.compressobj(1, wbits=31),
    "deflate": lambda: zlib.compressobj(1, wbits=15),
}


def packer(accepted: str) -> tuple[str, Packer] | None:
    """The first coding of an Accept-Encoding list that we speak, with a new packer for it."""
    for item in accepted.split(","):
        coding = item.partition(";")[0].strip()
        if coding in _PACKERS:
            return coding, _PACKERS[coding]()
    return None
