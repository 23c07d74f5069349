"""Commands killed before each of the system calls that change the disk: what they leave is whole, old or new.

By default some of the calls are taken, spread over the command; ``CLUSTER_STORE_KILL_POINTS=every`` in the environment
takes all of them.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from cluster_store.adapters.sqlite_schema import SCHEMA_VERSION
from tests.end_to_end.kill_points import CALLS
from tests.end_to_end.load import writers
from tests.end_to_end.machines import PASSWORD, Fleet, Machine, Outcome, converged

pytestmark = [
    pytest.mark.skipif(not CALLS, reason="nobody has looked up the numbers of this processor's system calls"),
    pytest.mark.timeout(900),
]

EVERY = os.environ.get("CLUSTER_STORE_KILL_POINTS") == "every"
KILLED = -9
#: Shows what was counted.
Record = Callable[[str, object], None]


def points(count: int, some: int, record: Record | None = None) -> Iterator[int]:
    """Return the numbers of the calls to kill before, of about as many as a command makes.

    Some are spread over all of it. More are near the end, where what was prepared takes the place of what was.
    """
    assert count > 2 * some, f"only {count} system calls that change the disk were seen"
    spread = {round(1 + at * (count - 1) / some) for at in range(some)}
    taken = range(1, count + 1) if EVERY else sorted(spread | {count - more for more in range(2, 24, 7)})
    if record is not None:
        record("figures", f"killed before {len(taken)} of {count} system calls that change the disk")
    return iter(taken)


def killed(outcome: Outcome) -> bool:
    """Say whether a command was killed; how many calls it makes differs a little from time to time."""
    assert outcome.status in {KILLED, 0}, outcome
    return outcome.status == KILLED


def calls_of(outcome: Outcome) -> int:
    """Return how many calls a command made that was only watched."""
    return int(outcome.expect(0).err.split()[-1])


def init_words(machine: Machine) -> list[str]:
    """Return the words of an init."""
    return ["init", "--hostname", machine.hostname, "--ssh-port", "0", "--ccs-port", "0"]


def schema_of(machine: Machine) -> int:
    """Return the version of a store's schema."""
    with closing(sqlite3.connect(machine.store / "cluster.db")) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def test_init_killed_anywhere_can_be_repeated_or_is_done(machines: Fleet, record_property: Record) -> None:
    """Afterwards there is a whole store, or the next ``init`` makes one, and until then commands say that it must."""
    first = machines.machine("mx0")
    unfinished = 0
    for point in points(calls_of(first.run(*init_words(first), kill_at=0)), 6, record_property):
        machine = machines.machine(f"mx{point}")
        assert killed(machine.run(*init_words(machine), kill_at=point)) or machine.state()[0] == 1
        if not (machine.store / "cluster.db").exists():
            unfinished += 1
            assert "cluster-store init" in machine.run("get", "key").expect(1).err
            machine.do(*init_words(machine))
        assert machine.state()[0] == 1
        assert "already a store" in machine.refused(*init_words(machine))
        machine.verify()
    assert unfinished


def test_a_change_killed_anywhere_is_made_or_is_not(machines: Fleet, record_property: Record) -> None:
    """Also while documents are saved and the file's log is moved into the file: the next command finds either state."""
    machine = machines.machine("mx1", plants=("eager_to_save",)).init()
    made = left = 0
    for point in points(calls_of(machine.run("set", "key", "0", "-m", "why", kill_at=0)), 6, record_property):
        before, number = machine.state()[0], machine.get("key")
        outcome = machine.run("set", "key", str(point), "-m", "why", kill_at=point)
        after = machine.state()[0]
        assert (after - before, machine.get("key")) in {(0, number), (1, point)}
        assert after > before or (killed(outcome) and "event" not in outcome.out)
        made += after - before
        left += after == before
        machine.verify()
    assert made
    assert left


def test_an_upgrade_killed_anywhere_leaves_the_old_or_the_new_store(machines: Fleet, record_property: Record) -> None:
    """The earlier version goes on with the one, the next version with both, and no record is lost on the way."""
    old = machines.machine("old").init()
    old.do("set", "key", "1", "-m", "why")
    old.do("set", "password", "--secret", "--password-stdin", "-m", "why", typed="2\n")
    records = [event["id"] for event in old.events()]

    def copy(name: str) -> Machine:
        machine = machines.machine(name)
        shutil.copytree(old.store, machine.store)
        return machine

    def upgraded(machine: Machine) -> Machine:
        return Machine(machine.folder, machine.name, machine.address, plants=("of_the_next_version",))

    left_old = 0
    for point in points(
        calls_of(upgraded(copy("new")).run("set", "key", "3", "-m", "why", kill_at=0)), 6, record_property
    ):
        machine = copy(f"mx{point}")
        outcome = upgraded(machine).run("set", "key", "3", "-m", "why", kill_at=point)
        assert killed(outcome) or schema_of(machine) == SCHEMA_VERSION + 1
        if schema_of(machine) == SCHEMA_VERSION:
            left_old += 1
            machine.verify()
            machine.do("set", "key", "4", "-m", "why")
        upgraded(machine).do("set", "key", "5", "-m", "why")
        assert schema_of(machine) == SCHEMA_VERSION + 1
        assert [event["id"] for event in upgraded(machine).events()][: len(records)] == records
        upgraded(machine).verify()
    assert left_old


def test_a_join_killed_anywhere_can_be_repeated_or_is_done(machines: Fleet, record_property: Record) -> None:
    """The joiner is as before, with its own settings, or a member, wherever the command is killed."""
    (member,) = machines.cluster("mx1")
    with writers([member]) as writing:
        writing["mx1"].wait_for(100)
    first = machines.machine("mx2").init()
    joiner = machines.machine("mx3").init()
    joined = []
    for point in points(calls_of(join(first, member, kill_at=0)), 5, record_property):
        if joiner.status()["cluster"] is None:
            joiner.do("set", "mine", str(point), "-m", "why")
        else:
            joined.append(joiner)
            joiner = machines.machine(f"mx3-{point}").init()
            joiner.do("set", "mine", str(point), "-m", "why")
        outcome = join(joiner, member, kill_at=point)
        if joiner.status()["cluster"] is None:
            assert killed(outcome)
            assert joiner.get("mine") == point
    if joiner.status()["cluster"] is None:
        join(joiner, member).expect(0)
    for machine in (*joined, joiner):
        machine.serve()
    converged(member, joiner, *joined)
    joiner.verify()
    assert all(machine.link(member) == "connected" for machine in (*joined, joiner))


def join(joiner: Machine, member: Machine, kill_at: int | None = None) -> Outcome:
    """Join a member's cluster, or be killed on the way."""
    return joiner.run(*joiner.joining(member), typed=PASSWORD + "\n", kill_at=kill_at)
