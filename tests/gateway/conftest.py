"""A running gateway, for the tests of the data plane."""

from support.gateways import bus, gateway, provider

__all__ = ["bus", "gateway", "provider"]
