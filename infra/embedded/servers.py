"""Every embedded server, in the order of starting."""

from typing import Final

from infra.embedded.clickhouse import CLICKHOUSE
from infra.embedded.nats import NATS
from infra.embedded.plan import Server
from infra.embedded.postgres import POSTGRES
from infra.embedded.redis import REDIS

SERVERS: Final[tuple[Server, ...]] = (NATS, POSTGRES, REDIS, CLICKHOUSE)
