"""The embedded servers: real programs out of wheels, described so that a supervisor can run them.

Enters: a data directory, a port, settings. Leaves: a `ServerPlan` (what to execute, as whom, where)
and a readiness probe. Never: starting or watching a process; that is the supervisor's trade.
Every server listens on 127.0.0.1 only. `servers.SERVERS` lists them in the order of starting.
"""
