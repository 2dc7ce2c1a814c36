"""Ports: free or not, and whose."""

import os
import socket
from pathlib import Path

import psutil
import pytest
from support.servers import free_port

from runtime import ports

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_a_port_in_use_names_its_owner():
    """The message has the port, the pid and the program."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        assert not ports.is_free(port)
        with pytest.raises(ports.PortInUse) as caught:
            ports.require_free(port)
    name = psutil.Process().name()
    assert str(caught.value) == f"port {port} is in use by pid {os.getpid()} ({name})"


def test_a_port_that_was_closed_is_free_again():
    """Connections that linger after a close do not count as use."""
    # Not of the kernel's choice: that might be somebody's outgoing connection at once.
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server:
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()
        client.close()

    assert ports.is_free(port)


def test_chosen_ports_are_distinct_and_free():
    """Several asked for at once never coincide."""
    chosen = ports.choose_free(8)

    assert len(set(chosen)) == 8
    assert all(ports.is_free(port) for port in chosen)


@pytest.mark.skipif(not RANGE.exists(), reason="only Linux says which ports it gives out")
def test_no_outgoing_connection_is_given_a_chosen_port():
    """A server that is away for a moment finds its port as it left it."""
    first, last = map(int, RANGE.read_text().split())

    assert not set(ports.choose_free(8)) & set(range(first, last + 1))
