"""`python -m infra.demo_upstream --port N`: run the demo provider until told to stop."""

import argparse
import gc
import sys
from pathlib import Path

import uvloop

from infra.demo_upstream.asked import HEADERS
from infra.demo_upstream.record import Record
from infra.demo_upstream.server import listen
from runtime.ports import PortInUse, require_free
from runtime.signals import stop_event


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _arguments() -> argparse.Namespace:
    headers = "\n".join(f"  x-demo-{name}: {text}" for name, text in HEADERS.items())
    parser = argparse.ArgumentParser(
        prog="python -m infra.demo_upstream",
        description="A provider on loopback that answers what a request asks it to.",
        epilog=f"request headers (or members demo_... of the body's metadata):\n{headers}\n\n"
        "its own record: GET /demo/record, GET /demo/record/rows, DELETE /demo/record\n\n"
        "example:\n  python -m infra.demo_upstream --port 9100",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=_port, default=0, help="0 picks a free one and prints it")
    parser.add_argument("--record-file", type=Path, help="append every answer as a line of JSON")
    parser.add_argument(
        "--record-rows", type=int, default=50_000, help="answers kept in memory (default 50000)"
    )
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    stop = stop_event()
    record = Record(arguments.record_rows, arguments.record_file)
    server = await listen(arguments.port, record)
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(f"demo upstream on http://127.0.0.1:{port}\n")
    sys.stdout.flush()
    gc.freeze()
    try:
        await stop.wait()
    finally:
        server.close()
        record.close()


def main() -> int:
    """The exit status: 1 when the port is taken."""
    arguments = _arguments()
    try:
        if arguments.port:
            require_free(arguments.port)
        uvloop.run(_run(arguments))
    except PortInUse as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
