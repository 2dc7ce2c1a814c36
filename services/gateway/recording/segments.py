"""Segment files: made, locked, read and removed. What is inside them is `contracts.records`.

A file is held by `flock` on its own descriptor for as long as its holder lives. A new file gets its
lock and header under a draft name and is then linked to its own: nobody ever sees it without both.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from contracts.records import SEGMENT_HEADER_BYTES, SegmentHeader

SUFFIX: Final = ".seg"
DRAFT_SUFFIX: Final = ".new"
BAD_SUFFIX: Final = ".bad"
_NAME: Final = re.compile(r"([0-9a-f]{32})\.([0-9]{8,})\.seg")
_FALLOC_FL_KEEP_SIZE: Final = 1

UNSAFE_FILESYSTEMS: Final = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "SMB",
    0xFE534D42: "SMB",
    0x65735546: "FUSE",
    0x01021997: "9P",
}
"""Where a lock of ours may not be seen by others, or an append may not be one."""


class UnsafeFilesystem(RuntimeError):
    """The directory lies on a file system whose locks or appends cannot be trusted."""


def file_name(incarnation: bytes, segment_no: int) -> str:
    """The name of a segment file."""
    return f"{incarnation.hex()}.{segment_no:08d}{SUFFIX}"


def parse_name(name: str) -> tuple[bytes, int] | None:
    """Incarnation and segment number of a segment's file name; None for any other file."""
    match = _NAME.fullmatch(name)
    return (bytes.fromhex(match[1]), int(match[2])) if match else None


class Segment:
    """One segment file under our lock.

    `base` and `end` are logical offsets: bytes of records since the incarnation began. Up to
    `synced_end` the records survive a power cut.
    """

    header_bytes: Final = SEGMENT_HEADER_BYTES

    __slots__ = ("booked_at", "end", "fd", "header", "path", "pins", "synced_end")

    def __init__(self, path: Path, fd: int, header: SegmentHeader) -> None:
        self.path = path
        self.fd = fd
        self.header = header
        self.end = header.base_offset
        self.synced_end = header.base_offset
        self.pins = 0
        """Reads and fsyncs under way in threads; the descriptor stays open until they are done."""
        self.booked_at: float | None = None

    @property
    def base(self) -> int:
        """The logical offset of the first record."""
        return self.header.base_offset

    def data_bytes(self) -> int:
        """Bytes of records in the file, whole or not."""
        return max(0, os.fstat(self.fd).st_size - SEGMENT_HEADER_BYTES)

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from a logical offset; shorter only at the end of the file."""
        position = SEGMENT_HEADER_BYTES + offset - self.base
        content = os.pread(self.fd, length, position)
        if len(content) == length or not content:
            return content
        pieces = [content]
        missing = length - len(content)
        while missing:
            piece = os.pread(self.fd, missing, position + length - missing)
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """Keep the descriptor open while a thread reads or syncs."""
        self.pins += 1
        try:
            yield
        finally:
            self.pins -= 1

    def close(self) -> None:
        """Give the lock up; the file stays, for whoever adopts it."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            with contextlib.suppress(OSError):
                os.close(fd)

    def delete(self) -> None:
        """Remove the file, then give the lock up."""
        self.path.unlink(missing_ok=True)
        self.close()

    def quarantine(self) -> Path:
        """Keep the file for the operator under a name that nobody ships. Returns that name."""
        target = self.path.with_name(self.path.name + BAD_SUFFIX)
        self.path.rename(target)
        self.close()
        return target


def create(directory: Path, header: SegmentHeader, reserve_bytes: int) -> Segment:
    """A new, empty, locked, durable segment with space for `reserve_bytes` of records.

    Raises OSError: no space (ENOSPC also when the reserve is not to be had), a name already there.
    """
    path = directory / file_name(header.incarnation, header.segment_no)
    draft = path.with_suffix(DRAFT_SUFFIX)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    fd = os.open(draft, flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _reserve(fd, SEGMENT_HEADER_BYTES + reserve_bytes)
        packed = header.pack()
        if os.write(fd, packed) != len(packed):
            raise OSError(errno.ENOSPC, "the segment header did not fit")
        os.fsync(fd)
        # link, unlike rename, refuses a name that is taken.
        os.link(draft, path)
        draft.unlink()
        sync_directory(directory)
    except BaseException:
        _take_back(fd, draft, path)
        raise
    return Segment(path, fd, header)


def _take_back(fd: int, *names: Path) -> None:
    """Remove the names that a failed try left on its file, and let go of that. Never raises.

    A name that stays is an empty segment of a living owner, which whoever adopts that one removes.
    """
    for name in names:
        with contextlib.suppress(OSError):
            if name.stat(follow_symlinks=False).st_ino == os.fstat(fd).st_ino:
                name.unlink()
    with contextlib.suppress(OSError):
        os.close(fd)


def is_left(directory: Path, header: SegmentHeader) -> bool:
    """Whether a segment that could not be made may have left its name behind."""
    try:
        (directory / file_name(header.incarnation, header.segment_no)).lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def lock(path: Path) -> int | None:
    """A descriptor that holds the file's lock; None when another holds it or the file is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(fd)
        named = path.stat(follow_symlinks=False)
    except (BlockingIOError, FileNotFoundError):
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    # Between open and lock the name may have passed to another file: that lock would be worthless.
    if (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino):
        os.close(fd)
        return None
    return fd


def sync_directory(directory: Path) -> None:
    """Make names in the directory survive a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def stored_bytes(directory: Path) -> int:
    """Bytes of every segment in the directory, whoever owns it."""
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def check_filesystem(directory: Path, unsafe: dict[int, str] = UNSAFE_FILESYSTEMS) -> None:
    """Raises UnsafeFilesystem for a file system of `unsafe` (by statfs magic number)."""
    kind = filesystem_magic(directory)
    if kind is not None and kind in unsafe:
        raise UnsafeFilesystem(
            f"the journal's directory {directory} lies on {unsafe[kind]}, where locks and appends"
            " are not safe; use a local disk, or set JOURNAL_ANY_FILESYSTEM=true to take the risk"
        )


def filesystem_magic(directory: Path) -> int | None:
    """The file system's magic number (statfs f_type); None where the platform does not say."""
    if sys.platform != "linux":
        return None
    answer = ctypes.create_string_buffer(256)
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(directory), answer) != 0:
        raise OSError(ctypes.get_errno(), "statfs failed", str(directory))
    return ctypes.c_long.from_buffer(answer).value & 0xFFFFFFFF


def _reserve(fd: int, length: int) -> None:
    # A full disk is to refuse a new segment, hence new requests, not the end of one under way.
    if sys.platform != "linux":
        return
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if fallocate(fd, _FALLOC_FL_KEEP_SIZE, 0, length) == 0:
        return
    code = ctypes.get_errno()
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise OSError(code, "no space to reserve a segment")
