"""Who may write to a store: one at a time, and whoever cannot is told who does."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from tests.end_to_end.machines import PATIENCE_S, Fleet


def leave_a_stale_socket(at: Path) -> None:
    """Leave what a killed daemon leaves: a socket that nobody listens at."""
    at.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        folder = os.open(at.parent, os.O_RDONLY)
        stale.bind(f"/proc/self/fd/{folder}/{at.name}")
        os.close(folder)


def test_writers_a_starting_daemon_and_a_stale_socket_at_once(machines: Fleet) -> None:
    """Each command is carried out, whether by the daemon or by itself, or says who holds the store; none is lost."""
    machine = machines.machine("mx1").init()
    for attempt in range(3):
        leave_a_stale_socket(machine.store / "node.sock")
        commands = [
            machine.start("set", f"at.once.{attempt}.{number}", str(number), "-m", "why") for number in range(2)
        ]
        machine.launch()
        commands += [
            machine.start("set", f"at.once.{attempt}.{number}", str(number), "-m", "why") for number in range(2, 5)
        ]
        done = set()
        for number, command in enumerate(commands):
            _, told = command.communicate(timeout=PATIENCE_S)
            if command.returncode == 0:
                done.add(number)
            else:
                assert (command.returncode, "is held by cluster-store" in told) == (1, True), told
        machine.kill()
        assert done >= {2, 3, 4}
        kept = machine.ask("showconfig", "--prefix", f"at.once.{attempt}.")
        assert kept == {f"at.once.{attempt}.{number}": number for number in done}
    machine.verify()


def test_a_store_that_is_held_says_by_whom(machines: Fleet) -> None:
    """Commands that write, and a second daemon, name who holds the store; those that only read go on."""
    machine = machines.machine("mx1").init()
    machine.do("set", "held", "1", "-m", "why")
    with (machine.store / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"a test (process {os.getpid()})\n")
        lock.flush()
        told = machine.refused("set", "held", "2")
        assert f"is held by a test (process {os.getpid()})" in told
        assert "is held by a test" in machine.refused("serve")
        assert machine.get("held") == 1
    machine.serve()
    assert f"(process {machine.daemon.pid if machine.daemon else None})" in machine.refused("serve")


def test_a_killed_daemon_leaves_nothing_in_the_way(machines: Fleet) -> None:
    """After SIGKILL the lock is free and the socket is nobody's: commands work at once, and so does the next daemon."""
    machine = machines.machine("mx1").init().serve()
    machine.kill()
    assert (machine.store / "node.sock").exists()
    machine.do("set", "after", "kill", "-m", "why")
    machine.serve()
    assert machine.get("after") == "kill"
    assert machine.status()["serving"]
    machine.stop()
    assert not (machine.store / "node.sock").exists()
    assert not machine.status()["serving"]
