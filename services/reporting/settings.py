"""What reporting reads from the environment; the only reader of it here."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from runtime.loopback import is_loopback
from runtime.settings import BadSettings, Duration, Secret, load, port, url

MIB: Final = 1 << 20
GIB: Final = 1 << 30


class ReportingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where reporting listens, whom it asks, and every limit it keeps."""

    reporting_host: Annotated[str, Meta(description="address reporting listens on")] = "127.0.0.1"
    reporting_port: Annotated[int, port("port reporting listens on", lowest=0)] = 8003
    admin_pass: Annotated[
        Secret,
        Meta(description="what X-API-KEY says; admin tokens do too; empty: open, loopback only"),
    ] = Secret("")
    clickhouse_url: Annotated[str, url("ClickHouse over HTTP")] = "http://127.0.0.1:8123"
    clickhouse_user: Annotated[str, Meta(description="ClickHouse user")] = "default"
    clickhouse_password: Annotated[Secret, Meta(description="ClickHouse password")] = Secret("")
    clickhouse_database: Annotated[str, Meta(description="database of the ledger")] = "tollway"
    clickhouse_connect_timeout: Annotated[
        Duration, Meta(description="how long a connection to ClickHouse may take")
    ] = Duration(5.0)
    nats_url: Annotated[str, url("NATS, asked how far metering is")] = "nats://127.0.0.1:4222"
    nats_creds: Annotated[str, Meta(description="path of a NATS credentials file")] = ""
    nats_tls_ca: Annotated[str, Meta(description="path of the authority for NATS over TLS")] = ""
    postgres_url: Annotated[
        Secret, url("configured keys, for top-keys; empty: only used keys are known")
    ] = Secret("")
    report_postgres_timeout: Annotated[
        Duration, Meta(description="how long a look at the configured keys may take")
    ] = Duration(5.0)
    report_nats_timeout: Annotated[
        Duration, Meta(description="how long a look at metering's progress may take")
    ] = Duration(5.0)
    report_queries_max: Annotated[int, Meta(description="queries at once; more wait")] = 8
    report_queue_timeout: Annotated[
        Duration, Meta(description="how long a question waits for its turn, then 503")
    ] = Duration(10.0)
    report_query_timeout: Annotated[
        Duration, Meta(description="execution limit of one query in ClickHouse")
    ] = Duration(30.0)
    report_query_memory_bytes_max: Annotated[
        int, Meta(description="memory of one query in ClickHouse")
    ] = 2 * GIB
    report_request_bytes_max: Annotated[int, Meta(description="size of a question")] = MIB
    report_response_bytes_max: Annotated[
        int, Meta(description="size of bodies in an answer listing events")
    ] = 64 * MIB
    report_window_max: Annotated[
        Duration, Meta(description="longest window of a question (100 years: any)")
    ] = Duration(36_525 * 86_400.0)
    report_buckets_max: Annotated[int, Meta(description="buckets of a time series")] = 50_000
    report_rows_max: Annotated[
        int, Meta(description="data points, events or ids in one answer")
    ] = 100_000
    report_events_max: Annotated[int, Meta(description="events in one answer")] = 10_000
    report_filter_values_max: Annotated[
        int, Meta(description="values in one list of a question")
    ] = 1_000
    report_exact_percentile_rows_max: Annotated[
        int, Meta(description="above this many requests percentiles are a t-digest's")
    ] = 20_000_000
    drain_s: Annotated[float, Meta(description="seconds questions may go on after SIGTERM")] = 10.0


def load_settings() -> ReportingSettings:
    """From the environment. Raises BadSettings, also for an open door to the network."""
    settings = load(ReportingSettings)
    if not settings.admin_pass and not is_loopback(settings.reporting_host):
        raise BadSettings(
            [
                f"REPORTING_HOST={settings.reporting_host} is reachable by others and ADMIN_PASS"
                " is not set: set ADMIN_PASS, or listen on 127.0.0.1"
            ]
        )
    return settings
