"""Implements Sealer without sealing."""

import msgspec

from gateway.ports import SealBroken

_SCHEME = "clear "


class ClearSealer:
    """Secrets as JSON text."""

    async def seal(self, secrets: dict[str, str], setting_id: str) -> str:  # noqa: ARG002
        """See Sealer."""
        return _SCHEME + msgspec.json.encode(secrets).decode() if secrets else ""

    async def unseal(self, sealed: str, setting_id: str) -> dict[str, str]:  # noqa: ARG002
        """See Sealer."""
        if not sealed:
            return {}
        if not sealed.startswith(_SCHEME):
            raise SealBroken("sealed in a way that is not known here")
        return msgspec.json.decode(sealed[len(_SCHEME) :], type=dict[str, str])
