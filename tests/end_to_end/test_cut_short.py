"""``init`` and ``join`` ended in the middle, wherever that is: nothing half-made is ever used."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Sequence

import pytest

from tests.end_to_end.gates import gates
from tests.end_to_end.load import writers
from tests.end_to_end.machines import PASSWORD, PATIENCE_S, Fleet, Machine, converged
from tests.waiting import wait_until


def begin(machine: Machine, words: Sequence[str]) -> subprocess.Popen[str]:
    """Start a command and give it the password that it reads."""
    command = machine.start(*words)
    assert command.stdin is not None
    command.stdin.write(PASSWORD + "\n")
    command.stdin.flush()
    return command


def kill_after(seconds: float, command: subprocess.Popen[str]) -> None:
    """Let a command run for a while, and kill it."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        command.wait(seconds)
    command.kill()
    command.communicate(timeout=PATIENCE_S)


def init_words(machine: Machine) -> list[str]:
    """Return the words of an init."""
    return ["init", "--hostname", machine.hostname, "--ssh-port", "0", "--ccs-port", "0", "--password-stdin"]


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_init_killed_anywhere_can_be_repeated_or_is_done(machines: Fleet, kills: int) -> None:
    """Afterwards there is a whole store, or the next ``init`` makes one, and until then commands say that it must."""
    machine = machines.machine("mx0")
    began = time.monotonic()
    machine.do(*init_words(machine), typed=PASSWORD + "\n")
    whole = time.monotonic() - began
    dice = random.Random(kills)
    unfinished = 0
    for number in range(1, kills + 1):
        if (machine.store / "cluster.db").exists():
            assert machine.state()[0] == 1
            machine = machines.machine(f"mx{number}")
        # What a killed one leaves is what the next one finds. The first part of its time is Python's own start.
        kill_after(whole * dice.uniform(0.5, 1.05), begin(machine, init_words(machine)))
        unfinished += not (machine.store / "cluster.db").exists()
    assert unfinished, "init was never cut short"
    if not (machine.store / "cluster.db").exists():
        assert "cluster-store init" in machine.run("get", "key").expect(1).err
        machine.do(*init_words(machine), typed=PASSWORD + "\n")
    told = machine.refused(*init_words(machine), typed=PASSWORD + "\n")
    assert "already a store" in told
    machine.verify()


@pytest.fixture
def member(machines: Fleet) -> Machine:
    """A cluster of one, with so long a log that a join takes a while."""
    (member,) = machines.cluster("mx1")
    with writers([member]) as writing:
        writing["mx1"].wait_for(600)
    return member


def test_a_join_cut_short_leaves_the_joiner_as_it_was(machines: Fleet) -> None:
    """Wherever the connection breaks, the joiner is what it was, with its own settings, and can join again."""
    mx1 = machines.machine("mx1", "127.0.0.1", listen="127.0.1.1").init().serve()
    mx1.do("clusterconfig", "create", "americas", "--by", "ip")
    with writers([mx1]) as writing:
        writing["mx1"].wait_for(400)
    joiner = machines.machine("mx2").init().serve()
    joiner.do("set", "mine", "kept")
    words = joiner.joining(mx1)
    with gates([mx1]) as network:
        for size in (0, 500, 3_000, 6_000, 12_000, 30_000):
            network.allow(size)
            joiner.refused(*words, typed=PASSWORD + "\n")
            network.heal()
        assert joiner.get("mine") == "kept"
        joiner.do(*words, typed=PASSWORD + "\n")
    converged(mx1, joiner)
    mx1.verify()
    assert joiner.ask("clustercheck") == {"conflicts": [], "problems": []}


@pytest.mark.parametrize("daemon", [False, True], ids=["the command alone", "the daemon"])
def test_a_join_killed_anywhere_can_be_repeated_or_is_done(machines: Fleet, member: Machine, *, daemon: bool) -> None:
    """Whoever does the work of a join may be killed at any moment: the joiner is as before, or a member."""
    joiner = machines.machine("mx2").init()
    joiner.do("set", "mine", "kept")
    words = joiner.joining(member)
    dice = random.Random(daemon)
    for _ in range(6):
        if daemon:
            joiner.serve()
        command = begin(joiner, words)
        if daemon:
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.wait(dice.uniform(0.3, 1.0))
            joiner.kill()
            command.communicate(timeout=PATIENCE_S)
        else:
            kill_after(dice.uniform(0.3, 1.0), command)
        if joiner.status()["cluster"] is not None:
            break
        assert joiner.get("mine") == "kept"
    else:
        joiner.do(*words, typed=PASSWORD + "\n")
    joiner.serve()
    converged(member, joiner)
    assert joiner.status()["cluster"] == "americas"
    joiner.verify()


def test_a_daemon_told_to_stop_in_the_middle_of_a_join_stops(machines: Fleet, member: Machine) -> None:
    """SIGTERM ends a joining daemon cleanly and soon, and the joiner is as before, or a member."""
    joiner = machines.machine("mx2").init()
    words = joiner.joining(member)
    for _ in range(3):
        joiner.serve()
        command = begin(joiner, words)
        wait_until(lambda: _is_joining(joiner), PATIENCE_S, what="the log to arrive")
        joiner.stop()
        command.communicate(timeout=PATIENCE_S)
        if joiner.status()["cluster"] is not None:
            break
    joiner.verify()


def _is_joining(joiner: Machine) -> bool:
    """Say whether a join has got so far that the log arrives, or farther."""
    return (joiner.store / "joining.db").exists() or any(joiner.store.glob("former-*.db"))


def test_two_joins_at_once_make_one(machines: Fleet, member: Machine) -> None:
    """Of two joins that are asked for at once one is done; the other is refused, and damages nothing."""
    joiner = machines.machine("mx2").init().serve()
    words = joiner.joining(member)
    commands = [begin(joiner, words) for _ in range(2)]
    told = [command.communicate(timeout=PATIENCE_S)[1] for command in commands]
    assert sorted(command.returncode for command in commands) == [0, 1], told
    converged(member, joiner)
    joiner.set("after", "both")
    converged(member, joiner)
    joiner.verify()
