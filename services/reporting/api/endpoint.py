"""What an endpoint calls its failures: constants of the wire, kept from the ancestor's API."""

from typing import Final

import msgspec


class Endpoint(msgspec.Struct, frozen=True):
    """Types without their `/errors/` prefix; `instance` is a template, never the real URL."""

    instance: str
    failure_type: str
    failure_title: str
    invalid_type: str
    invalid_title: str


TIMESERIES: Final = Endpoint(
    "/api/reporting/events",
    "event-reporting-manager",
    "event reporting error",
    "invalid-reporting-request",
    "invalid reporting request",
)
TOP_KEYS: Final = Endpoint(
    "/api/reporting/top-keys",
    "event-reporting-manager",
    "top key reporting error",
    "invalid-reporting-request",
    "invalid reporting request",
)
EVENTS_V2: Final = Endpoint(
    "/api/v2/events",
    "event-manager",
    "getting events errored out",
    "validation",
    "get events request validation failed",
)
EVENTS_V1: Final = Endpoint(
    "/api/events",
    "event-manager",
    "getting events error",
    "validation",
    "get events request validation failed",
)
USER_IDS: Final = Endpoint(
    "/api/reporting/user-ids",
    "key-reporting-manager",
    "getting user ids error",
    "missing-key-id",
    "key id query param is missing",
)
CUSTOM_IDS: Final = Endpoint(
    "/api/reporting/custom-ids",
    "key-reporting-manager",
    "getting custom ids error",
    "missing-key-id",
    "key id query param is missing",
)
KEY_SPEND: Final = Endpoint(
    "/api/reporting/keys/:id",
    "key-reporting-manager",
    "key reporting error",
    "validation",
    "invalid reporting request",
)
METERING: Final = Endpoint(
    "/api/reporting/metering",
    "metering-progress",
    "metering progress error",
    "validation",
    "invalid reporting request",
)
HEALTH: Final = Endpoint("/api/health", "health", "health error", "validation", "invalid request")
READY: Final = Endpoint("/api/ready", "ready", "not ready", "validation", "invalid request")
