"""The supervisor with real child processes: order, restarts, signals, state, no leftovers."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

from runtime.children import Child, RestartLimits, StartFailed, Step, Supervisor
from runtime.logs import Log, LogFileSettings
from runtime.processes import birth_mark, is_same, send_signal
from runtime.state import ProcessState, read_states, rows, state_path

QUICK = RestartLimits(pause_first_s=0.01, pause_max_s=0.05, probe_interval_s=0.01)
FOREVER = "import time\nwhile True: time.sleep(1)"


def child(name: str, code: str, **fields: object) -> Child:
    given = {"kind": "service", "stop_timeout_s": 60.0, "ready_timeout_s": 60.0, **fields}
    return Child(name=name, argv=(sys.executable, "-S", "-c", textwrap.dedent(code)), **given)


def supervisor(tmp_path: Path, *stages: object, **fields: object) -> Supervisor:
    given = {"limits": QUICK, "data_dir": tmp_path, "log_dir": tmp_path / "logs", **fields}
    return Supervisor("unit", stages, **given)


async def until(condition, *, turns: int = 6_000) -> None:
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


def of(supervisor: Supervisor, name: str) -> ProcessState:
    return next(state for state in supervisor.states() if state.name == name)


async def test_children_start_in_order_and_stop_in_reverse(tmp_path):
    """Each waits for the one before; a tuple starts together; the last started stops first."""
    order = tmp_path / "order"
    order.touch()
    code = """
        import signal, sys
        def note(what): open({path!r}, 'a').write(what + '\\n')
        def stop(*_): note('stop {name}'); sys.exit(0)
        signal.signal(signal.SIGTERM, stop)
        note('start {name}')
        while True: signal.pause()
    """

    def named(name: str) -> Child:
        async def probe() -> str | None:
            return None if f"start {name}" in order.read_text() else "not yet"

        return child(name, code.format(path=str(order), name=name), probe=probe)

    async def step() -> None:
        with order.open("a") as file:
            file.write("step\n")

    parts = supervisor(tmp_path, named("a"), Step("s", step), (named("b"), named("c")), named("d"))

    await parts.start()
    await parts.stop()

    lines = order.read_text().splitlines()
    assert lines[:2] == ["start a", "step"]
    assert set(lines[2:4]) == {"start b", "start c"}
    assert lines[4:6] == ["start d", "stop d"]
    assert set(lines[6:8]) == {"stop b", "stop c"}
    assert lines[8:] == ["stop a"]


async def test_a_child_stops_after_those_it_names_even_if_they_started_together(tmp_path):
    """Metering outlives the gateway's drain although both start at once."""
    order = tmp_path / "order"
    code = """
        import signal, sys, time
        def stop(*_):
            time.sleep({pause})
            open({path!r}, 'a').write('{name} ')
            sys.exit(0)
        signal.signal(signal.SIGTERM, stop)
        open({path!r} + '.{name}', 'w').close()
        while True: signal.pause()
    """

    def named(name: str, pause: float, **fields: object) -> Child:
        async def probe() -> str | None:
            return None if (tmp_path / f"order.{name}").exists() else "not yet"

        text = code.format(path=str(order), name=name, pause=pause)
        return child(name, text, probe=probe, **fields)

    kept = supervisor(tmp_path, (named("quick", 0, stop_after=("slow",)), named("slow", 0.2)))
    await kept.start()
    await kept.stop()

    assert order.read_text().split() == ["slow", "quick"]


async def test_a_killed_child_is_restarted_counted_and_logged(tmp_path):
    """kill -9 brings a new process with the count one higher, in the state file too."""
    lines: list[str] = []
    kept = supervisor(tmp_path, child("a", FOREVER), log=Log(lines.append))
    await kept.start()
    try:
        first = of(kept, "a")
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: of(kept, "a").restarts == 1 and of(kept, "a").state == "ready")

        second = of(kept, "a")
        assert second.pid != first.pid
        assert any("child.died" in line and "SIGKILL" in line for line in lines)
        (written,) = read_states(tmp_path)
        assert written.processes == kept.states()
        (row,) = rows([written])
        assert (row.state, row.pid, row.restarts) == ("ready", second.pid, 1)
    finally:
        await kept.stop()


async def test_pauses_between_restarts_double_to_a_limit_within_the_jitter(tmp_path):
    """With no chance the pause doubles exactly; with the most of it, it is the ratio shorter."""
    limits = RestartLimits(pause_first_s=1.0, pause_max_s=8.0, jitter_ratio=0.5)
    steady = supervisor(tmp_path, limits=limits, chance=lambda: 0.0)
    shaken = supervisor(tmp_path, limits=limits, chance=lambda: 1.0)

    assert [steady._pause_s(deaths) for deaths in range(5)] == [1, 2, 4, 8, 8]
    assert [shaken._pause_s(deaths) for deaths in range(5)] == [0.5, 1, 2, 4, 4]


@pytest.mark.parametrize(("well_after_s", "pauses"), [(0.0, [0.01, 0.01]), (60.0, [0.01, 0.02])])
async def test_the_pause_starts_anew_once_a_child_was_well(tmp_path, well_after_s, pauses):
    """Rare deaths of a healthy child are not held against it; a quick death doubles the pause."""
    said: list[str] = []
    limits = RestartLimits(
        pause_first_s=0.01, pause_max_s=1.0, jitter_ratio=0.0, well_after_s=well_after_s
    )
    kept = supervisor(tmp_path, child("a", FOREVER), limits=limits, log=Log(said.append))
    await kept.start()
    try:
        for death in (1, 2):
            os.kill(of(kept, "a").pid, signal.SIGKILL)
            await until(lambda: of(kept, "a").restarts == death and of(kept, "a").state == "ready")  # noqa: B023
    finally:
        await kept.stop()

    died = [line for line in said if "child.died" in line]
    assert [float(line.split("pause_s=")[1]) for line in died] == pauses


async def test_a_child_that_never_gets_ready_fails_the_start_with_its_last_words(tmp_path):
    """Three deaths are enough; the error carries the reason and the end of the log."""
    kept = supervisor(tmp_path, child("a", "print('no database', flush=True); raise SystemExit(7)",
                                      probe=_never))  # fmt: skip
    with pytest.raises(StartFailed) as caught:
        await kept.start()
    await kept.stop()

    assert "exit status 7" in caught.value.reason
    assert caught.value.last_lines == ["no database"] * 3


async def _never() -> str | None:
    return "not today"


async def test_a_child_that_lives_but_is_not_ready_in_time_fails_the_start(tmp_path):
    """The probe's own reason is in the error and the process does not stay."""
    kept = supervisor(tmp_path, child("a", FOREVER, probe=_never, ready_timeout_s=0.05))
    with pytest.raises(StartFailed, match="not today"):
        await kept.start()
    await kept.stop()

    assert of(kept, "a").pid is None


async def test_a_program_that_does_not_exist_fails_the_start(tmp_path):
    """The error names the program."""
    kept = supervisor(tmp_path, Child(name="a", argv=("/no/such/program",), kind="server"))
    with pytest.raises(StartFailed, match="/no/such/program"):
        await kept.start()
    await kept.stop()


async def test_a_child_that_ignores_the_stop_signal_is_killed_with_its_group(tmp_path):
    """SIGKILL follows the timeout; what the child left in its process group goes too."""
    stray = tmp_path / "stray"
    code = f"""
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(300)'])
        open({str(stray)!r}, 'w').write(str(p.pid))
        while True: time.sleep(1)
    """

    async def probe() -> str | None:
        return None if stray.exists() and stray.read_text() else "not yet"

    kept = supervisor(tmp_path, child("a", code, probe=probe, stop_timeout_s=0.1))
    await kept.start()
    pid = of(kept, "a").pid
    await kept.stop()

    await until(lambda: birth_mark(pid) is None and birth_mark(int(stray.read_text())) is None)


async def test_stopping_while_a_child_is_backing_off_leaves_nothing(tmp_path):
    """A stop between death and restart starts nothing anew."""
    limits = RestartLimits(pause_first_s=60.0)
    kept = supervisor(tmp_path, child("a", FOREVER), limits=limits)
    await kept.start()
    os.kill(of(kept, "a").pid, signal.SIGKILL)
    await until(lambda: of(kept, "a").state == "backing_off")
    await kept.stop()

    assert of(kept, "a").state == "stopped"
    assert of(kept, "a").pid is None


async def test_output_goes_to_files_that_rotate_within_their_limits(tmp_path):
    """Size and count hold however much a child says, and the last words are kept."""
    code = "for n in range(2000): print(f'line {n:06d}')\nprint('the end', flush=True)"
    limits = LogFileSettings(log_file_bytes_max=4_096, log_files_max=3)
    kept = supervisor(tmp_path, child("a", code + "\n" + FOREVER), log_files=limits)
    await kept.start()
    log = tmp_path / "logs" / "a.log"
    await until(lambda: log.exists() and log.read_text().endswith("the end\n"))
    await kept.stop()

    files = sorted(path.name for path in log.parent.iterdir())
    assert files == ["a.log", "a.log.1", "a.log.2"]


async def test_children_inherit_the_descriptors_they_are_given(tmp_path):
    """A listening socket bound once by the supervisor reaches its workers."""
    reader, writer = os.pipe()
    try:
        code = f"import os; os.write({writer}, b'mine'); \n" + FOREVER
        kept = supervisor(tmp_path, child("a", code, pass_fds=(writer,)))
        await kept.start()
        said = await asyncio.to_thread(os.read, reader, 4)
        await kept.stop()
    finally:
        os.close(reader)
        os.close(writer)

    assert said == b"mine"


SUPERVISE = """
import asyncio, sys
from pathlib import Path
from runtime.children import Child, Supervisor, run_until_signal
child = Child(name='a', argv=(sys.executable, '-S', '-c', 'import time; time.sleep(300)'), kind='service')
supervisor = Supervisor('outer', [child], data_dir=Path(sys.argv[1]))
async def say(): print('ready', flush=True)
raise SystemExit(asyncio.run(run_until_signal(supervisor, on_ready=say)))
"""


def supervise(tmp_path: Path) -> tuple[subprocess.Popen[bytes], ProcessState]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(tmp_path)],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    (state,) = read_states(tmp_path)
    return process, state.processes[0]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_to_the_group_stops_the_supervisor_and_its_children(tmp_path, signum):
    """Ctrl-C in the terminal reaches the supervisor only, which then stops its children."""
    process, running = supervise(tmp_path)
    assert os.getpgid(running.pid) != os.getpgid(process.pid)
    os.killpg(process.pid, signum)

    assert process.wait(60) == 0
    assert birth_mark(running.pid) is None
    process.stdout.close()


STUBBORN = """
import asyncio, sys
from pathlib import Path
from runtime.children import Child, Step, Supervisor, run_until_signal
code = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True));"
    "print('ready', flush=True)\\nwhile True: time.sleep(60)"
)
child = Child(
    name='a', argv=(sys.executable, '-S', '-c', code), kind='service', stop_timeout_s=300
)
async def wait_for_ever(): await asyncio.Event().wait()
supervisor = Supervisor('outer', [child, Step('s', wait_for_ever)], data_dir=Path(sys.argv[1]))
raise SystemExit(asyncio.run(run_until_signal(supervisor)))
"""


def test_a_signal_during_the_start_stops_and_a_second_one_kills(tmp_path):
    """The first interrupts a step that waits; a child that will not stop goes with the second."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, str(tmp_path)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == b"asked\n"
    (state,) = read_states(tmp_path)
    process.send_signal(signal.SIGTERM)

    assert process.wait(60) == 0
    assert birth_mark(state.processes[0].pid) is None
    process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
async def test_children_die_with_a_killed_supervisor(tmp_path):
    """kill -9 of the supervisor takes its children along; its state counts as not running."""
    process, running = supervise(tmp_path)
    process.kill()
    process.wait(60)
    process.stdout.close()

    await until(lambda: birth_mark(running.pid) is None)
    assert rows(read_states(tmp_path)) == []


async def test_a_recycled_pid_is_neither_shown_nor_signalled(tmp_path):
    """A live process that only shares the recorded pid is not ours."""
    kept = supervisor(tmp_path, child("a", FOREVER))
    await kept.start()
    try:
        (written,) = read_states(tmp_path)
        stranger = written.processes[0]
        recycled = msgspec.structs.replace(stranger, birth="another boot:1")
        forged = msgspec.structs.replace(written, processes=(recycled,))

        assert not is_same(recycled.pid, recycled.birth)
        assert not send_signal(recycled.pid, recycled.birth, signal.SIGKILL)
        (row,) = rows([forged])
        assert (row.state, row.pid, row.uptime_s) == ("gone", None, None)
        assert is_same(stranger.pid, stranger.birth)
    finally:
        await kept.stop()


async def test_a_second_supervisor_of_one_name_is_refused(tmp_path):
    """It would write over the first one's state; afterwards the name is free again."""
    first = supervisor(tmp_path, child("a", FOREVER))
    second = supervisor(tmp_path, child("b", FOREVER))
    await first.start()
    with pytest.raises(StartFailed, match="another one runs"):
        await second.start()
    await second.stop()
    (written,) = read_states(tmp_path)
    assert [process.name for process in written.processes] == ["a"]
    await first.stop()

    await second.start()
    await second.stop()


async def test_children_of_a_child_that_supervises_are_shown_after_it(tmp_path):
    """One list for people: servers, a service, its workers, the next service."""
    outer = supervisor(tmp_path, child("a", FOREVER), child("inner", FOREVER), child("z", FOREVER))
    await outer.start()
    try:
        (written,) = read_states(tmp_path)
        inner = next(process for process in written.processes if process.name == "inner")
        worker = msgspec.structs.replace(inner, name="worker", kind="worker")
        nested = msgspec.structs.replace(
            written, supervisor="inner", pid=inner.pid, birth=inner.birth, processes=(worker,)
        )

        assert [row.name for row in rows([nested, written])] == ["a", "inner", "worker", "z"]
    finally:
        await outer.stop()


async def test_a_torn_state_file_is_read_as_none(tmp_path):
    """Half a file or another program's is no state."""
    path = state_path(tmp_path, "unit")
    path.parent.mkdir()
    path.write_bytes(b'{"supervisor": "un')

    assert read_states(tmp_path) == []
