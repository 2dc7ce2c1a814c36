"""Implements Sealer. The first word of a sealed text says how it was sealed.

`clear` is what an older release stored; it is read and never written. `aesgcm` is sealed here,
`external` by the operator's own endpoints.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Protocol

import msgspec

from gateway.adapters.seal_keys import SealKeys, seal_keys
from gateway.ports import SealBroken, SealUnavailable
from gateway.settings import GatewaySettings
from runtime.sealing import SCHEME as AESGCM
from runtime.sealing import Damaged, UnknownKey, key_id_of

CLEAR: Final = "clear"
EXTERNAL: Final = "external"
_decode = msgspec.json.Decoder(dict[str, str]).decode


@asynccontextmanager
async def open_sealer(settings: GatewaySettings) -> AsyncIterator["SchemeSealer"]:
    """What the settings ask for. Raises BadSettings."""
    keys = seal_keys(settings)
    if not (settings.encryption_endpoint or settings.decryption_endpoint):
        yield SchemeSealer(keys)
        return
    # Imported here: a worker that never needs httpx does not pay for it.
    from gateway.adapters.external_sealer import open_external_sealer

    async with open_external_sealer(settings) as external:
        yield SchemeSealer(keys, external, seals_externally=settings.enable_encryption)


class External(Protocol):
    """Endpoints of the operator's own that encrypt and decrypt."""

    async def seal(self, secrets: Mapping[str, str]) -> str:
        """Raises SealUnavailable."""
        ...

    async def unseal(self, text: str) -> dict[str, str]:
        """Raises SealUnavailable, SealBroken."""
        ...


class SchemeSealer:
    """Seals in one way, unseals in every way."""

    def __init__(
        self, keys: SealKeys, external: External | None = None, *, seals_externally: bool = False
    ) -> None:
        self._keys = keys
        self._external = external
        self._seals_externally = seals_externally

    async def seal(self, secrets: dict[str, str], setting_id: str) -> str:
        """See Sealer."""
        if not secrets:
            return ""
        if self._seals_externally:
            return f"{EXTERNAL} {await self._endpoints().seal(secrets)}"
        ring = self._keys.ring_to_use()
        if ring.newest is None:
            raise SealUnavailable(
                "there is no key to encrypt secrets with: set SECRETS_KEY, or make the file"
                f" {self._keys.path} with `tollway secrets rotate`"
            )
        return ring.seal(msgspec.json.encode(secrets), _bound_to(setting_id))

    async def unseal(self, sealed: str, setting_id: str) -> dict[str, str]:
        """See Sealer."""
        scheme, _, text = sealed.partition(" ")
        if scheme == EXTERNAL:
            return await self._endpoints().unseal(text)
        if scheme not in ("", CLEAR, AESGCM):
            raise SealBroken("sealed in a way that is not known here")
        if scheme == AESGCM:
            try:
                text = self._keys.ring_to_use().unseal(sealed, _bound_to(setting_id)).decode()
            except UnknownKey as error:
                raise SealUnavailable(str(error)) from error
            except Damaged as error:
                raise SealBroken(str(error)) from error
        try:
            return _decode(text) if text else {}
        except msgspec.DecodeError:
            raise SealBroken("what was sealed is no set of secrets") from None

    def is_current(self, sealed: str) -> bool:
        """See Sealer."""
        if not sealed:
            return True
        if self._seals_externally:
            return sealed.startswith(f"{EXTERNAL} ")
        newest = self._keys.ring_to_use().newest
        return newest is not None and key_id_of(sealed) == newest.id

    def _endpoints(self) -> External:
        if self._external is None:
            raise SealUnavailable("ENCRYPTION_ENDPOINT and DECRYPTION_ENDPOINT are not set")
        return self._external


def _bound_to(setting_id: str) -> str:
    return f"provider_setting {setting_id}"
