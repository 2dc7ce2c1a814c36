"""Runs the gateway inside TensorZero's package and prints its base address; with its Python."""

import signal
import sys
import warnings

warnings.simplefilter("ignore")

from tensorzero import _start_http_gateway  # noqa: E402 - it warns when it is imported

gateway = _start_http_gateway(
    config_file=sys.argv[1],
    clickhouse_url=None,
    postgres_url=None,
    valkey_url=None,
    async_setup=False,
)
print(gateway.base_url.rstrip("/"), flush=True)
signal.pause()
