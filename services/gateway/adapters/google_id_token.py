"""Google ID tokens of the machine's own service account, from its metadata server."""

import base64
import time
from typing import Final

import httpx
import msgspec

from gateway.ports import SealUnavailable

_PATH: Final = "/computeMetadata/v1/instance/service-accounts/default/identity"
_RENEW_BEFORE_S: Final = 300.0
_TOKEN_BYTES_MAX: Final = 16_384


class _Claims(msgspec.Struct, frozen=True):
    exp: float


class GoogleIdTokens:
    """Tokens for one audience, each used until shortly before it expires."""

    def __init__(self, client: httpx.AsyncClient, host: str, audience: str) -> None:
        self._client = client
        self._url = f"http://{host}{_PATH}"
        self._audience = audience
        self._token = ""
        self._good_until = 0.0

    async def token(self) -> str:
        """Raises SealUnavailable when there is none to be had."""
        if time.time() >= self._good_until:
            try:
                response = await self._client.get(
                    self._url,
                    params={"audience": self._audience, "format": "full"},
                    headers={"Metadata-Flavor": "Google"},
                )
                response.raise_for_status()
                self._token = response.text.strip()
                self._good_until = _expires_at(self._token) - _RENEW_BEFORE_S
            except (httpx.HTTPError, ValueError) as error:
                raise SealUnavailable(
                    f"no ID token for AUDIENCE from GCE_METADATA_HOST: {type(error).__name__}"
                ) from None
        return self._token


def _expires_at(token: str) -> float:
    """Unix seconds. Raises ValueError for what is no ID token."""
    _, payload, _ = token[:_TOKEN_BYTES_MAX].split(".")
    padded = payload + "=" * (-len(payload) % 4)
    return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Claims).exp
