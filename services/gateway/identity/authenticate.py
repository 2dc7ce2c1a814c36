"""A credential becomes a principal, or a refusal."""

from collections.abc import Mapping
from hashlib import sha256

from gateway.values import Principal, Refusal


def authenticate(
    credential: str | None, principal_by_digest: Mapping[bytes, Principal]
) -> Principal | None:
    """The principal, None when nobody has this key. Raises Refusal when there is no credential."""
    if credential is None:
        raise Refusal(401, "authentication_error", "missing_api_key", "api key not found in header")
    return principal_by_digest.get(sha256(credential.encode("latin-1")).digest())
