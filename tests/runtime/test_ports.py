"""Ports: free or not, and whose."""

import os
import socket

import psutil
import pytest

from runtime import ports


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
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
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
