"""``join`` ended in the middle by others: a network, a service manager, a second join."""

from __future__ import annotations

import contextlib
import random
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from tests.end_to_end.gates import gates
from tests.end_to_end.load import writers
from tests.end_to_end.machines import PASSWORD, PATIENCE_S, Fleet, Machine, Process, converged, fleet, type_in
from tests.waiting import wait_until


def begin(machine: Machine, words: Sequence[str]) -> Process:
    """Start a command and give it the password that it reads."""
    command = machine.start(*words)
    type_in(command, PASSWORD + "\n")
    return command


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A cluster of one, with so long a log that a join takes a while. Joiners have names and addresses of their own."""
    with fleet(tmp_path_factory.mktemp("member")) as machines:
        (member,) = machines.cluster("mx1")
        with writers([member]) as writing:
            writing["mx1"].wait_for(600)
        yield member


def test_a_join_cut_short_leaves_the_joiner_as_it_was(machines: Fleet) -> None:
    """Wherever the connection breaks, the joiner is what it was, with its own settings, and can join again."""
    mx1 = machines.machine("mx1", "127.0.0.1", listen="127.0.1.1").init().serve()
    mx1.do("clusterconfig", "create", "americas", "--by", "ip")
    with writers([mx1]) as writing:
        writing["mx1"].wait_for(400)
    joiner = machines.machine("mx2").init().serve()
    joiner.do("set", "mine", "kept", "-m", "why")
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
    assert joiner.ask("clustercheck") == {"conflicts": [], "problems": [], "pending": [], "removed": []}


def test_a_daemon_killed_while_it_joins_can_join_again_or_has_joined(machines: Fleet, member: Machine) -> None:
    """The daemon that does the work of a join may be killed at any moment: the joiner is as before, or a member."""
    joiner = machines.machine("mx2", "127.0.0.2").init()
    joiner.do("set", "mine", "kept", "-m", "why")
    words = joiner.joining(member)
    dice = random.Random(1)
    for _ in range(5):
        joiner.serve()
        command = begin(joiner, words)
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(dice.uniform(0.1, 0.5))
        joiner.kill()
        command.communicate(timeout=PATIENCE_S)
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
    joiner = machines.machine("mx3", "127.0.0.3").init()
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
    joiner = machines.machine("mx4", "127.0.0.4").init().serve()
    words = joiner.joining(member)
    commands = [begin(joiner, words) for _ in range(2)]
    told = [command.communicate(timeout=PATIENCE_S)[1] for command in commands]
    assert {command.returncode for command in commands} == {0, 1}, told
    converged(member, joiner)
    joiner.set("after", "both")
    converged(member, joiner)
    joiner.verify()
