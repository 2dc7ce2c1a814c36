"""Billers by price book version, out of a key-value bucket: recovery needs no other database."""

import gzip
import zlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from metering.adapters.nats_link import as_unavailable
from metering.pipeline import Pipeline
from metering.ports import Refused
from rating.price_book import PriceBook

_CURRENT_KEY: Final = "current"
_CURRENT_FOR_MS: Final = 5_000
_KEPT_MAX: Final = 4


class NatsBillers:
    """metering.ports.Billers; keeps the books of the last few versions."""

    def __init__(self, bucket: KeyValue, monotonic_ms: Callable[[], int]) -> None:
        self._bucket = bucket
        self._monotonic_ms = monotonic_ms
        self._kept: OrderedDict[str, Pipeline] = OrderedDict()
        self._current: str | None = None
        self._current_until_ms = 0

    async def current(self) -> str:
        now_ms = self._monotonic_ms()
        if self._current is None or now_ms >= self._current_until_ms:
            self._current = (await self._value(_CURRENT_KEY)).decode()
            self._current_until_ms = now_ms + _CURRENT_FOR_MS
        return self._current

    async def load(self, price_book: str) -> Pipeline:
        kept = self._kept.get(price_book)
        if kept is None:
            packed = await self._value(price_book)
            try:
                book = PriceBook.from_json(gzip.decompress(packed), price_book)
            except (OSError, EOFError, zlib.error, ValueError, msgspec.DecodeError) as error:
                raise Refused(f"price book {price_book} cannot be read: {error}") from error
            kept = self._kept[price_book] = Pipeline(book)
            if len(self._kept) > _KEPT_MAX:
                self._kept.popitem(last=False)
        self._kept.move_to_end(price_book)
        return kept

    async def _value(self, key: str) -> bytes:
        with as_unavailable():
            try:
                return (await self._bucket.get(key)).value or b""
            except KeyNotFoundError as missing:
                raise Refused(
                    f"there is no price book {key}: run `tollway migrate` to put it there"
                ) from missing
