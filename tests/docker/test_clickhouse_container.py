"""The ledger's and the reports' contracts, held by a ClickHouse server proper."""

from test_clickhouse_ledger import *  # noqa: F403 - the same tests, another server
