"""A disk without room: nothing new is taken, all that is there is served, and with room it goes on by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.load import writers
from tests.end_to_end.machines import PATIENCE_S, Fleet, Machine, converged, form
from tests.waiting import wait_until

#: What shows whose a mount is: nobody cleans up behind a test run that was killed, but the next one.
_SOURCE = "cluster-store-test-"


@pytest.fixture
def cramped(machines: Fleet) -> Iterator[Machine]:
    """A machine whose store is on a disk of 4 MiB: less than the database's own log takes where there is room."""
    machine = machines.machine("mx1")
    machine.store.mkdir()
    unmount_leftovers()
    words = ("-t", "tmpfs", "-o", "size=4m,mode=0700", f"{_SOURCE}{os.getpid()}", str(machine.store))
    done = subprocess.run(["mount", *words], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here, which takes root: {done.stderr.strip()}")
    try:
        yield machine
    finally:
        machine.close()
        unmount(str(machine.store))


def unmount(where: str) -> None:
    """Take a disk away, also if somebody still looks at it."""
    subprocess.run(["umount", "--lazy", where], check=True, timeout=30)


def unmount_leftovers() -> None:
    """Take away the disks of test runs that were killed."""
    for source, where, *_ in (line.split() for line in Path("/proc/mounts").read_text().splitlines()):
        if source.startswith(_SOURCE) and not Path("/proc", source.removeprefix(_SOURCE)).exists():
            unmount(where)


def test_a_full_disk_takes_nothing_new_and_goes_on_when_there_is_room(machines: Fleet, cramped: Machine) -> None:
    """What was acknowledged stays, reading and serving go on, what peers send waits with them, and nothing is lost."""
    full, mx2, mx3 = form([cramped.init(), machines.machine("mx2").init(), machines.machine("mx3").init()])
    full.set("before", "kept")
    ballast = full.store / "ballast"
    ballast.write_bytes(bytes(1_500_000))
    with writers([full]) as writing:
        writer = writing["mx1"]
        wait_until(lambda: writer.unanswered, PATIENCE_S, what="a change to be refused")
    assert "there is no room for" in full.refused("set", "key", "1", "-m", "why")
    assert full.get("before") == "kept"
    for words in (["clusterconfig", "list"], ["log"], ["showconfig"], ["status"], ["clusterconfig", "connstatus"]):
        full.do(*words)

    # What the others write they have from each other; the full one takes nothing of it, and both ends say why.
    events = {mx2.set("large", "x" * 60_000), mx3.set("small", "1")}
    wait_until(lambda: "no room" in full.links()["mx2"]["reason"], PATIENCE_S, what="mx1 to say why")
    wait_until(lambda: "no room" in mx2.links()["mx1"]["reason"], PATIENCE_S, what="mx2 to be told why")
    converged(mx2, mx3)
    assert mx2.link(mx3) == "connected"
    attempts = {(link["state"], link["since"]) for link in (full.links()["mx2"], full.links()["mx3"])}
    assert len(attempts) <= 2

    # A daemon can be started on a full disk, and serves.
    full.kill()
    assert full.get("before") == "kept"
    full.serve()
    assert full.status()["serving"]
    assert "there is no room for" in full.refused("set", "key", "1")

    # The database's log has used up the room that there was, and would use up this as well.
    ballast.unlink()
    converged(full, mx2, mx3)
    with writers([full]) as writing:
        writing["mx1"].wait_for(200)
        events |= {*writer.acknowledged, *writing["mx1"].acknowledged}
    converged(full, mx2, mx3)
    for machine in (full, mx2, mx3):
        assert events <= {event["id"] for event in machine.events()}
        machine.verify()
