"""The gateway's settings; the only reader of the environment here."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from runtime.loopback import is_loopback
from runtime.settings import BadSettings, Duration, Secret, load, port, url

_MIB = 1024 * 1024


def _d(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class GatewaySettings(msgspec.Struct, frozen=True):
    """Everything the gateway can be told. Names are the environment's, in lower case."""

    proxy_host: Annotated[str, _d("address of the data plane")] = "127.0.0.1"
    proxy_port: Annotated[int, port("port of the data plane")] = 8002
    admin_host: Annotated[str, _d("address of the admin API")] = "127.0.0.1"
    admin_port: Annotated[int, port("port of the admin API")] = 8001
    reporting_url: Annotated[str, url("where the admin API forwards reports to")] = (
        "http://127.0.0.1:8003"
    )
    gateway_workers: Annotated[
        int, msgspec.Meta(description="data worker processes; 0 is one a core", ge=0)
    ] = 0
    data_dir: Annotated[str, _d("journal, logs and run state live here")] = ".tollway"
    admin_body_bytes_max: Annotated[int, _d("largest body of an admin request")] = 4 * _MIB
    admin_pass: Annotated[
        Secret, _d("what admin callers send as X-API-KEY; empty: open, and loopback only")
    ] = Secret("")

    postgres_url: Annotated[Secret, url("configuration database; empty: from POSTGRESQL_*")] = (
        Secret("")
    )
    postgresql_hosts: Annotated[str, _d("hosts, tried in order, comma separated")] = "localhost"
    postgresql_port: Annotated[int, port("port of Postgres")] = 5432
    postgresql_db_name: Annotated[str, _d("database")] = "postgres"
    postgresql_username: Annotated[str, _d("user")] = "postgres"
    postgresql_password: Annotated[Secret, _d("password")] = Secret("")
    postgresql_ssl_mode: Annotated[str, _d("sslmode")] = "disable"
    postgresql_read_time_out: Annotated[Duration, _d("a read's limit")] = Duration(120)
    postgresql_write_time_out: Annotated[Duration, _d("a write's limit")] = Duration(5)
    in_memory_db_update_interval: Annotated[
        Duration, _d("poll for configuration that no notification announced")
    ] = Duration(5)

    nats_url: Annotated[str, url("NATS servers, comma separated")] = "nats://127.0.0.1:4222"
    nats_creds: Annotated[str, _d("NATS credentials file")] = ""
    nats_tls_ca: Annotated[str, _d("CA file for NATS over TLS")] = ""

    redis_url: Annotated[Secret, url("keeps answers of routes; empty: from REDIS_HOSTS")] = Secret(
        ""
    )
    redis_hosts: Annotated[str, _d("hosts, tried in order, comma separated")] = "localhost"
    redis_port: Annotated[int, port("port of Redis")] = 6379
    redis_username: Annotated[str, _d("user")] = ""
    redis_password: Annotated[Secret, _d("password")] = Secret("")
    redis_tls: Annotated[bool, _d("connect to REDIS_HOSTS over TLS")] = False
    route_cache_timeout: Annotated[
        Duration, _d("longest wait for a kept answer; later is as if there were none")
    ] = Duration(0.05)
    route_cache_bytes_max: Annotated[int, _d("a longer answer of a route is not kept")] = _MIB

    secrets_key: Annotated[
        Secret, _d("what provider secrets are sealed with: 32 bytes in base64, newest first")
    ] = Secret("")
    secrets_key_file: Annotated[
        str, _d("file of such keys, mode 0600; empty: secrets.key in DATA_DIR")
    ] = ""
    enable_encryption: Annotated[bool, _d("seal provider secrets by ENCRYPTION_ENDPOINT")] = False
    encryption_endpoint: Annotated[str, url("encrypts: POST {secret} to {encryptedSecret}")] = ""
    decryption_endpoint: Annotated[str, url("decrypts: POST {secret} to {decryptedSecret}")] = ""
    encryption_timeout: Annotated[Duration, _d("limit of one call of the two")] = Duration(5)
    audience: Annotated[str, _d("of the Google ID token the two are sent; empty: none")] = ""
    gce_metadata_host: Annotated[str, _d("where that token comes from")] = (
        "metadata.google.internal"
    )

    proxy_timeout: Annotated[Duration, _d("longest exchange, stream included")] = Duration(600)
    drain_s: Annotated[Duration, _d("how long a stop waits for exchanges under way")] = Duration(30)
    journal_stop: Annotated[
        Duration, _d("how long a stop waits until what it shipped is booked")
    ] = Duration(10)
    request_body_bytes_max: Annotated[int, _d("largest JSON request body")] = 64 * _MIB
    multipart_body_bytes_max: Annotated[
        int, _d("largest request body that is not JSON: forms, sound, files")
    ] = 512 * _MIB
    spool_bytes_max: Annotated[
        int, _d("forms that wait in DATA_DIR/spool until their model is known, bytes a worker")
    ] = 4096 * _MIB
    request_headers_bytes_max: Annotated[int, _d("largest request head")] = 65_536
    response_body_bytes_max: Annotated[int, _d("largest answer that is read whole, as JSON is")] = (
        256 * _MIB
    )
    stream_hold_bytes_max: Annotated[
        int, _d("longest unfinished event held back while stripping usage")
    ] = _MIB
    event_body_bytes_max: Annotated[
        int, _d("a longer body is cut in the event to its head, length and SHA-256")
    ] = _MIB
    event_bodies: Annotated[
        Literal["always", "until_usage"], _d("keep bodies in events even when usage was reported")
    ] = "always"
    client_gone: Annotated[
        Literal["drain", "cancel"], _d("when a client leaves: read on for the bill, or stop")
    ] = "drain"
    metering_unavailable: Annotated[
        Literal["refuse", "serve"], _d("when the journal cannot take more")
    ] = "refuse"
    error_code: Annotated[
        Literal["string", "status"], _d("error.code is a word, or the HTTP status as an integer")
    ] = "string"
    allow_organization_paths: Annotated[
        bool,
        _d("forward /v1/organization(s)/* and /v1/projects/*, which administer provider accounts"),
    ] = False
    models_ttl: Annotated[Duration, _d("how long a provider's list of models is kept")] = Duration(
        300
    )
    remove_user_agent: Annotated[bool, _d("do not pass the client's User-Agent on")] = False

    client_connections_max: Annotated[
        int, _d("clients' connections, a worker; more are closed")
    ] = 16_384
    client_head_timeout: Annotated[Duration, _d("longest time for a request's head")] = Duration(30)
    client_idle_timeout: Annotated[
        Duration, _d("a client's connection that asks for nothing is closed after")
    ] = Duration(75)

    upstream_engine: Annotated[
        Literal["auto", "fast", "httpx"],
        _d(
            "HTTP client engine: fast, or httpx, which can go through an outbound proxy and speaks"
            " HTTP/2, for about forty times the CPU and with a new connection for each request;"
            " auto takes httpx for what goes through the proxy"
        ),
    ] = "auto"
    upstream_connect_timeout: Annotated[Duration, _d("longest connect, TLS included")] = Duration(
        10
    )
    upstream_pool_timeout: Annotated[Duration, _d("longest wait for a connection")] = Duration(10)
    upstream_write_timeout: Annotated[Duration, _d("longest stall while sending")] = Duration(30)
    upstream_connections_max: Annotated[int, _d("connections to one origin, a worker")] = 4096
    upstream_idle_max: Annotated[int, _d("idle connections kept, a worker; none by httpx")] = 256
    upstream_idle_timeout: Annotated[Duration, _d("an idle connection is closed after")] = Duration(
        60
    )
    upstream_ca_file: Annotated[str, _d("CA file for providers, beside the system's")] = ""
    upstream_proxy_url: Annotated[
        str, url("outbound proxy; takes the httpx engine, see UPSTREAM_ENGINE")
    ] = ""
    allow_private_upstreams: Annotated[
        bool, _d("let providers be at private, link-local and loopback addresses")
    ] = False

    @property
    def journal_dir(self) -> Path:
        """Where segments live."""
        return Path(self.data_dir).resolve() / "journal"

    @property
    def run_dir(self) -> Path:
        """Where run state is written."""
        return Path(self.data_dir).resolve() / "run"

    @property
    def spool_dir(self) -> Path:
        """Where request bodies wait that are too long for memory."""
        return Path(self.data_dir).resolve() / "spool"

    @property
    def secrets_key_path(self) -> Path:
        """Where the keys of secrets are, unless they are in SECRETS_KEY."""
        return Path(self.secrets_key_file or Path(self.data_dir) / "secrets.key").resolve()

    @property
    def worker_count(self) -> int:
        """Data workers to start."""
        return self.gateway_workers or len(os.sched_getaffinity(0))


def load_settings(environ: Mapping[str, str] | None = None) -> GatewaySettings:
    """Raises BadSettings with every problem at once, also for an open door to the network."""
    settings = load(GatewaySettings, environ)
    if not settings.admin_pass and not is_loopback(settings.admin_host):
        raise BadSettings(
            [
                f"ADMIN_HOST={settings.admin_host} is reachable by others and ADMIN_PASS is not"
                " set: set ADMIN_PASS, or listen on 127.0.0.1"
            ]
        )
    endpoints = ("encryption_endpoint", "decryption_endpoint")
    unset = [name.upper() for name in endpoints if not getattr(settings, name)]
    if settings.enable_encryption and unset:
        raise BadSettings([f"{name} is not set, and ENABLE_ENCRYPTION is" for name in unset])
    return settings
