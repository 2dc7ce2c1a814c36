"""Seals secrets with AES-256-GCM under a ring of keys, newest first.

A sealed text is `aesgcm <key id> <base64 of nonce and ciphertext>`. What it was sealed for goes in
as associated data, so a text copied to another owner does not open there.
"""

import base64
import binascii
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

SCHEME: Final = "aesgcm"
KEY_BYTES: Final = 32
KEYS_MAX: Final = 16
_NONCE_BYTES: Final = 12
"""Random: 2**32 seals under one key are safe, and a key seals some thousands."""
_FILE_BYTES_MAX: Final = 65_536

_HEAD: Final = (
    "# Keys that provider secrets are sealed with, newest first. Losing them loses the secrets.\n"
)


class BadKeys(ValueError):
    """Keys that cannot be used; the message says how to mend it and holds none of them."""


class UnknownKey(LookupError):
    """Sealed with a key that is not in the ring; `key_id` names it."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"sealed with key {key_id}, which is not here")
        self.key_id = key_id


class Damaged(ValueError):
    """Not what was sealed, or sealed for another owner."""


class SealKey(msgspec.Struct, frozen=True):
    """A key and the name that its seals carry, which is derived from it and tells nothing of it."""

    id: str
    secret: bytes

    @classmethod
    def of(cls, text: str) -> "SealKey":
        """From base64. Raises BadKeys."""
        try:
            secret = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise BadKeys("a key is not base64") from None
        if len(secret) != KEY_BYTES:
            raise BadKeys(f"a key has {len(secret)} bytes instead of {KEY_BYTES}")
        return cls(sha256(b"tollway key id " + secret).hexdigest()[:12], secret)

    @classmethod
    def new(cls) -> "SealKey":
        """A random one."""
        return cls.of(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())

    def __repr__(self) -> str:
        return f"SealKey({self.id})"

    def text(self) -> str:
        """In base64, as it is kept."""
        return base64.b64encode(self.secret).decode()


class KeyRing(msgspec.Struct, frozen=True):
    """Keys, newest first: the first one seals, every one unseals."""

    keys: tuple[SealKey, ...] = ()

    @property
    def newest(self) -> SealKey | None:
        """What seals; None in an empty ring."""
        return self.keys[0] if self.keys else None

    def seal(self, plain: bytes, bound_to: str) -> str:
        """Raises BadKeys when the ring is empty."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key = self.newest
        if key is None:
            raise BadKeys("there is no key to seal with")
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + AESGCM(key.secret).encrypt(nonce, plain, _bound(key.id, bound_to))
        return f"{SCHEME} {key.id} {base64.b64encode(sealed).decode()}"

    def unseal(self, sealed: str, bound_to: str) -> bytes:
        """Raises UnknownKey, Damaged."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key_id, _, text = sealed.removeprefix(f"{SCHEME} ").partition(" ")
        key = next((one for one in self.keys if one.id == key_id), None)
        if key is None:
            raise UnknownKey(key_id)
        try:
            content = base64.b64decode(text, validate=True)
            return AESGCM(key.secret).decrypt(
                content[:_NONCE_BYTES], content[_NONCE_BYTES:], _bound(key_id, bound_to)
            )
        except (InvalidTag, ValueError):
            raise Damaged("the sealed text is damaged, or was sealed for another") from None


def key_id_of(sealed: str) -> str | None:
    """The key a text was sealed with; None when it was sealed in another way."""
    words = sealed.split(" ", 2)
    return words[1] if len(words) == 3 and words[0] == SCHEME else None


def parse_keys(texts: Iterable[str]) -> KeyRing:
    """Each text is a key in base64; empty ones are passed over. Raises BadKeys."""
    keys = tuple(dict.fromkeys(SealKey.of(text) for text in texts if text.strip()))
    if len(keys) > KEYS_MAX:
        raise BadKeys(f"there are more than {KEYS_MAX} keys")
    return KeyRing(keys)


def read_key_file(path: Path) -> KeyRing:
    """One key a line, `#` begins a comment. An absent file is an empty ring.

    Raises BadKeys, also for a file that others than its owner may use, and OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return KeyRing()
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BadKeys(f"{path} is not a file")
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise BadKeys(f"{path} has mode {mode:04o}: make it its owner's only, chmod 600 {path}")
        content = file.read(_FILE_BYTES_MAX + 1)
    if len(content) > _FILE_BYTES_MAX:
        raise BadKeys(f"{path} is over {_FILE_BYTES_MAX} bytes")
    try:
        lines = [line.partition("#")[0] for line in content.decode("ascii").splitlines()]
        return parse_keys(lines)
    except (UnicodeDecodeError, BadKeys) as error:
        reason = error if isinstance(error, BadKeys) else "it is not ASCII text"
        raise BadKeys(f"{path}: {reason}; each line is 32 bytes in base64") from None


def make_key_file(path: Path) -> bool:
    """A file with one new key, its owner's only, unless there is a file. Whether it was made.

    Raises OSError.
    """
    if path.exists():
        return False
    temporary = _written(path, KeyRing((SealKey.new(),)))
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    _sync_directory(path.parent)
    return True


def write_key_file(path: Path, ring: KeyRing) -> None:
    """Replaces the file, its owner stays; it is on the disk when this returns. Raises OSError."""
    temporary = _written(path, ring)
    try:
        if path.exists() and os.geteuid() == 0:
            owner = path.stat()
            os.chown(temporary, owner.st_uid, owner.st_gid)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _written(path: Path, ring: KeyRing) -> Path:
    """A file beside `path`, readable by its owner only, with the keys in it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write((_HEAD + "".join(f"{key.text()}\n" for key in ring.keys)).encode())
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _bound(key_id: str, bound_to: str) -> bytes:
    return f"tollway secret\0{key_id}\0{bound_to}".encode()
