"""Daemons killed at any moment, in the middle of everybody's work, and disks copied at any moment, as power fails.

``CLUSTER_STORE_KILLS=300`` in the environment asks for so many kills, and a fifth as many copies.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.end_to_end.kill_points import CALLS
from tests.end_to_end.load import Writer, writers
from tests.end_to_end.machines import PATIENCE_S, Fleet, Machine, converged
from tests.waiting import wait_until

KILLS = int(os.environ.get("CLUSTER_STORE_KILLS", "20"))
pytestmark = pytest.mark.timeout(120 + 10 * KILLS)


#: Shows what was counted.
Record = Callable[[str, object], None]


def test_daemons_killed_under_load_lose_nothing_that_they_acknowledged(
    cluster: list[Machine], record_property: Record
) -> None:
    """After SIGKILL of one daemon after the other at random moments, every acknowledged change is on every machine.

    What was staged before all that is staged still, and can be committed.
    """
    dice = random.Random(KILLS)
    kills = 0
    for machine in cluster:
        assert machine.ask("set", "staged.before", f'"{machine.name}"')["staged"]
    with writers(cluster) as writing:
        while kills < KILLS:
            victim = dice.choice(cluster)
            writing[victim.name].wait_for(dice.randrange(20))
            victim.kill()
            kills += 1
            if CALLS and dice.random() < 0.3:
                kills += kill_at_the_disk(victim, dice.randrange(1, 250))
            victim.launch()
            if dice.random() < 0.2:
                # Once more, while it is starting.
                bystander = dice.choice([machine for machine in cluster if machine is not victim])
                writing[bystander.name].wait_for(dice.randrange(20))
                victim.kill()
                victim.launch()
                kills += 1
        for writer in writing.values():
            writer.wait_for(1)
    converged(*cluster, timeout=PATIENCE_S + KILLS)
    checked = check(cluster, list(writing.values()))
    assert checked > kills
    unknown = sum(writer.unanswered for writer in writing.values())
    told = f"{kills} kills, {checked} acknowledged changes checked on {len(cluster)} machines, lost = 0"
    record_property("figures", f"{told}; {unknown} were under way when their daemon was killed")
    assert not [problem for problem in cluster[0].ask("clustercheck")["problems"] if "clone" in problem["kind"]]
    for machine in cluster:
        machine.do("commit", "--anyway", "-m", "after all that")
        assert machine.get("staged.before") == machine.name


def kill_at_the_disk(victim: Machine, call: int) -> int:
    """Have a daemon, which saves documents all the time, be killed before a certain call that changes its disk."""
    victim.plants = ("eager_to_save",)
    daemon = victim.launch(kill_at=call)
    victim.plants = ()
    wait_until(lambda: daemon.poll() is not None, PATIENCE_S, what="the daemon to be killed at a write")
    victim.daemon = None
    return 1


def check(cluster: Sequence[Machine], writing: Sequence[Writer]) -> int:
    """Insist that each change is recorded, and in force unless a later one of which nobody knew is; count them."""
    acknowledged = {event for writer in writing for event in writer.acknowledged}
    for machine in cluster:
        lost = acknowledged - {event["id"] for event in machine.events()}
        assert not lost
        found = machine.ask("showconfig", "--prefix", "load.")
        for writer in writing:
            for key, number in writer.numbers.items():
                assert found[key] >= number, key
        machine.verify()
    return len(acknowledged)


def test_what_is_acknowledged_is_on_the_disk(machines: Fleet, record_property: Record) -> None:
    """A copy of the database and its write-ahead log, taken under load, holds all that was acknowledged before."""
    (machine,) = machines.cluster("mx1")
    dice = random.Random(KILLS)
    copies, checked = max(4, KILLS // 5), 0
    acknowledged: set[str] = set()
    for number in range(copies):
        copy = Machine(machines.folder, f"copy{number}", machine.address)
        with writers([machine]) as writing:
            writing["mx1"].wait_for(dice.randrange(1, 60))
            acknowledged |= set(writing["mx1"].acknowledged)
            copy_disk(machine, copy.store)
        assert acknowledged <= {event["id"] for event in copy.events()}
        copy.verify()
        checked += len(acknowledged)
        # Long runs make many of them.
        shutil.rmtree(copy.store)
    told = f"{copies} copies as of a power failure, {checked} acknowledged changes found in them, lost = 0"
    record_property("figures", told)


@pytest.mark.skipif(not CALLS, reason="nobody has looked up the numbers of this processor's system calls")
@pytest.mark.parametrize("careless", [False, True], ids=["the daemon", "one that does not wait for its disk"])
def test_nothing_is_answered_before_it_is_on_the_disk(machines: Fleet, *, careless: bool) -> None:
    """Between what is written to the write-ahead log and the next answer, the log is synced to the disk."""
    (machine,) = machines.cluster("mx1")
    machine.stop()
    machine.plants = ("careless",) if careless else ()
    notes = machines.folder / "notes"
    machine.launch(kill_at=0, notes=str(notes))
    machine.ready()
    with writers([machine]) as writing:
        writing["mx1"].wait_for(5)
    machine.kill()
    assert bool(answered_early(notes.read_text().splitlines())) == careless


def answered_early(notes: Sequence[str]) -> list[int]:
    """Return where something was sent although what was written to the database's log was not synced yet."""
    found = []
    unsynced = False
    for at, note in enumerate(notes):
        call, _, target = note.partition(" ")
        if target.endswith("/cluster.db-wal"):
            unsynced = call == "pwrite64" or (unsynced and not call.endswith("sync"))
        if call == "sendto" and unsynced:
            found.append(at)
    assert sum(note.startswith("pwrite64") for note in notes) > 5
    return found


def copy_disk(machine: Machine, to: Path) -> None:
    """Copy what a power failure would leave of a store at this moment: the files, and no shared memory."""
    assert machine.daemon is not None
    shutil.copytree(machine.store / "keys", to / "keys")
    to.chmod(0o700)
    # While files are copied one after the other, the daemon must not go on.
    machine.daemon.send_signal(signal.SIGSTOP)
    try:
        for name in ("cluster.db", "cluster.db-wal"):
            shutil.copy(machine.store / name, to / name)
    finally:
        machine.daemon.send_signal(signal.SIGCONT)
