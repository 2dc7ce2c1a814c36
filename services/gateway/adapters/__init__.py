"""The gateway's outside: one file for each thing behind a port.

What enters are values of `gateway.ports` and settings; what leaves are the same values and the
errors the port names, never a library's own. Nothing here decides anything about an exchange.
"""
