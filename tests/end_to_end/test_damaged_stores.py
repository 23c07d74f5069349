"""A member whose database is damaged, or gone, gets a whole store again from what is left of it and from the others."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing

from tests.end_to_end.load import writers
from tests.end_to_end.machines import Fleet, Machine, converged


def damage_record(machine: Machine, seq: int) -> None:
    """Change one byte in the middle of a record that a machine wrote, as a failing disk does."""
    with closing(sqlite3.connect(machine.store / "cluster.db")) as connection:
        query = """
            SELECT envelope FROM records JOIN lines ON number = line JOIN meta ON me = machine
            WHERE records.seq = ? ORDER BY records.position DESC
        """
        (envelope,) = connection.execute(query, (seq,)).fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage_bytes(machine, envelope)


def damage_bytes(machine: Machine, wanted: bytes) -> None:
    """Change a byte in the middle of these, which are in a machine's database once."""
    whole = (machine.store / "cluster.db").read_bytes()
    assert whole.count(wanted) == 1
    place = whole.index(wanted) + len(wanted) // 2
    (machine.store / "cluster.db").write_bytes(whole[:place] + bytes((whole[place] ^ 4,)) + whole[place + 1 :])


def own_numbers(machine: Machine) -> list[tuple[str, int]]:
    """Return epoch and number of every record that a machine has of its own."""
    with closing(sqlite3.connect(machine.store / "cluster.db")) as connection:
        query = "SELECT epoch, records.seq FROM records JOIN lines ON number = line JOIN meta ON me = machine"
        return list(connection.execute(query))


def check(machines: Sequence[Machine], mended: Machine, events: set[str]) -> None:
    """Insist that all agree, that nothing is lost, and that the machine never used a number twice."""
    events.add(mended.set(f"{mended.name}.after", str(len(own_numbers(mended)))))
    converged(*machines)
    for machine in machines:
        assert events <= {event["id"] for event in machine.events()}
    numbers = own_numbers(mended)
    assert len(numbers) == len(set(numbers))
    mended.verify()
    assert mended.ask("status")["epoch"]["reason"] == "repaired"


def test_a_damaged_record_in_the_middle(cluster: list[Machine]) -> None:
    """What only the damaged store has is saved, also behind the gap; the others bring what fills it."""
    mx1, mx2, _ = cluster
    secret = mx2.do("set", "mended.secret", "--secret", "--password-stdin", "--json", "-m", "why", typed="geheim\n")
    events = {json.loads(secret)["event"], *(mx2.set(f"mended.{number}", str(number)) for number in range(4))}
    converged(*cluster)
    mx2.stop()
    events.add(mx2.set("mended.alone", "nobody else has this"))
    damage_record(mx2, 3)
    damage_bytes(mx2, b'"geheim"')
    assert "cluster-store repair" in mx2.run("verify").expect(3).err
    found = mx2.ask("repair", status=3)
    assert found["secrets_lost"] == ["setting/cluster/mended.secret"]
    assert found["complete"] is found["repaired"] is False
    assert sorted(found["members"]) == ["mx1.example.com", "mx3.example.com"]
    (gap,) = (feed for feed in found["feeds"] if feed["lost"])
    assert gap["hostname"] == mx2.hostname
    assert gap["up_to"] == 2
    assert gap["behind_a_gap"] == list(range(4, gap["known"] + 1))
    mended = mx2.ask("repair", "--from-peers")
    assert mended["repaired"]
    assert not any(feed["lost"] for feed in mended["feeds"])
    assert mended["secrets_lost"] == [], "who brought the record brought the value"
    assert mended["salvaged"] + sum(mended["taken_back"].values()) == found["expected"]
    mx2.serve()
    check(cluster, mx2, events)
    assert mx1.get("mended.alone") == "nobody else has this"
    assert mx2.do("get", "mended.secret", "-r") == "geheim\n"


def test_a_secret_of_the_first_record(cluster: list[Machine]) -> None:
    """All others came after that record, who the members are too; they are asked all the same, and bring everything."""
    _, mx2, _ = cluster
    events = {mx2.set("first.before", "yes")}
    converged(*cluster)
    mx2.stop()
    damage_bytes(mx2, b'"name":"admin"')
    assert mx2.ask("repair", status=3)["secrets_lost"] == ["user/admin"]
    mended = mx2.ask("repair", "--from-peers")
    assert (mended["repaired"], mended["secrets_lost"]) == (True, [])
    mx2.serve()
    check(cluster, mx2, events)


def test_a_database_that_is_gone(cluster: list[Machine]) -> None:
    """With its keys and the address of a member a machine is itself again, without being admitted anew."""
    mx1, _, mx3 = cluster
    events = {mx3.set("gone.before", "yes")}
    converged(*cluster)
    mx3.stop()
    for path in mx3.store.glob("cluster.db*"):
        path.unlink()
    assert "repair" in mx3.run("get", "gone.before").expect(1).err
    assert "--from" in mx3.run("repair").expect(3).err
    status = mx1.status()
    where = ("--from", f"{mx1.address}:{status['ssh_port']}", "--fingerprint")
    assert "was not accepted" in mx3.run("repair", *where, "SHA256:" + "A" * 43).expect(1).err
    mended = mx3.ask("repair", *where, status["fingerprint"])
    assert (mended["salvaged"], mended["repaired"]) == (0, True)
    assert mended["taken_back"][mx1.hostname] > 0
    mx3.serve()
    check(cluster, mx3, events)


def test_a_backup_made_under_load(cluster: list[Machine], machines: Fleet) -> None:
    """What comes out of it is a store as it was at one moment; the others bring what came later."""
    mx1, mx2, _ = cluster
    backup = machines.folder / "mx1.tar"
    with writers([mx1]) as writing:
        writing[mx1.name].wait_for(20)
        told = mx1.ask("backup", str(backup))
        writing[mx1.name].wait_for(20)
    assert backup.stat().st_mode & 0o777 == 0o600
    converged(*cluster)
    assert "is held by cluster-store serve" in mx1.run("restore", str(backup), "--force").expect(1).err
    mx1.stop()
    restored = mx1.ask("restore", str(backup), "--force")
    assert restored["records"] == told["records"]
    assert mx1.state()[0] == told["records"] < mx2.state()[0]
    mx1.serve()
    events = {*writing[mx1.name].acknowledged, mx1.set("backup.after", "yes")}
    converged(*cluster)
    for machine in cluster:
        assert events <= {event["id"] for event in machine.events()}
    numbers = own_numbers(mx1)
    assert len(numbers) == len(set(numbers))
    mx1.verify()
