"""httpx for plain HTTP to this machine: its calls and clients with one TLS context for them all.

httpx reads every authority's certificate for each client, and for each call without one: 25 to 80
ms of CPU, thousands of times in a run, for connections that are none of TLS's.
"""

import ssl
from functools import partial
from typing import Final

import httpx

_UNUSED: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""It trusts nobody: an address with https is refused."""
_LONGEST_S: Final = 30.0
"""What a disk or a neighbour may hold up is waited for; httpx gives up after five seconds."""

get = partial(httpx.get, verify=_UNUSED, timeout=_LONGEST_S)
post = partial(httpx.post, verify=_UNUSED, timeout=_LONGEST_S)
put = partial(httpx.put, verify=_UNUSED, timeout=_LONGEST_S)
patch = partial(httpx.patch, verify=_UNUSED, timeout=_LONGEST_S)
delete = partial(httpx.delete, verify=_UNUSED, timeout=_LONGEST_S)
stream = partial(httpx.stream, verify=_UNUSED, timeout=_LONGEST_S)
Client = partial(httpx.Client, verify=_UNUSED, timeout=_LONGEST_S)
AsyncClient = partial(httpx.AsyncClient, verify=_UNUSED, timeout=_LONGEST_S)
