"""Being told to stop."""

import asyncio
import signal


def stop_event() -> asyncio.Event:
    """Set by SIGTERM or SIGINT from now on, for the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    return stop
