"""The TLS context of both engines: the system's certificates, and a file of further ones."""

import functools
import ssl


@functools.lru_cache(maxsize=8)  # Reading the system's certificates takes tens of milliseconds.
def tls_context(ca_file: str, *protocols: str) -> ssl.SSLContext:
    """Verifies chain and name, TLS 1.2 at least. `protocols` are offered by ALPN, best first."""
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(protocols))
    return context
