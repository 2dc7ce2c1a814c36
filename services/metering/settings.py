"""Metering's settings; the only reader of the environment here."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from metering.limits import Limits
from runtime.settings import Duration, Secret, load, url


def _d(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class MeteringSettings(msgspec.Struct, frozen=True):
    """Everything metering can be told. Names are the environment's, in lower case."""

    data_dir: Annotated[str, _d("run state lives here; audit reads journals here")] = ".tollway"
    number_of_event_message_consumers: Annotated[
        int, msgspec.Meta(description="consumer processes", ge=1)
    ] = 3
    metering_partitions: Annotated[
        int, _d("partitions metered even while empty; those found in the stream always are")
    ] = 8

    nats_url: Annotated[str, url("NATS servers, comma separated")] = "nats://127.0.0.1:4222"
    nats_creds: Annotated[str | None, _d("NATS credentials file")] = None
    nats_tls_ca: Annotated[str | None, _d("CA file for NATS over TLS")] = None
    nats_timeout: Annotated[Duration, _d("limit of one NATS request")] = Duration(5)
    clickhouse_url: Annotated[str, url("ClickHouse's HTTP address")] = "http://127.0.0.1:8123"
    clickhouse_user: Annotated[str, _d("ClickHouse user")] = "default"
    clickhouse_password: Annotated[Secret, _d("ClickHouse password")] = Secret("")
    clickhouse_database: Annotated[str, _d("ClickHouse database")] = "tollway"
    clickhouse_timeout: Annotated[Duration, _d("limit of one reading query")] = Duration(30)

    audit_timeout: Annotated[Duration, _d("limit of one query of an audit")] = Duration(300)

    booking_deadline_s: Annotated[
        Duration, _d("an insert later than this is refused by the ledger's own clock")
    ] = Duration(15)
    booking_execution_max: Annotated[
        Duration, _d("longest insert; recovery waits so long past the deadline")
    ] = Duration(10)
    batch_rows_max: Annotated[int, _d("most records of one batch")] = 20_000
    batch_bytes_max: Annotated[int, _d("most parcel bytes of one batch")] = 16 * 1024 * 1024
    batches_at_once: Annotated[
        int, _d("partitions of one process that work on a batch at the same time")
    ] = 2
    batch_delay: Annotated[Duration, _d("a batch waits so long for more")] = Duration(0.15)
    batch_rest_max: Annotated[
        Duration,
        _d("after a batch the next waits ten times as long as it took, at most so long"),
    ] = Duration(1)
    closings_max: Annotated[int, _d("most abandoned admissions closed in one batch")] = 500
    close_grace: Annotated[
        Duration, _d("journal time past an admission's timeout before it counts as abandoned")
    ] = Duration(60)
    silence_is_loss_after: Annotated[
        Duration, _d("a journal unheard of for so long counts as lost")
    ] = Duration(86_400)
    keep_ended: Annotated[Duration, _d("an ended journal stays in the checkpoint")] = Duration(
        7 * 86_400
    )
    dead_letter_run_max: Annotated[
        int, _d("undecodable records of one journal before it is quarantined")
    ] = 100
    quarantined_max: Annotated[int, _d("quarantined journals before a partition stops")] = 3
    replay_retention: Annotated[Duration, _d("booked events stay in the stream")] = Duration(
        7 * 86_400
    )
    janitor_interval: Annotated[Duration, _d("how often the stream is purged")] = Duration(60)
    member_interval: Annotated[Duration, _d("heartbeat of a consumer")] = Duration(2)
    drain_s: Annotated[Duration, _d("how long a stop waits for the batches under way")] = Duration(
        30
    )

    @property
    def data_path(self) -> Path:
        """DATA_DIR, absolute."""
        return Path(self.data_dir).resolve()

    def limits(self) -> Limits:
        """What the batch protocol works within."""
        return Limits(
            rows_max=self.batch_rows_max,
            bytes_max=self.batch_bytes_max,
            delay_ms=_ms(self.batch_delay),
            rest_max_ms=_ms(self.batch_rest_max),
            booking_deadline_ms=_ms(self.booking_deadline_s),
            execution_max_ms=_ms(self.booking_execution_max),
            closings_max=self.closings_max,
            close_grace_ms=_ms(self.close_grace),
            keep_ended_ms=_ms(self.keep_ended),
            silence_ms=_ms(self.silence_is_loss_after),
            bad_run_max=self.dead_letter_run_max,
            quarantined_max=self.quarantined_max,
        )


def _ms(duration: Duration) -> int:
    return round(duration * 1000)


def load_settings(environ: Mapping[str, str] | None = None) -> MeteringSettings:
    """Raises BadSettings with every problem at once."""
    return load(MeteringSettings, environ)


def child_environ() -> dict[str, str]:
    """The environment of a consumer process."""
    return dict(os.environ)
