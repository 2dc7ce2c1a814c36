"""OpenAI."""

from collections.abc import Mapping
from typing import Final

from gateway.values import AuthHeaders, Provider


def bearer(setting: Mapping[str, str]) -> AuthHeaders:
    """`Authorization: Bearer`, the way OpenAI and most others want it."""
    return ((b"authorization", b"Bearer " + setting["apikey"].encode("latin-1")),)


OPENAI: Final = Provider(
    name="openai",
    dialect="openai",
    required=("apikey",),
    default_base="https://api.openai.com",
    auth_headers=bearer,
)
