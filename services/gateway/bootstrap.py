"""Composition roots: what one data worker and the admin process are made of."""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
from runtime.serving import serve

from gateway.adapters.nats_bus import open_bus
from gateway.adapters.postgres_administration import PostgresAdministration
from gateway.adapters.postgres_config import PostgresConfiguration, open_pool
from gateway.adapters.upstream_settings import UpstreamSettings
from gateway.adapters.upstreams import open_upstream
from gateway.api import keys, provider_settings, reports
from gateway.api.admin_app import admin_app
from gateway.api.data_app import data_app
from gateway.api.health import admin_health
from gateway.api.problems import error_shower
from gateway.configuration.watcher import Configuration
from gateway.endpoints.registry import match
from gateway.exchange import Corridor
from gateway.passage import Limits, Means
from gateway.ports import Upstream
from gateway.providers.registry import PROVIDERS
from gateway.recording.journal import Journal
from gateway.routing.targets import make_target
from gateway.settings import GatewaySettings
from gateway.telemetry import Counters
