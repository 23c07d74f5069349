"""What a cluster demands: of a machine that joins, of two that meet again, and what is watched afterwards."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cluster_store.core import commands
from cluster_store.core.cluster import Machine
from cluster_store.core.commands import Card
from cluster_store.core.errors import Refused
from cluster_store.core.requirements import check_reconnect, needs_feature_key, unmet
from tests.core.builders import identity
from tests.core.desk import SALT, Desk, card

LAN = {"Data 1": "192.0.2.1", "Management": "192.0.2.2"}


def card_of(name: str, **fields: Any) -> Card:
    """Return a card with two interfaces, but for the fields."""
    return msgspec.structs.replace(card(name), **{"interfaces": LAN, **fields})


def founded(by: str = "hostname", **fields: Any) -> Desk:
    """Return the desk of a machine that made a cluster."""
    desk = Desk("mx")
    desk.do(commands.InitialiseMachine(card=card_of("mx", **fields), salt=SALT))
    desk.do(commands.CreateCluster(name="ships", by=by, salt=SALT))
    return desk


# --- joining ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "fields", "words"),
    [
        (
            "ip",
            {"interfaces": {"Data 1": "edge.example.com", "Management": "x"}},
            (
                "the cluster names its machines by IP address, and edge has edge.example.com\n"
                "give it one with 'machine set --interface NAME=ADDRESS'"
            ),
        ),
        (
            "hostname",
            {"hostname": "192.0.2.7"},
            (
                "the cluster names its machines by hostname, and 192.0.2.7 is an IP address\n"
                "give the machine a hostname with 'machine set --hostname NAME'"
            ),
        ),
        (
            "ip",
            {"version": "8.5.6"},
            (
                "edge runs version 8.5.6, the cluster runs 9.0\n"
                "upgrade the older one: a cluster needs one version throughout"
            ),
        ),
        (
            "ip",
            {"interfaces": {"Data 1": "192.0.2.7", "Data 2": "192.0.2.8"}},
            (
                "the IP interface names differ: edge lacks Management and has also Data 2\n"
                "give it exactly these, with 'machine set --interface NAME=ADDRESS': Data 1, Management"
            ),
        ),
        (
            "ip",
            {"hostname": "MX"},
            (
                "the hostname MX is taken by the machine with serial S-mx\n"
                "give this machine another one with 'machine set --hostname NAME'"
            ),
        ),
        (
            "ip",
            {"serial": "S-mx"},
            "the serial number S-mx is taken by mx\ngive this machine another one with 'machine set --serial S'",
        ),
    ],
)
def test_a_machine_that_does_not_fit_is_told_both_sides_facts_and_the_cure(
    by: str, fields: dict[str, Any], words: str
) -> None:
    """Whatever is refused, the operator need not look anything up."""
    assert founded(by).refusal(commands.AdmitMachine(card=card_of("edge", **fields))) == words


def test_without_interfaces_the_address_that_it_listens_at_counts() -> None:
    """Peers dial that one; where there is none either, there is nothing to dial by IP."""
    desk = founded("ip", interfaces={}, listen="192.0.2.1")
    assert "and edge has none\n" in desk.refusal(commands.AdmitMachine(card=card_of("edge", interfaces={})))
    there = card_of("edge", interfaces={}, listen="2001:db8::7")
    assert desk.do(commands.AdmitMachine(card=there)) is not None


# --- feature keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "needed"),
    [
        ("8.5.5", True),
        ("8.5.5-123", True),
        ("8.5", True),
        ("7", True),
        ("1.0", True),
        ("8.5.6", False),
        ("8.5.6-073", False),
        ("8.6", False),
        ("9", False),
        ("15.5.1-055", False),
        ("0.1.0", False),
        ("some other platform", False),
        ("", False),
    ],
)
def test_versions_before_8_5_6_need_a_feature_key(version: str, *, needed: bool) -> None:
    """What begins with 0, or with no number, is no such platform's version."""
    assert needs_feature_key(version) is needed


def test_a_cluster_on_an_old_version_takes_a_feature_key_on_each_machine() -> None:
    """To make one and to join one; the key is the machine's own and comes with it."""
    desk = Desk("mx")
    desk.do(commands.InitialiseMachine(card=card_of("mx", version="8.0.1"), salt=SALT))
    create = commands.CreateCluster(name="ships", salt=SALT)
    assert desk.refusal(create) == (
        "mx runs version 8.0.1 and has no feature key; clusters need one before 8.5.6\n"
        "give it there with 'cluster-store featurekey KEY', or upgrade the platform"
    )
    assert desk.do(commands.ChangeMachine(feature_key="7-A/b=")) is not None
    desk.do(create)
    old = card_of("edge", version="8.0.1")
    assert desk.refusal(commands.AdmitMachine(card=old)).startswith("edge runs version 8.0.1 and has no feature key")
    desk.do(commands.AdmitMachine(card=msgspec.structs.replace(old, feature_key="key")))
    assert desk.cluster.machines[identity("edge").id].feature_key == "key"
    assert desk.cluster.machines[identity("mx").id].feature_key == "7-A/b="


@pytest.mark.parametrize("key", ["", " ", "a\nb", " a", "x" * 300])
def test_a_feature_key_is_a_text_on_one_line(key: str) -> None:
    """An empty one would be none."""
    assert "feature key" in founded(feature_key="old").refusal(commands.ChangeMachine(feature_key=key))


# --- meeting again -------------------------------------------------------------------------------------------


def test_a_machine_of_another_version_is_not_taken_back() -> None:
    """By what it said last; by its record where it was not met since."""
    me, other = (
        Machine(id=identity(name).id, hostname=name, version=version)
        for name, version in (("mx", "9.0"), ("edge", "8.6"))
    )
    check_reconnect(other, me, {other.id: "9.0"})
    for heard, version in (({}, "8.6"), ({other.id: "9.1"}, "9.1")):
        with pytest.raises(Refused) as refused:
            check_reconnect(other, me, heard)
        assert refused.value.describe() == (
            f"edge runs version {version}, mx runs 9.0\n"
            "upgrade the older one first; if edge was upgraded while it was away, reconnect it there"
        )


def test_reconnect_refuses_a_machine_of_another_version() -> None:
    """It stays detached; in one version it is taken back."""
    desk = founded()
    desk.do(commands.AdmitMachine(card=card_of("edge")))
    desk.do(commands.DetachMachines(machines=("edge",)))
    desk.do(commands.ChangeMachine(version="9.1"))
    assert desk.refusal(commands.ReconnectMachines(machines=("edge",))).startswith("edge runs version 9.0, mx runs 9.1")
    desk.do(commands.ChangeMachine(version="9.0"))
    assert desk.do(commands.ReconnectMachines(machines=("edge",))) is not None


# --- afterwards ------------------------------------------------------------------------------------------------


def watched(by: str = "ip", **fields: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is found where four machines say of themselves what the fields say, by their names."""
    desk = founded(by)
    for name in ("a", "b", "c"):
        desk.do(commands.AdmitMachine(card=card_of(name)))
        desk.registers.put(f"machine/{identity(name).id}/epoch:{'e' * 16}", '{"reason":"joined"}')
    for name, changed in fields.items():
        for what, value in changed.items():
            text = msgspec.json.encode(value).decode()
            desk.registers.put(f"machine/{identity(name).id}/{what}", text, 10**18)
    return list(unmet(desk.cluster))


def test_members_that_keep_all_are_not_named() -> None:
    """In either way of naming; nor is a machine that stands alone, whatever it is like."""
    assert watched() == watched("hostname") == []
    alone = Desk("mx")
    alone.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    assert list(unmet(alone.cluster)) == []


@pytest.mark.parametrize(
    ("by", "name", "fields", "found"),
    [
        (
            "ip",
            "b",
            {"interfaces": {"Data 1": "192.0.2.9", "Data 2": "192.0.2.8"}},
            (
                "interface names differ",
                (
                    "b lacks Management and has also Data 2, most members have Data 1, Management: "
                    "what is to listen on one that is not there is silently off"
                ),
            ),
        ),
        (
            "ip",
            "c",
            {"version": "9.1"},
            ("versions differ", "9.0 on a, b, mx; 9.1 on c: they make no new links with each other until all run one"),
        ),
        (
            "ip",
            "a",
            {"serial": "S-b"},
            (
                "machines with one serial number",
                "a, b have the serial number S-b: change one with 'machine set --serial'",
            ),
        ),
        (
            "ip",
            "a",
            {"address": "a.example.com"},
            (
                "hostnames and addresses mixed",
                (
                    "the cluster names its machines by IP address, and a by a.example.com: "
                    "use one way throughout, with 'clusterconfig communication'"
                ),
            ),
        ),
        (
            "hostname",
            "a",
            {"address": "192.0.2.1"},
            (
                "hostnames and addresses mixed",
                (
                    "the cluster names its machines by hostname, and a by 192.0.2.1: "
                    "use one way throughout, with 'clusterconfig communication'"
                ),
            ),
        ),
    ],
)
def test_a_member_that_does_not_keep_a_demand_is_named(
    by: str, name: str, fields: dict[str, Any], found: tuple[str, str]
) -> None:
    """With what it has and what the others have."""
    assert watched(by, **{name: fields}) == [found]


def test_a_machine_that_never_came_is_not_watched() -> None:
    """It may have been set up anew since."""
    desk = founded()
    desk.do(commands.AdmitMachine(card=card_of("edge")))
    desk.registers.put(f"machine/{identity('edge').id}/serial", '"S-mx"', 10**18)
    assert list(unmet(desk.cluster)) == []
