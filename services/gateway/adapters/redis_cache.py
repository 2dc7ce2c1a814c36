"""Answers of routes in Redis, which may be down, slow or full: then nothing is found, nothing kept."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway.ports import CachedAnswer
from gateway.settings import GatewaySettings
from gateway.telemetry import Counters

log = logging.getLogger(__name__)

_PREFIX: Final = b"tollway:route-cache:1:"
_CONNECTIONS_MAX: Final = 32
_PUTS_MAX: Final = 256
"""Answers on their way; more are not kept."""
_PUT_TIMEOUT_S: Final = 2.0
_PAUSE_S: Final = 1.0
"""After a failure nobody asks for so long: an outage must not cost every call its patience."""
_MEMORY_SHARE_MAX: Final = 0.5
"""Of the server's memory, which the counters of limits need as well."""
_MEMORY_SEEN_S: Final = 5.0

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CachedAnswer).decode


class RedisCache:
    """Implements ResponseCache over one server of several, the first that can be reached."""

    def __init__(
        self, clients: list["Redis"], counters: Counters, bytes_max: int, timeout_s: float
    ) -> None:
        self._clients = clients
        self._at = 0
        self._counters = counters
        self.bytes_max = bytes_max
        self._timeout_s = timeout_s
        self._silent_until_s = 0.0
        self._memory_until_s = 0.0
        self._is_full = False
        self._puts: set[asyncio.Task[None]] = set()

    async def get(self, key: bytes) -> CachedAnswer | None:
        """None also when Redis does not answer in time."""
        counters = self._counters
        if time.monotonic() < self._silent_until_s:
            counters.cache_unavailable += 1
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                found: Any = await self._clients[self._at].get(_PREFIX + key)
            # The key stands in the value too: whatever befell a connection, nobody is given
            # another call's answer.
            is_ours = found is not None and found[: len(key)] == key
            answer = _decode(found[len(key) :]) if is_ours else None
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return None
        except msgspec.DecodeError:
            answer = None
        if answer is None:
            counters.cache_misses += 1
        else:
            counters.cache_hits += 1
        return answer

    def put(self, key: bytes, answer: CachedAnswer, ttl_s: float) -> None:
        """Kept behind the back of the call."""
        if len(self._puts) >= _PUTS_MAX or time.monotonic() < self._silent_until_s:
            self._counters.cache_not_kept += 1
            return
        task = asyncio.create_task(self._put(key, answer, ttl_s), name="cache.put")
        self._puts.add(task)
        task.add_done_callback(self._puts.discard)

    async def close(self) -> None:
        """What is on its way is kept or given up."""
        if self._puts:
            await asyncio.wait(set(self._puts), timeout=_PUT_TIMEOUT_S)
        for client in self._clients:
            await client.aclose()

    async def _put(self, key: bytes, answer: CachedAnswer, ttl_s: float) -> None:
        client = self._clients[self._at]
        try:
            async with asyncio.timeout(_PUT_TIMEOUT_S):
                if await self._has_room(client):
                    lifetime_ms = max(int(ttl_s * 1000), 1)
                    await client.set(_PREFIX + key, key + _encode(answer), px=lifetime_ms)
                    return
        except ResponseError as error:
            # It is there, and does not want this one: out of memory, read-only.
            log.warning("cache.refused error=%s", type(error).__name__)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
        self._counters.cache_not_kept += 1

    async def _has_room(self, client: "Redis") -> bool:
        now_s = time.monotonic()
        if now_s >= self._memory_until_s:
            self._memory_until_s = now_s + _MEMORY_SEEN_S
            facts: dict[str, Any] = await client.info("memory")
            memory_max = int(facts.get("maxmemory") or 0)
            used = int(facts.get("used_memory") or 0)
            is_full = 0 < memory_max * _MEMORY_SHARE_MAX < used
            if is_full and not self._is_full:
                log.warning("cache.full used_bytes=%d max_bytes=%d", used, memory_max)
            self._is_full = is_full
        return not self._is_full

    def _failed(self, error: Exception) -> None:
        now_s = time.monotonic()
        if now_s >= self._silent_until_s:
            log.warning("cache.unavailable error=%s", type(error).__name__)
        self._silent_until_s = now_s + _PAUSE_S
        self._counters.cache_unavailable += 1
        self._at = (self._at + 1) % len(self._clients)


@asynccontextmanager
async def open_cache(settings: GatewaySettings, counters: Counters) -> AsyncIterator[RedisCache]:
    """Connects to nothing yet."""
    clients = [
        Redis.from_url(
            url,
            socket_connect_timeout=_PUT_TIMEOUT_S,
            socket_timeout=_PUT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            max_connections=_CONNECTIONS_MAX,
        )
        for url in redis_urls(settings)
    ]
    cache = RedisCache(
        clients, counters, settings.route_cache_bytes_max, float(settings.route_cache_timeout)
    )
    try:
        yield cache
    finally:
        await cache.close()


def redis_urls(settings: GatewaySettings) -> list[str]:
    """Where Redis is, in the order in which it is tried."""
    if settings.redis_url:
        return [settings.redis_url.reveal()]
    scheme = "rediss" if settings.redis_tls else "redis"
    user = quote(settings.redis_username, safe="")
    password = quote(settings.redis_password.reveal(), safe="")
    login = f"{user}:{password}@" if password else ""
    hosts = [host.strip() for host in settings.redis_hosts.split(",") if host.strip()]
    return [f"{scheme}://{login}{host}:{settings.redis_port}/0" for host in hosts or ["localhost"]]
