"""The admin API, child of the gateway: `python -m gateway.admin_process --fd N`.

A program of its own: what it imports takes longer to import than all that a data worker needs.
"""

import argparse
import logging
import socket

import uvloop

from gateway.admin_bootstrap import admin
from gateway.settings import GatewaySettings, load_settings
from runtime.logs import LogSettings, take_over_stdlib, to_stream
from runtime.serving import serve
from runtime.settings import load
from runtime.signals import stop_event

log = logging.getLogger(__name__)


async def run_admin(settings: GatewaySettings, listener: socket.socket) -> None:
    """Serve the admin API until told to stop."""
    stop = stop_event()
    if not settings.admin_pass:
        log.warning(
            "admin.open host=%s port=%d reason=%r",
            settings.admin_host,
            settings.admin_port,
            "ADMIN_PASS is not set: anybody here may configure the gateway",
        )
    async with admin(settings) as app:
        await serve(app, listener, stop)


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="The admin API; started by the gateway.")
    parser.add_argument("--fd", type=int, required=True, help="inherited listening socket")
    arguments = parser.parse_args()
    take_over_stdlib(to_stream(load(LogSettings)))
    uvloop.run(run_admin(load_settings(), socket.socket(fileno=arguments.fd)))


if __name__ == "__main__":
    main()
