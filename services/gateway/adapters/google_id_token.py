"""Google ID tokens of the machine's own service account, from its metadata server."""

import base64
import time
from typing import Final

import httpx
import msgspec

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
        """Raises httpx.HTTPError when there is none to be had."""
        if time.time() >= self._good_until:
            response = await self._client.get(
                self._url,
                params={"audience": self._audience, "format": "full"},
                headers={"Metadata-Flavor": "Google"},
            )
            response.raise_for_status()
            self._good_until = _expires_at(response) - _RENEW_BEFORE_S
            self._token = response.text.strip()
        return self._token


def _expires_at(response: httpx.Response) -> float:
    """When the token in an answer expires, Unix seconds. Raises httpx.DecodingError."""
    try:
        _, payload, _ = response.text[:_TOKEN_BYTES_MAX].strip().split(".")
        padded = payload + "=" * (-len(payload) % 4)
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Claims).exp
    except (ValueError, msgspec.DecodeError):
        raise httpx.DecodingError("that is no ID token", request=response.request) from None
