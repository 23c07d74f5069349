"""How machines reach each other: announcements, transports, ports, addresses; each event and each refusal."""

from __future__ import annotations

import base64

import msgspec
import pytest

from cluster_store.core import commands
from cluster_store.core.decide_communication import check_announced, check_client_key
from cluster_store.core.errors import InvalidValue, Refused
from tests.core.builders import identity
from tests.core.desk import Desk, card
from tests.core.test_decide import founded, with_edge

MX, EDGE = identity("mx"), identity("edge")
KEY, OTHER = (
    "ssh-ed25519 " + base64.b64encode(b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20" + bytes([number]) * 32).decode()
    for number in (1, 2)
)


def awaited(desk: Desk) -> list[str]:
    """Return the hostnames that are announced."""
    return [one.hostname for one in desk.cluster.announced.values()]


def test_an_announced_machine_is_known_until_it_is_let_in() -> None:
    """Whichever way it comes in, its announcement is over."""
    desk = founded()
    event = desk.do(commands.AnnounceMachine(hostname="edge", serial="E1", key=KEY + " root@edge"))
    assert event is not None
    assert (event.kind, event.params) == ("MachineAnnounced", {"hostname": "edge", "serial": "E1"})
    (one,) = desk.cluster.announced.values()
    assert (one.hostname, one.serial, one.key) == ("edge", "E1", KEY)
    desk.do(commands.AnnounceMachine(hostname="other", serial="O1", key=OTHER))
    assert awaited(desk) == ["edge", "other"]
    desk.do(commands.AdmitMachine(card=msgspec.structs.replace(card("edge"), client_key=KEY)))
    assert awaited(desk) == ["other"]
    desk.do(commands.WithdrawAnnouncement(hostname="OTHER"))
    assert awaited(desk) == []


@pytest.mark.parametrize(
    "key", ["", "ssh-ed25519", "ssh-rsa AAAA", "ssh-ed25519 AAAA", KEY[:-4], "x" * 9000, "ssh-ed25519 ä"]
)
def test_a_key_that_is_none_is_refused(key: str) -> None:
    """Only what 'prepjoin print' prints is taken."""
    with pytest.raises(InvalidValue, match="is no machine's key"):
        check_client_key(key)


def test_an_announcement_that_could_not_be_fulfilled_is_refused() -> None:
    """A name or a key that is in use, here or among the announced, leads to no second machine."""
    desk = with_edge()
    assert "taken by a member" in desk.refusal(commands.AnnounceMachine(hostname="EDGE", serial="1", key=KEY))
    assert "is that of edge" in desk.refusal(commands.AnnounceMachine(hostname="new", serial="s-EDGE", key=KEY))
    desk.do(commands.AnnounceMachine(hostname="new", serial="1", key=KEY))
    assert "announced already" in desk.refusal(commands.AnnounceMachine(hostname="New", serial="2", key=OTHER))
    assert "announced already" in desk.refusal(commands.AnnounceMachine(hostname="newer", serial="2", key=KEY))
    assert "no machine named 'none'" in desk.refusal(commands.WithdrawAnnouncement(hostname="none"))
    assert "not in a cluster" in Desk("mx").refusal(commands.AnnounceMachine(hostname="a", serial="1", key=KEY))


@pytest.mark.parametrize("change", [{"hostname": "mallory"}, {"serial": "S2"}, {"client_key": OTHER}])
def test_a_machine_that_is_not_the_announced_one_is_refused(change: dict[str, str]) -> None:
    """Name, serial number and key must all be those that somebody typed."""
    desk = founded()
    good = msgspec.structs.replace(card("edge"), client_key=KEY)
    desk.do(commands.AnnounceMachine(hostname="edge", serial=good.serial.lower(), key=KEY))
    (one,) = desk.cluster.announced.values()
    check_announced(one, good)
    with pytest.raises(Refused, match="was announced with the"):
        check_announced(one, msgspec.structs.replace(good, **change))


def test_the_transport_changes_while_the_cluster_runs() -> None:
    """One event says how all talk from then on, and where each listened before."""
    desk = with_edge()
    assert desk.cluster.over == "ssh"
    event = desk.do(commands.ChangeCommunication(over="ccs", port=3333))
    assert event is not None
    assert (event.kind, event.params) == ("CommunicationChanged", {"over": "ccs", "port": 3333})
    assert desk.cluster.over == "ccs"
    for machine in desk.cluster.machines.values():
        assert (machine.ccs_port, machine.former_ports) == (3333, (2222,))
    desk.do(commands.ChangeCommunication(over="ssh", machine="edge", port=2022))
    edge = desk.cluster.machine("edge")
    assert (edge.ssh_port, edge.ccs_port, edge.former_ports) == (2022, 3333, (22, 2222))
    assert desk.cluster.machine("mx").ssh_port == 22
    assert desk.do(commands.ChangeCommunication(over="ssh")) is None


def test_former_ports_are_few_and_never_the_present_one() -> None:
    """Whoever goes to and fro leaves no list that grows."""
    desk = founded()
    for port in (2001, 2002, 2003, 22, 2004, 2005, 2001):
        desk.do(commands.ChangeMachine(ssh_port=port))
    assert desk.cluster.machine("mx").former_ports == (2005, 2004, 22, 2003)


def test_names_and_addresses_are_not_mixed() -> None:
    """A cluster that names its machines by address has no machine with a name for an address, and the reverse."""
    desk = with_edge()
    desk.do(commands.ChangeCommunication(machine="edge", address="edge.example"))
    assert desk.cluster.machine("edge").address == "edge.example"
    assert "by hostname" in desk.refusal(commands.ChangeCommunication(machine="edge", address="192.0.2.1"))
    assert "by ip and dial edge at edge.example" in desk.refusal(commands.ChangeCommunication(by="ip"))
    desk.do(commands.ChangeCommunication(machine="edge", address=""))
    assert "has no IP address on record" in desk.refusal(commands.ChangeCommunication(by="ip"))
    for machine in (MX, EDGE):
        desk.registers.put(f"machine/{machine.id}/interfaces", '{"Management":"192.0.2.7"}', 1 << 60)
    desk.do(commands.ChangeCommunication(by="ip"))
    desk.do(commands.ChangeCommunication(machine="edge", address="2001:db8::1"))
    assert desk.cluster.by == "ip"
    assert "by ip" in desk.refusal(commands.ChangeCommunication(machine="edge", address="edge.example"))
    desk.do(commands.ChangeCommunication(machine="edge", address=""))
    desk.registers.put(f"machine/{EDGE.id}/hostname", '"192.0.2.8"', 1 << 60)
    assert "hostname of 192.0.2.8 is an IP" in desk.refusal(commands.ChangeCommunication(by="hostname"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"by": "smoke"}, "no way to name machines"),
        ({"over": "pigeon"}, "no way to talk"),
        ({"address": "a.example"}, "belongs to one machine"),
        ({"machine": "nobody", "port": 1}, "no machine named"),
    ],
)
def test_a_communication_that_cannot_be_is_refused(change: dict[str, str], why: str) -> None:
    """What was typed wrong is named."""
    assert why in with_edge().refusal(commands.ChangeCommunication(**change))  # type: ignore[arg-type] # some are ports
