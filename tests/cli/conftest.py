"""A running gateway over real Postgres and NATS, with the demo provider behind it."""

from support.running_gateway import bus, gateway, provider

__all__ = ["bus", "gateway", "provider"]
