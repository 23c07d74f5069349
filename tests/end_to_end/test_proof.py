"""What ``verify`` and ``replay`` say of a log that somebody has tampered with."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from pathlib import Path

from tests.end_to_end.machines import Fleet, Machine

#: Columns of a record that somebody could change one byte of.
COLUMNS = ("envelope", "seal", "id")


def flip(database: Path, record: bytes, column: str, at: int) -> None:
    """Flip one bit of a stored record, past the triggers that keep honest writers from it."""
    connection = sqlite3.connect(database, isolation_level=None)
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    (old,) = connection.execute(f"SELECT {column} FROM records WHERE id = ?", (record,)).fetchone()
    new = bytearray(old)
    new[at % len(new)] ^= 1
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(f"UPDATE records SET {column} = ? WHERE id = ?", (bytes(new), record))
    for _, sql in triggers:
        connection.execute(sql)
    connection.close()


def test_one_changed_byte_of_any_record_is_found_and_the_record_named(machines: Fleet) -> None:
    """Whichever record it is in, and wherever, ``verify`` fails and names that record by its id or number."""
    machine = machines.machine("mx1").init()
    machine.do("clusterconfig", "create", "americas")
    for number in range(4):
        machine.set(f"proved.{number}", str(number))
    machine.verify()
    events = machine.events()
    dice = random.Random(5)
    for number, event in enumerate(events):
        for column in COLUMNS[number % len(COLUMNS) :: len(COLUMNS)]:
            copy = Machine(machines.folder, f"copy{number}", machine.address)
            shutil.copytree(machine.store, copy.store)
            flip(copy.store / "cluster.db", bytes.fromhex(event["id"]), column, dice.randrange(10_000))
            outcome = copy.run("verify")
            named = (event["id"][:12], f"mx1.example.com#{event['seq']}", f"record {number + 1}")
            told = outcome.out + outcome.err
            assert outcome.status in {1, 3}, (column, told)
            assert any(name in told for name in named), (column, named, told)


def test_one_changed_byte_in_the_file_is_found(machines: Fleet) -> None:
    """A byte changed in the file itself, in the middle of a record, is found as one changed by a program is."""
    machine = machines.machine("mx1").init()
    for number in range(3):
        machine.set(f"raw.{number}", f"value {number}", f"machine:{machine.hostname}")
    event = machine.events()[2]
    database = machine.store / "cluster.db"
    content = bytearray(database.read_bytes())
    at = content.index(b'"value 1') if b'"value 1' in content else content.index(b"value 1")
    content[at + 3] ^= 1
    database.write_bytes(content)
    report = json.loads(machine.run("verify", "--json").expect(3).out)
    assert not report["passed"]
    assert event["id"] in {finding["event"] for finding in report["findings"]} | {report["first_bad"]["event"]}
