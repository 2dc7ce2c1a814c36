"""Secrets encrypted by the operator's own endpoints, one call for each secret.

A sealed text is the time of encryption and JSON of the encrypted secrets by name.
POST `{"secret": text}` is answered by `{"encryptedSecret": text}` or `{"decryptedSecret": text}`;
`X-UPDATED-AT` is that time, in Unix seconds.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import msgspec

from gateway.adapters.google_id_token import GoogleIdTokens
from gateway.adapters.tls_context import tls_context
from gateway.ports import SealBroken, SealUnavailable
from gateway.settings import GatewaySettings

ANSWER_BYTES_MAX: Final = 1024 * 1024
CALLS_MAX: Final = 16
"""At once, so that a start with many settings does not fall over the endpoint."""
REMEMBERED_MAX: Final = 10_000
"""Unsealed texts kept, so that a change of anything else needs no call."""

_decode_map = msgspec.json.Decoder(dict[str, str]).decode
_decode_answer = msgspec.json.Decoder(dict[str, Any]).decode


@asynccontextmanager
async def open_external_sealer(settings: GatewaySettings) -> AsyncIterator["ExternalSealer"]:
    """As the settings say."""
    timeout_s = float(settings.encryption_timeout)
    async with httpx.AsyncClient(
        timeout=timeout_s, trust_env=False, verify=tls_context(settings.upstream_ca_file)
    ) as client:
        yield ExternalSealer(
            client,
            encryption_endpoint=settings.encryption_endpoint,
            decryption_endpoint=settings.decryption_endpoint,
            timeout_s=timeout_s,
            id_tokens=GoogleIdTokens(client, settings.gce_metadata_host, settings.audience)
            if settings.audience
            else None,
        )


class ExternalSealer:
    """Implements External. An empty endpoint is not configured."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        encryption_endpoint: str,
        decryption_endpoint: str,
        timeout_s: float,
        id_tokens: GoogleIdTokens | None,
    ) -> None:
        self._client = client
        self._encryption_endpoint = encryption_endpoint
        self._decryption_endpoint = decryption_endpoint
        self._timeout_s = timeout_s
        self._id_tokens = id_tokens
        self._calls = asyncio.Semaphore(CALLS_MAX)
        self._remembered: dict[str, dict[str, str]] = {}

    async def seal(self, secrets: Mapping[str, str]) -> str:
        """Raises SealUnavailable."""
        now = int(time.time())
        encrypted = await self._each(
            self._encryption_endpoint, "ENCRYPTION_ENDPOINT", "encryptedSecret", secrets, now
        )
        return f"{now} {msgspec.json.encode(encrypted).decode()}"

    async def unseal(self, text: str) -> dict[str, str]:
        """Raises SealUnavailable, SealBroken."""
        remembered = self._remembered.get(text)
        if remembered is not None:
            return remembered
        updated_at, _, content = text.partition(" ")
        try:
            encrypted = _decode_map(content)
            at = int(updated_at)
        except ValueError:
            raise SealBroken("what was encrypted is no set of secrets") from None
        secrets = await self._each(
            self._decryption_endpoint, "DECRYPTION_ENDPOINT", "decryptedSecret", encrypted, at
        )
        if len(self._remembered) >= REMEMBERED_MAX:
            self._remembered.pop(next(iter(self._remembered)))
        self._remembered[text] = secrets
        return secrets

    async def _each(
        self, url: str, name: str, member: str, secrets: Mapping[str, str], updated_at: int
    ) -> dict[str, str]:
        if not url:
            raise SealUnavailable(f"{name} is not set")
        answers = await asyncio.gather(
            *(self._ask(url, name, member, secret, updated_at) for secret in secrets.values())
        )
        return dict(zip(secrets, answers, strict=True))

    async def _ask(self, url: str, name: str, member: str, secret: str, updated_at: int) -> str:
        try:
            async with self._calls, asyncio.timeout(self._timeout_s):
                headers = {"X-UPDATED-AT": str(updated_at), "Content-Type": "application/json"}
                if self._id_tokens is not None:
                    headers["Authorization"] = f"Bearer {await self._id_tokens.token()}"
                content = msgspec.json.encode({"secret": secret})
                async with self._client.stream(
                    "POST", url, content=content, headers=headers
                ) as response:
                    status = response.status_code
                    answer = await _limited(response)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            # Not its text: that may hold the URL, and whatever the operator put into it.
            raise SealUnavailable(f"{name} gave no answer: {type(error).__name__}") from None
        if status != 200:
            raise SealUnavailable(f"{name} answered with status {status}")
        try:
            value = _decode_answer(answer).get(member)
        except (msgspec.DecodeError, RecursionError):
            value = None
        if not isinstance(value, str) or not value:
            raise SealUnavailable(f"{name} answered without {member}")
        return value


async def _limited(response: httpx.Response) -> bytes:
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > ANSWER_BYTES_MAX:
            raise httpx.DecodingError("the answer is over the limit", request=response.request)
    return bytes(content)
