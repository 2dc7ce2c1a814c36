"""What metering needs of the outside, over NATS and ClickHouse's HTTP protocol.

Enters: connections and names. Leaves: objects that fulfil `metering.ports`. Never: a decision.
"""
