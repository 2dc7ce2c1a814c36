"""What an upstream engine costs alone: CPU microseconds a request against concurrency.

    taskset -c 1 <an upstream that answers POST at once> &
    taskset -c 0 python bench/upstream_engines.py --port 9100

The upstream answers a body that holds `"stream":true` with events, any other with JSON. Rounds are
interleaved (A B A B), the median of each is shown. CPU time barely moves with foreign load; the
rate does.
"""

import argparse
import asyncio
import statistics
import time
from typing import get_args

import uvloop

from gateway.adapters.upstream_settings import UpstreamSettings
from gateway.adapters.upstreams import Engine, open_upstream
from gateway.ports import Origin, UpstreamRequest

JSON_BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 900 + b'"}]}'
STREAM_BODY = JSON_BODY[:-1] + b',"stream":true}'
HEADERS = [
    (b"Authorization", b"Bearer sk-upstream"),
    (b"Content-Type", b"application/json"),
    (b"Accept", b"*/*"),
]


async def measure(
    engine: Engine, origin: Origin, body: bytes, concurrency: int, seconds: float, ca_file: str
) -> tuple[float, float]:
    """CPU microseconds a request, and requests a second."""
    limit = max(concurrency, 256)
    upstream = open_upstream(
        engine,
        UpstreamSettings(
            connections_per_origin_max=limit, idle_connections_max=limit, ca_file=ca_file
        ),
    )
    is_stream = body is STREAM_BODY
    ends_at = 0.0
    request_count = 0

    async def client() -> None:
        nonlocal request_count
        while time.perf_counter() < ends_at:
            response = await upstream.send(
                UpstreamRequest(origin, b"POST", b"/v1/chat/completions", HEADERS, body, 600.0)
            )
            if is_stream:
                async for _ in response.chunks():
                    pass
            else:
                await response.read(1_000_000)
            assert response.status == 200
            request_count += 1

    async def load(duration_s: float) -> None:
        nonlocal ends_at
        ends_at = time.perf_counter() + duration_s
        await asyncio.gather(*(client() for _ in range(concurrency)))

    await load(seconds / 3)
    request_count = 0
    cpu_start_s, start_s = time.process_time(), time.perf_counter()
    await load(seconds)
    cpu_s, elapsed_s = time.process_time() - cpu_start_s, time.perf_counter() - start_s
    await upstream.close()
    return cpu_s / request_count * 1e6, request_count / elapsed_s


def main() -> None:
    """Prints one line for each engine, body and concurrency."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--ca-file", default="", help="speak TLS and trust this file")
    parser.add_argument("--engines", default="fast,httpx")
    parser.add_argument("--concurrency", default="1,16,64,256")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--bodies", default="json,stream")
    options = parser.parse_args()
    origin = Origin("https" if options.ca_file else "http", options.host, options.port)
    engines = [engine for engine in get_args(Engine) if engine in options.engines.split(",")]
    bodies = {"json": JSON_BODY, "stream": STREAM_BODY}
    for name in options.bodies.split(","):
        for concurrency in map(int, options.concurrency.split(",")):
            rounds = [
                {
                    engine: uvloop.run(
                        measure(
                            engine,
                            origin,
                            bodies[name],
                            concurrency,
                            options.seconds,
                            options.ca_file,
                        )
                    )
                    for engine in engines
                }
                for _ in range(options.rounds)
            ]
            for engine in engines:
                cpu_us = statistics.median(each[engine][0] for each in rounds)
                rate = statistics.median(each[engine][1] for each in rounds)
                print(f"{engine:6} {name:6} c={concurrency:<4} {cpu_us:9.1f} us {rate:9.0f}/s")


if __name__ == "__main__":
    main()
