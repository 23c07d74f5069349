"""``clusterconfig`` on one machine: what a cluster is made of. Joining has a file of its own."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from cluster_store_cli import clusterconfig

from tests.cli.stores import Store


def hostnames_are(monkeypatch: pytest.MonkeyPatch, *, known: bool) -> None:
    """Let every name be found, or none."""

    def look_up(host: str, *_: object) -> list[object]:
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize(("known", "by"), [(True, "hostname"), (False, "ip")])
def test_members_dial_by_hostname_where_it_can_be_looked_up(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, known: bool, by: str
) -> None:
    """Otherwise by address; which it is, and why, is said."""
    hostnames_are(monkeypatch, known=known)
    told = store.run("clusterconfig", "create", "americas").expect(0).err
    assert f"members dial each other by {by}" in told
    assert ("because mx1.example.com cannot be looked up here" in told) is not known
    assert store.ask("clusterconfig", "list")["by"] == by


def test_a_machine_with_neither_name_nor_address_is_named_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing else to dial; the operator hears of it."""
    hostnames_are(monkeypatch, known=False)
    store = Store(tmp_path / "store")
    store.do("init", "--hostname", "mx1", "--ssh-port", "0", "--ccs-port", "0")
    assert "though mx1 cannot be looked up here" in store.run("clusterconfig", "create", "americas").expect(0).err
    assert store.ask("clusterconfig", "list")["by"] == "hostname"


def test_what_the_operator_chooses_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any case of letters, and whatever can be looked up."""
    hostnames_are(monkeypatch, known=False)
    told = store.run("clusterconfig", "create", "americas", "--by", "HOSTNAME").expect(0)
    assert "cannot be looked up here: a machine that cannot look it up either is not let in" in told.out + told.err
    assert store.ask("clusterconfig", "list")["by"] == "hostname"


def test_the_cluster_is_shown_as_a_tree(member: Store) -> None:
    """Each group with its machines, each machine with its serial number; JSON has the contract's members."""
    moved = member.run("clusterconfig", "setgroup", "MX1.example.com", "MX1.example.com", "PARIS").expect(0)
    assert moved.err.startswith("MX1.example.com: now in the group PARIS, event ")
    tree = member.ask("clusterconfig", "list")
    machine = member.ask("machine", "show")
    assert tree["cluster"] == "americas"
    assert [(group["name"], len(group["machines"])) for group in tree["groups"]] == [("Main_Group", 0), ("paris", 1)]
    shown = tree["groups"][1]["machines"][0]
    assert shown["id"] == machine["machine"]
    assert {"hostname": machine["hostname"], "serial": machine["serial"], "detached": False}.items() <= shown.items()
    assert member.do("clusterconfig", "list").splitlines() == [
        "Cluster americas",
        "├── Group Main_Group",
        "└── Group paris",
        f"    └── mx1.example.com (serial number {machine['serial']})",
    ]


def test_a_machine_is_detached_and_taken_back(member: Store) -> None:
    """``list``, ``status`` and ``connstatus`` all say so in between."""
    told = member.run("clusterconfig", "disconnect", "mx1.example.com", "-m", "maintenance").expect(0)
    assert "that is the machine you are on" in told.err
    assert "detached" in member.do("clusterconfig", "list")
    assert member.ask("status")["detached"] is True
    (row,) = member.ask("clusterconfig", "connstatus")["machines"]
    assert row["state"] == "detached"
    assert row["reason"].startswith("detached by os:")
    member.do("clusterconfig", "reconnect", "mx1.example.com")
    assert member.ask("status")["detached"] is False


def test_connstatus_has_the_contract_s_members(member: Store) -> None:
    """Also where no daemon runs; people see the same as a table."""
    (row,) = member.ask("clusterconfig", "connstatus")["machines"]
    assert {"hostname", "group", "state", "reason", "since", "last_contact", "behind", "ahead", "as_of"} <= row.keys()
    shown = member.do("clusterconfig", "connstatus").splitlines()
    columns = "hostname state reason since last contact behind ahead clock"
    assert shown[0].split() == columns.split()
    assert shown[2].split()[:3] == ["mx1.example.com", "connected", "this"]


def test_an_operation_shows_its_event_where_json_is_asked_for(member: Store) -> None:
    """So that a script can wait for it elsewhere."""
    added = member.ask("clusterconfig", "addgroup", "lyon")
    assert added["changed"] is True
    assert len(added["event"]) == 64
    assert member.ask("clusterconfig", "setgroup", "mx1.example.com", "Main_Group")["changed"] is False


def test_groups_with_one_name_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is shown with its id, which commands take, and with its own machines."""
    machine = {"hostname": "mx1", "serial": "S1", "detached": False, "pending": False, "removed": False}
    groups: list[dict[str, Any]] = [
        {"name": name, "id": f"{name}-id", "machines": []} for name in ("Twin", "twin", "Alone")
    ]
    groups[0]["machines"] = [machine]
    clusterconfig._print_tree({"cluster": "ships", "groups": groups})
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip("├└─│ ") for line in lines] == [
        "Cluster ships",
        "Group Twin (Twin-id)",
        "mx1 (serial number S1)",
        "Group twin (twin-id)",
        "Group Alone",
    ]
