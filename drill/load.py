"""Clients that write down what they asked and what they got, request by request."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

import httptools
import msgspec

Kind = Literal["plain", "stream", "leaves", "cut", "refused", "unpriced"]

PICOUSD_PER_TOKEN: Final = {
    "gpt-4o": (2_500_000, 10_000_000),
    "gpt-4o-mini": (150_000, 600_000),
}
"""The list prices of input and output, written down here apart from the price book's compiler."""

UNPRICED_MODEL: Final = "house-model-of-no-price-book"
_MIX: Final[tuple[tuple[Kind, int], ...]] = (
    ("plain", 45),
    ("stream", 40),
    ("leaves", 4),
    ("cut", 4),
    ("refused", 4),
    ("unpriced", 3),
)
_ANSWER_TIMEOUT_S: Final = 60.0


class Ask(msgspec.Struct, frozen=True):
    """What a request asks of the provider. No two of a load have the same `prompt` tokens: by them
    the provider's record, which knows no ids of ours, names the request.
    """

    kind: Kind
    model: str
    prompt: int
    completion: int
    is_streaming: bool
    chunks: int = 4
    chunk_delay_ms: int = 0
    latency_ms: int = 0
    content_bytes: int = 200

    @property
    def picousd(self) -> int | None:
        """What it costs; None for a model without a price."""
        prices = PICOUSD_PER_TOKEN.get(self.model)
        return prices and self.prompt * prices[0] + self.completion * prices[1]


class Told(msgspec.Struct):
    """One request in the client's own record; times are of `time.monotonic`.

    `status` None: no head of an answer came. `is_whole`: its last byte came too.
    """

    custom_id: str
    ask: Ask
    began: float
    ended: float = 0.0
    status: int | None = None
    is_whole: bool = False
    has_left: bool = False
    problem: str = ""
    body: bytes = b""

    @property
    def error_code(self) -> str:
        """The code of the gateway's error object, "" when it is none."""
        with contextlib.suppress(ValueError, TypeError, KeyError):
            return str(json.loads(self.body)["error"]["code"] or "")
        return ""


def chosen(chance: random.Random, prompt: int, *, slow_share: float = 0.1) -> Ask:
    """A request from the mix; `slow_share` of the streams last about a second."""
    [kind] = chance.choices([kind for kind, _ in _MIX], [weight for _, weight in _MIX])
    is_streaming = kind in ("stream", "leaves", "cut") or (
        kind == "unpriced" and chance.random() < 0.5
    )
    is_slow = is_streaming and chance.random() < slow_share
    return Ask(
        kind=kind,
        model=UNPRICED_MODEL if kind == "unpriced" else chance.choice(list(PICOUSD_PER_TOKEN)),
        prompt=prompt,
        completion=chance.randint(1, 900),
        is_streaming=is_streaming,
        chunks=20 if is_slow else chance.randint(3, 6),
        chunk_delay_ms=50 if is_slow else chance.choice((0, 0, 5, 20)),
        latency_ms=chance.choice((0, 0, 10, 40)),
    )


class Load:
    """Sends requests to one gateway and keeps every record for ever."""

    def __init__(self, port: int, key: str, chance: random.Random, name: str) -> None:
        self.told: list[Told] = []
        self._port = port
        self._key = key
        self._chance = chance
        self._name = name
        self._count = 0
        self._prompts = 0

    def ask(self, *, slow_share: float = 0.1) -> Ask:
        """A request from the mix."""
        return chosen(self._chance, self._next_prompt(), slow_share=slow_share)

    def slow_stream(self, seconds: float) -> Ask:
        """A stream that is still under way when a fault comes."""
        chunks = max(2, round(seconds / 0.05))
        completion = self._chance.randint(1, 900)
        return Ask("stream", "gpt-4o", self._next_prompt(), completion, True, chunks, 50)

    def _next_prompt(self) -> int:
        self._prompts += 1
        return self._prompts

    @contextlib.asynccontextmanager
    async def running(
        self, per_s: float, *, in_flight_max: int = 100, slow_share: float = 0.1
    ) -> AsyncIterator[None]:
        """Requests of the mix while the block lasts; leaving it waits for their answers."""
        tasks: set[asyncio.Task[Told]] = set()

        async def generate() -> None:
            while True:
                await asyncio.sleep(self._chance.expovariate(per_s))
                if len(tasks) < in_flight_max:
                    task = asyncio.create_task(self.send(self.ask(slow_share=slow_share)))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)

        generating = asyncio.create_task(generate())
        try:
            yield
        finally:
            generating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await generating
            if tasks:
                await asyncio.wait(tasks, timeout=_ANSWER_TIMEOUT_S + 5)

    async def burst(self, count: int, **mix: Any) -> list[Told]:
        """So many requests of the mix, some at a time."""
        gate = asyncio.Semaphore(20)

        async def one() -> Told:
            async with gate:
                return await self.send(self.ask(**mix))

        return list(await asyncio.gather(*(one() for _ in range(count))))

    async def send(self, ask: Ask) -> Told:
        """One request to its end, whatever that is; never raises for what the gateway does."""
        self._count += 1
        told = Told(f"{self._name}-{self._count}", ask, time.monotonic())
        self.told.append(told)
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                await self._exchange(told)
        except (OSError, TimeoutError, httptools.HttpParserError) as error:
            told.problem = repr(error)
        told.ended = time.monotonic()
        return told

    async def _exchange(self, told: Told) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(self._request(told))
            await writer.drain()
            answer = _Answer()
            parser = answer.parser = httptools.HttpResponseParser(answer)
            while not answer.is_whole:
                piece = await reader.read(65_536)
                if not piece:
                    told.problem = "closed before its end"
                    break
                parser.feed_data(piece)
                told.status = answer.status
                if told.ask.kind == "leaves" and answer.body:
                    told.has_left = True
                    break
            told.is_whole = answer.is_whole
            told.status = answer.status
            if answer.status is not None and answer.status >= 400:
                told.body = bytes(answer.body)
        finally:
            writer.transport.abort()

    def _request(self, told: Told) -> bytes:
        ask = told.ask
        # The length of the text is all the same to the bill: usage is asked for.
        body = json.dumps(
            {
                "model": ask.model,
                "stream": ask.is_streaming,
                "messages": [{"role": "user", "content": "x" * ask.content_bytes}],
            }
        ).encode()
        headers = {
            "host": f"127.0.0.1:{self._port}",
            "authorization": f"Bearer {self._key}",
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            "x-custom-event-id": told.custom_id,
            "x-demo-usage": f"prompt={ask.prompt},completion={ask.completion}",
        }
        if ask.latency_ms:
            headers["x-demo-latency-ms"] = str(ask.latency_ms)
        if ask.is_streaming:
            headers["x-demo-chunks"] = str(ask.chunks)
            headers["x-demo-chunk-delay-ms"] = str(ask.chunk_delay_ms)
        if ask.kind == "cut":
            headers["x-demo-cut"] = "2"
        if ask.kind == "refused":
            headers["x-demo-status"] = "429"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + body


class _Answer:
    def __init__(self) -> None:
        self.status: int | None = None
        self.body = bytearray()
        self.is_whole = False
        self.parser: Any = None

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_whole = True
