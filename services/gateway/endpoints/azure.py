"""What Azure does by `api-version`."""

from typing import Final

_FIRST_WITH_USAGE: Final = b"2024-09-01"


def can_report_usage(query: bytes) -> bool:
    """Whether this version of the API knows `stream_options`; older ones refuse the body."""
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name.lower() == b"api-version":
            return not value[:1].isdigit() or value[:10] >= _FIRST_WITH_USAGE
    return False
