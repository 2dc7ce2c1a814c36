"""NATS: the streams and buckets this build wants, made or brought into line.

The exchange stream refuses what does not fit (`discard: new`) and forgets nothing by age: only
metering's janitor may purge, below what is booked. Parcels carry no message id, so the window for
duplicates is as small as the server allows. A checkpoint must never be read from a follower that
lags, hence no direct gets there; and never expire, hence a bucket apart from the members'.
"""

import ssl
from typing import Any, Final

import msgspec
import nats
from nats.aio.client import Client
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

from contracts import subjects
from infra.migrations.settings import MigrationSettings

_CONNECT_TIMEOUT_S: Final = 10
_CONNECT_WAIT_S: Final = 0.2
_CONNECT_ATTEMPTS: Final = 5  # for each server of the list; the library's own default is sixty
_DUPLICATE_WINDOW_S: Final = 0.1
_MESSAGE_BYTES_MAX: Final = 8 << 20


class Change(msgspec.Struct, frozen=True):
    """One stream to make (`differs` empty) or to bring into line (`differs` names the settings)."""

    stream: str
    differs: tuple[str, ...]

    def __str__(self) -> str:
        return f"change {self.stream}: {', '.join(self.differs)}" if self.differs else self.stream


def wanted_streams(settings: MigrationSettings) -> list[api.StreamConfig]:
    """Every stream, and every bucket as the stream it is."""
    replicas = settings.stream_replicas
    return [
        _stream(
            subjects.EXCHANGES_STREAM,
            subjects.EXCHANGES_SUBJECTS,
            settings.stream_bytes_max,
            replicas,
        ),
        _stream(
            subjects.DEAD_LETTERS_STREAM,
            subjects.DEAD_LETTERS_SUBJECTS,
            settings.dead_letter_bytes_max,
            replicas,
        ),
        _bucket(subjects.CHECKPOINTS_BUCKET, replicas, allow_direct=False),
        _bucket(subjects.MEMBERS_BUCKET, replicas, ttl_s=float(settings.member_ttl)),
        _bucket(subjects.PRICE_BOOKS_BUCKET, replicas),
    ]


def _stream(name: str, subject: str, bytes_max: int, replicas: int) -> api.StreamConfig:
    return api.StreamConfig(
        name=name,
        subjects=[subject],
        storage=api.StorageType.FILE,
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.NEW,
        max_age=0,
        max_bytes=bytes_max,
        max_msgs=-1,
        max_msg_size=_MESSAGE_BYTES_MAX,
        duplicate_window=_DUPLICATE_WINDOW_S,
        allow_direct=True,
        num_replicas=replicas,
    )


def _bucket(
    name: str, replicas: int, *, ttl_s: float = 0, allow_direct: bool = True
) -> api.StreamConfig:
    return api.StreamConfig(
        name=f"KV_{name}",
        subjects=[f"$KV.{name}.>"],
        storage=api.StorageType.FILE,
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.NEW,
        max_age=ttl_s,
        max_bytes=-1,
        max_msgs=-1,
        max_msgs_per_subject=1,
        max_msg_size=_MESSAGE_BYTES_MAX,
        duplicate_window=_DUPLICATE_WINDOW_S,
        allow_direct=allow_direct,
        allow_rollup_hdrs=True,
        deny_delete=True,
        num_replicas=replicas,
    )


async def connect(settings: MigrationSettings) -> Client:
    """A connection that gives up instead of waiting for ever."""
    options: dict[str, Any] = {}
    if settings.nats_creds is not None:
        options["user_credentials"] = settings.nats_creds
    if settings.nats_tls_ca is not None:
        options["tls"] = ssl.create_default_context(cafile=settings.nats_tls_ca)
    return await nats.connect(
        servers=[url.strip() for url in settings.nats_url.split(",")],
        connect_timeout=_CONNECT_TIMEOUT_S,
        allow_reconnect=False,
        max_reconnect_attempts=_CONNECT_ATTEMPTS,
        reconnect_time_wait=_CONNECT_WAIT_S,
        **options,
    )


async def migrate_nats(settings: MigrationSettings, *, dry_run: bool = False) -> list[str]:
    """What was made or changed (or would be)."""
    client = await connect(settings)
    try:
        jetstream = client.jetstream(timeout=float(settings.migration_timeout))
        done = []
        for config in wanted_streams(settings):
            change = await _bring_into_line(jetstream, config, dry_run=dry_run)
            if change is not None:
                done.append(str(change))
        return done
    finally:
        await client.close()


async def _bring_into_line(
    jetstream: JetStreamContext, wanted: api.StreamConfig, *, dry_run: bool
) -> Change | None:
    name = wanted.name
    assert name is not None
    try:
        present = (await jetstream.stream_info(name)).config
    except NotFoundError:
        if not dry_run:
            # Two runners at once send the same configuration, which the server takes twice.
            await jetstream.add_stream(wanted)
        return Change(name, ())
    differs = tuple(
        field
        for field, value in vars(wanted).items()
        if value is not None and value != getattr(present, field)
    )
    if not differs:
        return None
    if not dry_run:
        await jetstream.update_stream(
            present.evolve(**{field: getattr(wanted, field) for field in differs})
        )
    return Change(name, differs)
