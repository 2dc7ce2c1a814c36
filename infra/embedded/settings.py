"""What an operator may say about the embedded servers."""

from typing import Annotated

import msgspec

_MIB = 1 << 20
_GIB = 1 << 30


class EmbeddedSettings(msgspec.Struct, frozen=True):
    """Limits of the embedded servers; every one has a default that suits one machine."""

    nats_server_bin: Annotated[
        str | None, msgspec.Meta(description="A nats-server (2.15 or newer) to run instead of ours")
    ] = None
    nats_file_bytes_max: Annotated[
        int, msgspec.Meta(description="Disk that JetStream may use, bytes")
    ] = 64 * _GIB
    nats_memory_bytes_max: Annotated[
        int, msgspec.Meta(description="Memory that JetStream's memory streams may use, bytes")
    ] = 256 * _MIB
    redis_memory_bytes_max: Annotated[
        int, msgspec.Meta(description="Memory of the embedded Redis (noeviction past it), bytes")
    ] = 512 * _MIB
    clickhouse_memory_bytes_max: Annotated[
        int, msgspec.Meta(description="Memory of the embedded ClickHouse engine, bytes")
    ] = 4 * _GIB
    clickhouse_request_bytes_max: Annotated[
        int,
        msgspec.Meta(description="One request body of the embedded ClickHouse, unpacked, bytes"),
    ] = 256 * _MIB
