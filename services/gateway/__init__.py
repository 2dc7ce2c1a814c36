"""The data plane (8002) and the admin API (8001).

Enters: HTTP from clients and operators. Leaves: the provider's answer, and raw events in the
journal. The order of a request is one function, `exchange.Corridor.handle`: identity, endpoint,
entitlements, routing, admission, dispatch, relay, completion. Rooms do not know each other.
Never: a database, a broker or Redis on the path of a request.
"""
