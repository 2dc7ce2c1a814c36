"""A mapping that is never changed: the next one shares with it all but what changed."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Generic, TypeVar, overload

Key = TypeVar("Key")
Value = TypeVar("Value")
Default = TypeVar("Default")

_SHARDS: Final = 256
"""A change copies one shard, so of 100,000 entries about 400; a look-up does not get slower."""
_MASK: Final = _SHARDS - 1
_NOTHING: Final[dict[Any, Any]] = {}


class Table(Mapping[Key, Value]):
    """Entries by key, spread over shards. Make the next one with `TableDraft`."""

    __slots__ = ("_count", "_shards")

    def __init__(
        self, shards: tuple[dict[Key, Value], ...] = (_NOTHING,) * _SHARDS, count: int = 0
    ) -> None:
        self._shards = shards
        self._count = count

    def __getitem__(self, key: Key) -> Value:
        return self._shards[hash(key) & _MASK][key]

    @overload
    def get(self, key: Key, /) -> Value | None: ...
    @overload
    def get(self, key: Key, /, default: Value | Default) -> Value | Default: ...
    def get(self, key: Key, /, default: Any = None) -> Any:
        """The value, `default` when there is none."""
        return self._shards[hash(key) & _MASK].get(key, default)

    def __iter__(self) -> Iterator[Key]:
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        return self._count

    def shards(self) -> tuple[dict[Key, Value], ...]:
        """The parts; not to be changed."""
        return self._shards


class TableDraft(Generic[Key, Value]):
    """The next table while it is made. Copies a shard when it is first written to."""

    def __init__(self, base: Table[Key, Value]) -> None:
        self._shards = list(base.shards())
        self._is_own = bytearray(_SHARDS)
        self._count = len(base)

    def get(self, key: Key) -> Value | None:
        """What is there now."""
        return self._shards[hash(key) & _MASK].get(key)

    def put(self, key: Key, value: Value) -> None:
        """New, or in place of what was there."""
        shard = self._own(hash(key) & _MASK)
        before = len(shard)
        shard[key] = value
        self._count += len(shard) - before

    def drop(self, key: Key) -> Value | None:
        """Takes out and returns what was there."""
        number = hash(key) & _MASK
        if key not in self._shards[number]:
            return None
        self._count -= 1
        return self._own(number).pop(key)

    def done(self) -> Table[Key, Value]:
        """The table. The draft must not be written to after that."""
        return Table(tuple(self._shards), self._count)

    def _own(self, number: int) -> dict[Key, Value]:
        if not self._is_own[number]:
            self._is_own[number] = 1
            self._shards[number] = dict(self._shards[number])
        return self._shards[number]
