"""What ``verify`` and ``replay`` say of a log that somebody has tampered with."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

from tests.end_to_end.machines import Fleet, Machine


def flip(database: Path, position: int, column: str, at: int) -> None:
    """Flip one bit of a stored record. SQLite's way to write inside a value goes past the store's triggers."""
    connection = sqlite3.connect(database, isolation_level=None)
    with connection.blobopen("records", column, position) as stored:
        part = stored[at % len(stored)]
        stored[at % len(stored)] = part ^ 1
    connection.close()


def test_one_changed_byte_of_any_record_is_found_and_the_record_named(machines: Fleet) -> None:
    """Whichever record it is in, and wherever, ``verify`` fails and the first bad record that it names is that one."""
    machine = machines.machine("mx1").init()
    machine.do("clusterconfig", "create", "americas")
    for number in range(4):
        machine.set(f"proved.{number}", str(number))
    machine.verify()
    events = machine.events()
    dice = random.Random(5)
    for position, event in enumerate(events, 1):
        column = ("envelope", "seal")[position % 2]
        copy = Machine(machines.folder, f"copy{position}", machine.address)
        shutil.copytree(machine.store, copy.store)
        flip(copy.store / "cluster.db", position, column, dice.randrange(10_000))
        bad = copy.ask("verify", status=3)["first_bad"]
        assert (bad["position"], bad["seq"], bad["event"]) == (position, event["seq"], event["id"])


def test_one_changed_byte_in_the_file_is_found(machines: Fleet) -> None:
    """A byte changed in the file itself, in the middle of a record, is found as one changed by a program is."""
    machine = machines.machine("mx1").init()
    events = [machine.set(f"raw.{number}", f"the value {number}", "machine:mx1.example.com") for number in range(3)]
    (machine.store / "cluster.db").write_bytes(
        # The envelope has the text in JSON within JSON; the table of lanes has it as it is.
        (machine.store / "cluster.db").read_bytes().replace(b'\\"the value 1', b'\\"the vAlue 1')
    )
    bad = machine.ask("verify", status=3)["first_bad"]
    assert bad["event"] == events[1]
    assert "is damaged" not in machine.run("get", "raw.1").expect(0).err
