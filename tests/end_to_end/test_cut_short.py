"""``init`` and ``join`` ended in the middle, wherever that is: nothing half-made is ever used."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time

import pytest

from tests.end_to_end.gates import gates
from tests.end_to_end.load import writers
from tests.end_to_end.machines import PASSWORD, PATIENCE_S, Fleet, Machine, converged
from tests.waiting import wait_until


def kill_after(command: subprocess.Popen[str], seconds: float) -> None:
    """Let a command that reads a password run for a while, and kill it."""
    assert command.stdin is not None
    command.stdin.write(PASSWORD + "\n")
    command.stdin.flush()
    with contextlib.suppress(subprocess.TimeoutExpired):
        command.wait(seconds)
    command.kill()
    command.communicate(timeout=PATIENCE_S)


def init_words(machine: Machine) -> list[str]:
    """Return the words of an init."""
    return ["init", "--hostname", machine.hostname, "--ssh-port", "0", "--ccs-port", "0", "--password-stdin"]


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_init_killed_anywhere_can_be_repeated_or_is_done(machines: Fleet, kills: int) -> None:
    """Afterwards there is a whole store, or ``init`` makes one, and until then commands say that it is needed."""
    machine = machines.machine("mx0")
    began = time.monotonic()
    machine.do(*init_words(machine), typed=PASSWORD + "\n")
    whole = time.monotonic() - began
    dice = random.Random(kills)
    done = 0
    for number in range(1, kills + 1):
        machine = machines.machine(f"mx{number}")
        # The last third is where the store is made; before that is Python's own start.
        kill_after(machine.start(*init_words(machine)), whole * dice.uniform(0.4, 1.1))
        if not (machine.store / "cluster.db").exists():
            told = machine.run("status").expect(1).err
            assert "cluster-store init" in told
            machine.do(*init_words(machine), typed=PASSWORD + "\n")
        else:
            done += 1
            assert "already a store" in machine.run(*init_words(machine), typed=PASSWORD + "\n").expect(1).err
        assert machine.state()[0] == 1
    machine.verify()
    assert done < kills, "init was never cut short"


@pytest.mark.slow  # it waits out the half minute for which a joining machine is patient
def test_a_join_cut_short_leaves_the_joiner_as_it_was(machines: Fleet) -> None:
    """Wherever the connection breaks, the joiner is what it was, has its own settings, and joins at the next attempt."""
    mx1 = machines.machine("mx1", "127.0.0.1", listen="127.0.1.1").init().serve()
    mx1.do("clusterconfig", "create", "americas", "--by", "ip")
    with writers([mx1]) as writing:
        writing["mx1"].wait_for(400)
    joiner = machines.machine("mx2").init().serve()
    joiner.do("set", "mine", "kept")
    words = joiner.joining(mx1)
    with gates([mx1]) as network:
        for size in (0, 500, 2_000, 5_000, 9_000, 30_000):
            network.allow(size)
            joiner.refused(*words, typed=PASSWORD + "\n")
            assert joiner.get("mine") == "kept"
            network.heal()
        joiner.do(*words, typed=PASSWORD + "\n")
    converged(mx1, joiner)
    mx1.verify()
    assert joiner.ask("clustercheck") == {"conflicts": [], "problems": []}


@pytest.mark.parametrize("daemon", [False, True], ids=["the command alone", "the daemon"])
def test_a_join_killed_anywhere_can_be_repeated_or_is_done(
    cluster: list[Machine], machines: Fleet, *, daemon: bool
) -> None:
    """Whoever does the work of a join may be killed at any moment: the joiner is as before, or a member."""
    member = cluster[0]
    dice = random.Random(daemon)
    for number in range(4):
        joiner = machines.machine(f"joiner{number}{daemon:d}", "127.0.0.4").init()
        joiner.do("set", "mine", "kept")
        words = joiner.joining(member)
        if daemon:
            joiner.serve()
        command = joiner.start(*words)
        if daemon:
            assert command.stdin is not None
            command.stdin.write(PASSWORD + "\n")
            command.stdin.flush()
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.wait(dice.uniform(0.3, 1.0))
            joiner.kill()
            command.communicate(timeout=PATIENCE_S)
        else:
            kill_after(command, dice.uniform(0.3, 1.2))
        if joiner.status()["cluster"] is None:
            assert joiner.get("mine") == "kept"
            joiner.do(*words, typed=PASSWORD + "\n")
        joiner.serve()
        converged(member, joiner)
        assert joiner.status()["cluster"] == "americas"


def test_a_daemon_told_to_stop_in_the_middle_of_a_join_stops(machines: Fleet) -> None:
    """SIGTERM ends a joining daemon cleanly and soon, and the joiner is as before, or a member."""
    (mx1,) = machines.cluster("mx1")
    with writers([mx1]) as writing:
        writing["mx1"].wait_for(1000)
    for number in range(3):
        joiner = machines.machine(f"joiner{number}", "127.0.0.4").init().serve()
        command = joiner.start(*joiner.joining(mx1))
        assert command.stdin is not None
        command.stdin.write(PASSWORD + "\n")
        command.stdin.flush()
        wait_until((joiner.store / "joining.db").exists, PATIENCE_S, what="the log to arrive")
        joiner.stop()
        command.communicate(timeout=PATIENCE_S)
        assert joiner.status()["cluster"] in {None, "americas"}
        joiner.verify()


def test_two_joins_at_once_make_one(machines: Fleet) -> None:
    """Of two joins that are asked for at once one is done; the other is refused, and damages nothing."""
    (mx1,) = machines.cluster("mx1")
    with writers([mx1]) as writing:
        writing["mx1"].wait_for(500)
    joiner = machines.machine("mx2").init().serve()
    commands = [joiner.start(*joiner.joining(mx1)) for _ in range(2)]
    for command in commands:
        assert command.stdin is not None
        command.stdin.write(PASSWORD + "\n")
        command.stdin.flush()
    told = [command.communicate(timeout=PATIENCE_S)[1] for command in commands]
    assert sorted(command.returncode for command in commands) == [0, 1], told
    converged(mx1, joiner)
    joiner.set("after", "both")
    converged(mx1, joiner)
    joiner.verify()
