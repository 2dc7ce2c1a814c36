"""Questions over the ledger. A question comes in as JSON over HTTP, one or two SELECTs go to
ClickHouse, a report goes out. It never writes, never prices, and never shows a part as the whole.
"""
