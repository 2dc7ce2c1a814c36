"""The keys that secrets are sealed with, as they are now: a file of them is followed."""

from pathlib import Path

from gateway.ports import SealUnavailable
from gateway.settings import GatewaySettings
from runtime.sealing import BadKeys, KeyRing, parse_keys, read_key_file
from runtime.settings import BadSettings

_Mark = tuple[int, int, int, int]


class SealKeys:
    """Keys of the settings first, then those of the file, read again whenever it was replaced."""

    def __init__(self, fixed: KeyRing, path: Path) -> None:
        self.fixed = fixed
        self.path = path
        self._mark: _Mark | None = None
        self._ring = fixed

    def ring(self) -> KeyRing:
        """Raises BadKeys, OSError."""
        mark = self._mark_now()
        if mark != self._mark:
            of_file = read_key_file(self.path)
            self._ring = KeyRing(tuple(dict.fromkeys(self.fixed.keys + of_file.keys)))
            self._mark = mark
        return self._ring

    def ring_to_use(self) -> KeyRing:
        """Raises SealUnavailable."""
        try:
            return self.ring()
        except (BadKeys, OSError) as error:
            raise SealUnavailable(f"the keys of secrets cannot be read: {error}") from error

    def _mark_now(self) -> _Mark | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return (status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode)


def seal_keys(settings: GatewaySettings) -> SealKeys:
    """Of SECRETS_KEY and SECRETS_KEY_FILE. Raises BadSettings."""
    texts = settings.secrets_key.reveal().replace(",", " ").split()
    try:
        return SealKeys(parse_keys(texts), settings.secrets_key_path)
    except BadKeys as error:
        raise BadSettings([f"SECRETS_KEY: {error}"]) from None


def check_seal_keys(settings: GatewaySettings) -> None:
    """For the start of the service. Raises BadSettings for keys that cannot be used."""
    try:
        seal_keys(settings).ring()
    except (BadKeys, OSError) as error:
        raise BadSettings([f"SECRETS_KEY_FILE: {error}"]) from None
