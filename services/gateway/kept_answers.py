"""Keeps the answers of one call, and finds what was kept of one like it."""

from functools import partial

from gateway.asked import Asked
from gateway.dispatch.keeping import is_good
from gateway.errands import Errand
from gateway.long_bodies import edited
from gateway.ports import CachedAnswer, ResponseCache


class AnswerKeeper:
    """Keeps the answer of one call for as long as its errand says."""

    def __init__(self, cache: ResponseCache, key: bytes, ttl_s: float) -> None:
        self.bytes_max = cache.bytes_max
        self._cache = cache
        self._key = key
        self._ttl_s = ttl_s

    async def kept(self) -> CachedAnswer | None:
        """What was kept of such a call before."""
        return await self._cache.get(self._key)

    def keep(
        self, content_type: str, content: bytes, model: str | None, *, is_stream: bool
    ) -> None:
        """A whole answer of status 200. One that is none after all is not kept."""
        if len(content) <= self.bytes_max and (is_stream or is_good(content)):
            content_type = content_type or "application/json"
            answer = CachedAnswer(content_type, is_stream, content, model or "")
            self._cache.put(self._key, answer, self._ttl_s)


async def keeper_of(
    errand: Errand, asked: Asked, cache: ResponseCache | None
) -> AnswerKeeper | None:
    """What keeps the answer of a call; None when it is not to be kept, or like no other."""
    if cache is None or not errand.keeps_s:
        return None
    key = await edited(partial(errand.cache_key, asked), asked.body or b"")
    return AnswerKeeper(cache, key, errand.keeps_s) if key else None
