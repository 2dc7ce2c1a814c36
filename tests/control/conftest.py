"""A running gateway, for the tests of the admin API."""

from support.gateways import bus, gateway, provider

__all__ = ["bus", "gateway", "provider"]
