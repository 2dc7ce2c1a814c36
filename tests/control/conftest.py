"""A running gateway over real Postgres and NATS, with the demo provider behind it."""

from hypothesis import settings
from support.running_gateway import bus, gateway, provider

__all__ = ["bus", "gateway", "provider"]

settings.register_profile("fuzz", max_examples=5_000)
"""For `make fuzz`: minutes instead of seconds."""
