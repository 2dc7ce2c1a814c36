"""Where the stores are, and how large the stream may grow."""

from typing import Annotated
from urllib.parse import quote

import msgspec

from runtime.settings import Duration, Secret, port, url

_GIB = 1 << 30


class MigrationSettings(msgspec.Struct, frozen=True):
    """Settings of `python -m infra.migrations`."""

    nats_url: Annotated[str, url("NATS servers, separated by commas")] = "nats://127.0.0.1:4222"
    nats_creds: Annotated[
        str | None, msgspec.Meta(description="Path of a NATS credentials file")
    ] = None
    nats_tls_ca: Annotated[
        str | None, msgspec.Meta(description="Path of the CA that signed NATS's certificate")
    ] = None
    clickhouse_url: Annotated[str, url("ClickHouse's HTTP address")] = "http://127.0.0.1:8123"
    clickhouse_user: Annotated[str, msgspec.Meta(description="ClickHouse user")] = "default"
    clickhouse_password: Annotated[Secret, msgspec.Meta(description="ClickHouse password")] = (
        Secret("")
    )
    clickhouse_database: Annotated[str, msgspec.Meta(description="ClickHouse database")] = "tollway"
    postgres_url: Annotated[Secret | None, url("Postgres; without it POSTGRESQL_* count")] = None
    postgresql_hosts: Annotated[
        str, msgspec.Meta(description="Postgres host (the first of a list is used)")
    ] = "127.0.0.1"
    postgresql_port: Annotated[int, port("Postgres port")] = 5432
    postgresql_username: Annotated[str, msgspec.Meta(description="Postgres user")] = "tollway"
    postgresql_password: Annotated[Secret, msgspec.Meta(description="Postgres password")] = Secret(
        ""
    )
    postgresql_db_name: Annotated[str, msgspec.Meta(description="Postgres database")] = "tollway"
    postgresql_ssl_mode: Annotated[
        str, msgspec.Meta(description="Postgres sslmode: disable, prefer, require, verify-full")
    ] = "prefer"
    stream_bytes_max: Annotated[
        int, msgspec.Meta(description="Size at which the exchange stream refuses more, bytes")
    ] = 32 * _GIB
    dead_letter_bytes_max: Annotated[
        int, msgspec.Meta(description="Size at which the dead-letter stream refuses more, bytes")
    ] = 2 * _GIB
    stream_replicas: Annotated[
        int, msgspec.Meta(description="Copies of every stream and bucket; 3 in a cluster")
    ] = 1
    member_ttl: Annotated[
        Duration, msgspec.Meta(description="A consumer unheard of for so long is gone")
    ] = Duration(10)
    migration_timeout: Annotated[
        Duration, msgspec.Meta(description="Limit of one statement or one NATS request")
    ] = Duration(60)

    def postgres_dsn(self) -> str:
        """POSTGRES_URL, or one made of the POSTGRESQL_ settings."""
        if self.postgres_url is not None:
            return self.postgres_url.reveal()
        host = self.postgresql_hosts.split(",")[0].strip()
        user = quote(self.postgresql_username, safe="")
        password = quote(self.postgresql_password.reveal(), safe="")
        return (
            f"postgresql://{user}:{password}@{host}:{self.postgresql_port}/"
            f"{quote(self.postgresql_db_name, safe='')}?sslmode={self.postgresql_ssl_mode}"
        )
