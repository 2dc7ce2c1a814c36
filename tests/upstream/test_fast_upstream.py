"""What only the fast engine promises: its pool, its clock, and the races around an idle end."""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from upstream.conftest import OpenEngine, Serve, TestCa, ask
from upstream.scripted_server import Peer, answering, ending, plain

from gateway.adapters.fast_upstream import FastUpstream
from gateway.adapters.tick_clock import NEVER, TickClock
from gateway.ports import Origin, PoolTimedOut, ReadTimedOut, ResetBeforeResponse


@pytest.fixture
def engine() -> str:
    """This file is about one engine."""
    return "fast"


class BlockingServer:
    """A server in a thread, so that it can act while the loop under test stands still.

    Answers the first request on the first connection, ends it in the given way when told to, and
    serves later connections for as long as they last.
    """

    def __init__(self, end: str) -> None:
        self.end = end
        self.may_end = threading.Event()
        self.has_ended = threading.Event()
        self.requests: list[bytes] = []
        self._second: socket.socket | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def origin(self) -> Origin:
        return Origin("http", "127.0.0.1", self._listener.getsockname()[1])

    def stop(self) -> None:
        self.may_end.set()
        if self._second is not None:
            with contextlib.suppress(OSError):  # It may have ended by itself.
                self._second.shutdown(socket.SHUT_RDWR)
        else:
            # A connection of our own wakes the thread that still waits for one.
            with socket.socket() as waker:
                waker.connect(self._listener.getsockname())
        self._thread.join(20)
        self._listener.close()

    def _run(self) -> None:
        first, _ = self._listener.accept()
        with first:
            first.settimeout(20)
            self.requests.append(first.recv(65_536))
            first.sendall(plain(b"first"))
            self.may_end.wait(20)
            if self.end == "rst":
                first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.has_ended.set()
        second, _ = self._listener.accept()
        with second:
            self._second = second
            second.settimeout(20)
            while data := second.recv(65_536):
                self.requests.append(data)
                second.sendall(plain(b"second"))


@pytest.fixture(params=["fin", "rst"])
def blocking_server(request: pytest.FixtureRequest) -> Iterator[BlockingServer]:
    """Ends its first connection by FIN, and by RST."""
    server = BlockingServer(request.param)
    yield server
    server.stop()


async def _first_then_end_unseen(upstream: FastUpstream, server: BlockingServer) -> None:
    response = await upstream.send(ask(server.origin))
    assert await response.read(10) == b"first"
    server.may_end.set()
    # The loop must not run between the end and the next request: that is the race.
    assert server.has_ended.wait(20)
    time.sleep(0.05)  # noqa: ASYNC251


async def test_an_end_the_loop_has_not_seen_is_found_before_a_request_is_risked(
    open_engine: OpenEngine, blocking_server: BlockingServer
) -> None:
    """A connection that was idle for long is looked at before it is used; no leave is needed."""
    upstream = open_engine(idle_check_after_s=0.0)
    await _first_then_end_unseen(upstream, blocking_server)
    response = await upstream.send(ask(blocking_server.origin))

    assert await response.read(10) == b"second"
    assert len(blocking_server.requests) == 2


async def test_a_request_of_which_nothing_left_is_sent_again_without_leave(
    open_engine: OpenEngine, blocking_server: BlockingServer
) -> None:
    """A write that the kernel refused has reached nobody; one that it took may have."""
    upstream = open_engine(idle_check_after_s=60.0)
    await _first_then_end_unseen(upstream, blocking_server)
    if blocking_server.end == "rst":
        response = await upstream.send(ask(blocking_server.origin))

        assert await response.read(10) == b"second"
    else:
        with pytest.raises(ResetBeforeResponse) as caught:
            await upstream.send(ask(blocking_server.origin))

        assert not caught.value.sent_nothing


async def test_a_streamed_request_of_which_nothing_left_is_sent_again(
    open_engine: OpenEngine, blocking_server: BlockingServer
) -> None:
    """The source was not touched yet, so it can still be sent."""

    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    upstream = open_engine(idle_check_after_s=0.0)
    await _first_then_end_unseen(upstream, blocking_server)
    response = await upstream.send(ask(blocking_server.origin, body()))

    assert await response.read(10) == b"second"


async def test_a_retry_takes_a_new_connection(serve: Serve, open_engine: OpenEngine) -> None:
    """After a restart of the server every idle connection is dead; one request finds one of them."""
    together = asyncio.Barrier(3)
    lost: list[int] = []

    async def stale(peer: Peer) -> None:
        await peer.request()
        await together.wait()
        await peer.send(plain(b"first"))
        await peer.request()
        lost.append(1)

    server = await serve(stale, stale, stale, answering(plain(b"second")))
    upstream = open_engine(connections_per_origin_max=3)

    async def one(*, is_repeatable: bool) -> bytes:
        response = await upstream.send(ask(server.origin(), is_repeatable=is_repeatable))
        return await response.read(10)

    await asyncio.gather(*(one(is_repeatable=False) for _ in range(3)))
    second = await one(is_repeatable=True)

    assert second == b"second"
    assert lost == [1]
    assert server.connection_count == 4


async def test_idle_connections_are_bounded_over_all_origins(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """The one that was idle longest goes first."""
    upstream = open_engine(idle_connections_max=2)
    servers = [await serve(answering(*[plain(b"ok")] * 3)) for _ in range(3)]
    for server in servers:
        response = await upstream.send(ask(server.origin()))
        await response.read(10)
    async with asyncio.timeout(60):
        await servers[0].everyone_gone()
    for server in servers[1:]:
        response = await upstream.send(ask(server.origin()))
        await response.read(10)

    assert [server.connection_count for server in servers] == [1, 1, 1]
    assert upstream.connection_count() == 2


async def test_nothing_is_kept_for_an_origin_without_connections(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """Origins come from configuration and go with it."""
    upstream = open_engine()
    for _ in range(3):
        server = await serve(ending(plain(b"ok", b"Connection: close\r\n")))
        response = await upstream.send(ask(server.origin()))
        await response.read(10)

    with pytest.raises(ValueError, match="target"):
        await upstream.send(ask(Origin("http", "refused.example", 80), target=b"/ x"))

    assert upstream._pools == {}


async def test_a_servers_own_idle_time_is_obeyed(serve: Serve, open_engine: OpenEngine) -> None:
    """Keep-Alive: timeout=N closes the connection before the server does."""
    upstream = open_engine(idle_timeout_s=60.0)
    server = await serve(answering(plain(b"ok", b"Keep-Alive: timeout=1, max=100\r\n")))
    response = await upstream.send(ask(server.origin()))
    await response.read(10)
    async with asyncio.timeout(60):
        await server.everyone_gone()

    assert upstream.connection_count() == 0


async def test_a_waiter_that_leaves_hands_its_turn_on(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """A connection given to a request that was cancelled in that moment is not lost."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await go_on.wait()
            await peer.send(plain(b"ok"))

    upstream = open_engine(connections_per_origin_max=1)
    server = await serve(script)

    async def one() -> bytes:
        response = await upstream.send(ask(server.origin()))
        return await response.read(10)

    tasks = [asyncio.create_task(one()) for _ in range(20)]
    await asyncio.sleep(0.05)
    go_on.set()
    for step, task in enumerate(tasks[1:-1]):
        for _ in range(step % 4):
            await asyncio.sleep(0)
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert results[0] == b"ok"
    assert results[-1] == b"ok"
    assert upstream.connection_count() == 1


async def test_a_failed_connect_gives_its_slot_to_the_next(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """Slots are not leaked by connections that never came to be."""
    upstream = open_engine(connections_per_origin_max=1, connect_timeout_s=0.05)

    async def silent(peer: Peer) -> None:
        await peer.gone()

    server = await serve(silent)
    origin = Origin("https", "127.0.0.1", server.port)
    results = await asyncio.gather(
        *(upstream.send(ask(origin)) for _ in range(3)), return_exceptions=True
    )

    assert [getattr(result, "code", None) for result in results] == ["connect_timeout"] * 3
    assert upstream._pools == {}


async def test_a_cancelled_connect_gives_its_slot_back(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """And closes what was half open."""
    upstream = open_engine(connections_per_origin_max=1)

    async def silent(peer: Peer) -> None:
        await peer.gone()

    server = await serve(silent)
    origin = Origin("https", "127.0.0.1", server.port)
    task = asyncio.create_task(upstream.send(ask(origin)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(60):
        await server.everyone_gone()

    assert upstream._pools == {}


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_cancelling_at_any_turn_leaves_no_slot_taken(
    scheme: str, serve: Serve, open_engine: OpenEngine, test_ca: TestCa
) -> None:
    """Resolving, connecting, shaking hands, asking, reading: the next request is always served."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(plain(b"ok"))

    server = await serve(script, tls=test_ca.server("good", []) if scheme == "https" else None)
    upstream = open_engine(
        connections_per_origin_max=1, pool_timeout_s=20.0, ca_file=str(test_ca.ca_file)
    )

    async def one(headers: list[tuple[bytes, bytes]]) -> bytes:
        response = await upstream.send(ask(server.origin("localhost"), headers=headers))
        return await response.read(10)

    for turns in range(40):
        task = asyncio.create_task(one([]))
        for _ in range(turns):
            await asyncio.sleep(0.0003 if turns % 2 else 0)
        task.cancel()
        await asyncio.wait([task])

        # Asked to close, so that the next turn begins with a connect.
        assert await one([(b"Connection", b"close")]) == b"ok"
        await upstream._clock.abort_all()
    assert upstream._pools == {}


async def test_a_wait_that_times_out_frees_no_slot_it_does_not_have(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """Many that give up leave the count as it was."""
    upstream = open_engine(connections_per_origin_max=2, pool_timeout_s=1.0)
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await go_on.wait()
            await peer.send(plain(b"ok"))

    server = await serve(script)

    async def one() -> bytes | str:
        try:
            response = await upstream.send(ask(server.origin()))
            return await response.read(10)
        except PoolTimedOut as error:
            return error.code

    tasks = [asyncio.create_task(one()) for _ in range(10)]
    async with asyncio.timeout(60):
        while sum(task.done() for task in tasks) < 8:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    go_on.set()
    results = await asyncio.gather(*tasks)
    after = await asyncio.gather(one(), one(), one())

    assert sorted(map(str, results)) == ["b'ok'"] * 2 + ["pool_timeout"] * 8
    assert after == [b"ok"] * 3
    assert server.connection_count == 2


async def test_dribbled_head_bytes_do_not_put_off_the_timeout(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """The wait for the head is bounded as a whole, so a byte now and then buys no time."""
    upstream = open_engine()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            await peer.send(b"x")
            await asyncio.sleep(0.02)

    server = await serve(script)
    async with asyncio.timeout(60):
        with pytest.raises(ReadTimedOut):
            await upstream.send(ask(server.origin(), read_timeout_s=0.3))


async def test_no_timer_runs_when_nothing_is_open(serve: Serve, open_engine: OpenEngine) -> None:
    """The clock stands still with its engine idle."""
    upstream = open_engine(idle_timeout_s=0.05)
    server = await serve(answering(plain(b"ok")))
    response = await upstream.send(ask(server.origin()))
    await response.read(10)
    was_ticking = upstream._clock._timer is not None
    await server.everyone_gone()
    await asyncio.sleep(0.02)

    assert was_ticking
    assert upstream._clock._timer is None


class Recorder:
    """Watched; remembers the ticks at which it was expired."""

    def __init__(self, clock: TickClock, deadline_tick: int) -> None:
        self.clock = clock
        self.deadline_tick = deadline_tick
        self.expired_at: list[int] = []

    def expire(self) -> None:
        self.expired_at.append(self.clock.tick)
        self.deadline_tick = NEVER
        self.clock.forget(self)

    def abort(self) -> None:
        self.clock.forget(self)


async def test_a_deadline_is_never_early() -> None:
    """A time is rounded up to ticks, with one to spare for the tick that is under way."""
    clock = TickClock(0.01)

    assert clock.ticks(0.0) >= 1
    assert clock.ticks(0.01) == 2
    assert clock.ticks(0.011) == 3
    late, later = Recorder(clock, clock.ticks(0.02)), Recorder(clock, clock.ticks(0.05))
    clock.watch(late)
    clock.watch(later)
    await asyncio.sleep(0.1)
    while clock.watched_count():  # noqa: ASYNC110 - a busy machine ticks late
        await asyncio.sleep(0.01)

    assert late.expired_at == [3]
    assert later.expired_at == [6]
