"""What an instance keeps in its data directory."""

import socket
import stat
import subprocess
import sys

import pytest

from infra.embedded.instance import (
    AlreadyRunning,
    Demo,
    NotRunning,
    only_one,
    read_addresses,
    read_demo,
    write_demo,
)
from infra.embedded.kept_ports import keep_ports
from infra.embedded.leftovers import end_leftovers, leftovers
from runtime.processes import birth_mark
from runtime.state import ProcessState, SupervisorState, write_state


def test_one_up_a_data_directory(tmp_path):
    """The second is refused while the first lives, and let in afterwards."""
    refused = pytest.raises(AlreadyRunning, match="tollway down")
    with only_one(tmp_path), refused, only_one(tmp_path):
        raise AssertionError("two at once")
    with only_one(tmp_path):
        pass


def test_ports_are_kept_and_only_a_taken_one_changes(tmp_path):
    """A second start finds the same ports; a stranger on one of them moves only that one."""
    first = keep_ports(tmp_path, ["a", "b"])
    assert keep_ports(tmp_path, ["a", "b"]) == first
    with socket.create_server(("127.0.0.1", first["a"])):
        moved = keep_ports(tmp_path, ["a", "b"])

    assert moved["a"] != first["a"]
    assert moved["b"] == first["b"]


def test_a_port_that_somebody_is_to_have_is_no_server_s(tmp_path):
    """Though nobody has it yet: the services start after the servers."""
    first = keep_ports(tmp_path, ["a", "b"])
    moved = keep_ports(tmp_path, ["a", "b"], {first["a"]})

    assert moved["a"] not in first.values()
    assert moved["b"] == first["b"]


def test_a_start_that_needs_no_other_port_does_not_mind_that_none_is_free(tmp_path, monkeypatch):
    """Those of the last time are free, though all that could be chosen are taken."""
    first = keep_ports(tmp_path, ["a", "b"])
    monkeypatch.setattr("runtime.ports._CHOSEN", range(0))

    assert keep_ports(tmp_path, ["a", "b"], {1}) == first
    with pytest.raises(OSError, match="are free"):
        keep_ports(tmp_path, ["a", "b", "c"])


def test_the_demo_key_is_readable_by_its_owner_only(tmp_path):
    """Mode 0600, and the same key comes back."""
    demo = Demo(key="k", key_id="i", setting_id="s", upstream_url="u")
    write_demo(tmp_path, demo)

    assert stat.S_IMODE((tmp_path / "demo.json").stat().st_mode) == 0o600
    assert read_demo(tmp_path) == demo


def test_addresses_of_a_dead_instance_are_not_those_of_a_running_one(tmp_path):
    """A command must not talk to whoever has the ports now."""
    with pytest.raises(NotRunning):
        read_addresses(tmp_path)


def test_what_a_killed_launcher_left_is_ended_and_nobody_else(tmp_path):
    """A process of a dead supervisor goes; one whose pid was recycled stays."""
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    try:
        processes = tuple(
            ProcessState(
                name=name,
                kind="server",
                pid=process.pid,
                birth=birth,
                port=None,
                state="ready",
                started_at=0.0,
                restarts=0,
                version=None,
            )
            for name, process, birth in (
                ("left", left, birth_mark(left.pid)),
                ("recycled", stranger, "another boot:1"),
            )
        )
        write_state(tmp_path, SupervisorState("tollway", 1, "another boot:1", 0.0, processes))

        assert [process.name for process in leftovers(tmp_path)] == ["left"]
        assert end_leftovers(tmp_path) == []
        assert left.wait(60) == -15
        assert stranger.poll() is None
    finally:
        for process in (left, stranger):
            process.kill()
            process.wait()
