"""The promises of a cluster hold when its registers are read, whatever was merged into them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_store.core.cluster import Cluster, Machine, group_id
from cluster_store.core.digest import digest, lanes_digest
from cluster_store.core.errors import NotFound, Refused
from cluster_store.core.registers import LaneValue, Secret, group_level, machine_level
from cluster_store.core.rules import read
from cluster_store.core.settings import effective_settings
from cluster_store.core.types import HYBRID_LOGICAL_BITS, GroupId, MachineId
from tests.core.plain import Plain

MX = MachineId("1" * 32)
EDGE = MachineId("2" * 32)


def cluster_of(registers: Plain, *groups: str, machine: str = "") -> Plain:
    """Give registers a cluster with groups, created one after the other, and a machine in one of them."""
    registers.put("cluster/name", '"ships"')
    for time, group in enumerate(groups, 1):
        registers.put(f"group/{group}/created", "true", time).put(
            f"group/{group}/name", json.dumps(group.title()), time
        )
    registers.put(f"machine/{MX}/key", '"00"').put(f"machine/{MX}/hostname", '"mx"')
    if machine:
        registers.put(f"machine/{MX}/group", json.dumps(machine))
    return registers


def delete(registers: Plain, group: str, successor: LaneValue, time: int = 50) -> Plain:
    """Delete a group."""
    return registers.put(f"group/{group}/deleted", successor, time)


def group_of_mx(registers: Plain) -> str:
    """Return the group that the machine is in."""
    return read(registers).machines[MX].group


# --- rule 1: a machine is in exactly one live group -----------------------------------------------


def test_a_machine_is_in_the_group_that_its_register_names() -> None:
    """Where the group lives, nothing else matters."""
    assert group_of_mx(cluster_of(Plain(), "main", "paris", machine="paris")) == "paris"


def test_of_two_moves_at_once_the_later_counts() -> None:
    """Two people who move one machine to different groups leave it in one of them."""
    registers = cluster_of(Plain(), "main", "paris", "berlin")
    registers.put(f"machine/{MX}/group", '"paris"', 8).put(f"machine/{MX}/group", '"berlin"', 7)
    assert group_of_mx(registers) == "paris"


@pytest.mark.parametrize(
    ("successors", "ends"),
    [
        ({"paris": '"berlin"'}, "berlin"),
        ({"paris": '"berlin"', "berlin": '"rome"'}, "rome"),
        ({"paris": '"berlin"', "berlin": '"paris"'}, "main"),
        ({"paris": '"paris"'}, "main"),
        ({"paris": '"nowhere"'}, "main"),
        ({"paris": None}, "main"),
        ({"paris": "17"}, "main"),
        ({"paris": '"berlin"', "berlin": '"berlin"'}, "main"),
    ],
    ids=["a successor", "a chain", "a circle", "itself", "nowhere", "none", "nonsense", "a chain to a circle"],
)
def test_a_machine_follows_its_deleted_group(successors: dict[str, LaneValue], ends: str) -> None:
    """Successors are followed to a live group; a dead end or a circle leads to the group created first."""
    registers = cluster_of(Plain(), "main", "paris", "berlin", "rome", machine="paris")
    for group, successor in successors.items():
        delete(registers, group, successor)
    assert group_of_mx(registers) == ends


@pytest.mark.parametrize("named", [None, '"nowhere"', "[]", '{"a":1}', "null"])
def test_a_machine_without_a_real_group_is_in_the_first_one(named: LaneValue) -> None:
    """A register that names no group, or none that ever was, does not leave a machine without one."""
    registers = cluster_of(Plain(), "main", "paris")
    registers.put(f"machine/{MX}/group", named)
    assert group_of_mx(registers) == "main"


def test_the_first_group_is_the_one_created_first_by_whoever_was_first() -> None:
    """Two sides that added one group count from the earlier of the two; equal times are told apart by the record."""
    registers = cluster_of(Plain(), machine="gone")
    registers.put("group/a/created", "true", 5, "b" * 64).put("group/b/created", "true", 7, "c" * 64)
    assert group_of_mx(registers) == "a"
    registers.put("group/b/created", "true", 5, "a" * 64)
    assert group_of_mx(registers) == "b"


def test_a_standalone_machine_is_in_no_group() -> None:
    """Before there is a cluster there are no groups, and its own level is the only one."""
    registers = Plain().put(f"machine/{MX}/key", '"00"')
    found = read(registers)
    assert (found.name, found.machines[MX].group, found.levels_for(MX)) == ("", "", [machine_level(MX)])


# --- rule 2: a cluster has at least one group ------------------------------------------------------


def test_a_deleted_group_is_gone_for_good() -> None:
    """Neither a rename nor another creation at the same time brings an id back."""
    registers = delete(cluster_of(Plain(), "main", "paris"), "paris", '"main"')
    registers.put("group/paris/name", '"New Paris"', 90).put("group/paris/created", "true", 91)
    assert list(read(registers).groups) == ["main"]


def test_if_every_group_was_deleted_the_last_one_lives_on() -> None:
    """Each side deleted what it took for the last but one: the one that went last stays, with its machines."""
    registers = cluster_of(Plain(), "main", "paris", machine="main")
    delete(registers, "main", '"paris"', 60)
    delete(registers, "paris", '"main"', 61)
    found = read(registers)
    assert list(found.groups) == ["paris"]
    assert found.machines[MX].group == "paris"
    assert found.levels_for(MX) == [machine_level(MX), group_level(GroupId("paris")), "cluster"]


def test_one_event_that_deleted_every_group_leaves_one() -> None:
    """Groups that went in the same event are told apart by their ids, the same everywhere."""
    registers = cluster_of(Plain(), "main", "paris")
    for group in ("main", "paris"):
        registers.put(f"group/{group}/deleted", '""', 60, "e" * 64)
    assert len(read(registers).groups) == 1


# --- rule 3: names and ids --------------------------------------------------------------------------


def test_one_name_gives_one_id_on_both_sides_of_a_cut() -> None:
    """The id comes from the name, without regard to case and spelling, so both sides' groups are one."""
    assert group_id("Paris", []) == group_id("PARIS", []) == "paris"
    assert group_id("Zürich", []) == group_id("ZÜRICH", []) == "z%C3%BCrich"
    assert group_id("Straße", []) == group_id("STRASSE", [])


def test_a_name_that_was_used_before_gives_a_new_id() -> None:
    """The id of a deleted group is never used again."""
    assert group_id("Paris", ["paris"]) == "paris~2"
    assert group_id("Paris", ["paris", "paris~2", "rome"]) == "paris~3"


def test_both_sides_additions_of_a_group_are_one_group() -> None:
    """Its name is the later side's spelling."""
    registers = cluster_of(Plain(), "main")
    registers.put("group/paris/created", "true", 5).put("group/paris/name", '"Paris"', 5)
    registers.put("group/paris/created", "true", 6).put("group/paris/name", '"PARIS"', 6)
    assert [group.name for group in read(registers).groups.values()] == ["Main", "PARIS"]


def test_two_groups_that_end_with_one_name_both_stay_and_need_their_ids() -> None:
    """A command that names them is refused with both ids, and an id always works."""
    registers = cluster_of(Plain(), "paris", "lyon")
    registers.put("group/lyon/name", '"PARIS"', 9)
    found = read(registers)
    with pytest.raises(Refused) as refused:
        found.group("Paris")
    assert refused.value.describe() == "there are 2 groups named 'Paris'\nuse the id instead: lyon, paris~1"
    assert found.group("lyon").name == "PARIS"


def test_two_machines_that_end_with_one_name_both_stay_and_need_their_ids() -> None:
    """The same for machines."""
    registers = cluster_of(Plain(), "main")
    registers.put(f"machine/{EDGE}/key", '"00"').put(f"machine/{EDGE}/hostname", '"MX"')
    found = read(registers)
    assert list(found.machines) == [MX, EDGE]
    with pytest.raises(Refused, match="there are 2 machines named 'mx'"):
        found.machine("mx")
    assert found.machine(EDGE).id == EDGE


# --- rule 4: what is left of a deleted group or a removed machine ------------------------------------


def test_a_removed_machine_is_no_member_and_keeps_its_name() -> None:
    """It is in no list of members, but people can still be told who it was, and its settings addressed by id."""
    registers = cluster_of(Plain(), "main").put(f"machine/{MX}/removed", json.dumps([EDGE]))
    registers.put(f"machine/{EDGE}/key", '"00"').put(f"setting/machine/{MX}/a", "1")
    found = read(registers)
    assert (list(found.machines), list(found.removed)) == ([EDGE], [MX])
    assert found.hostname(MX) == "mx"
    assert found.level(f"machine:{MX}") == machine_level(MX)
    assert effective_settings(registers, found.levels_for(EDGE)) == {}


def test_halves_that_removed_each_other_leave_the_last_one() -> None:
    """If nobody would be left, the machine that was removed last is a member."""
    registers = cluster_of(Plain(), "main").put(f"machine/{MX}/removed", json.dumps([EDGE]), 7)
    registers.put(f"machine/{EDGE}/key", '"00"').put(f"machine/{EDGE}/removed", json.dumps([MX]), 8)
    assert list(read(registers).machines) == [EDGE]


def test_the_settings_of_a_deleted_group_have_no_effect() -> None:
    """Its machines are elsewhere by rule 1, so nobody inherits them; they stay where they are."""
    registers = delete(cluster_of(Plain(), "main", "paris", machine="paris"), "paris", '"main"')
    registers.put("setting/group/paris/a", "1").put("setting/group/main/b", "2")
    levels = read(registers).levels_for(MX)
    assert {key: value.value for key, value in effective_settings(registers, levels).items()} == {"b": "2"}


# --- machines, levels, users ----------------------------------------------------------------------------


def test_a_machine_is_what_its_registers_say() -> None:
    """Each attribute is one register; an epoch of its own shows that it has joined."""
    registers = cluster_of(Plain(), "main", machine="main")
    assert not read(registers).machines[MX].joined
    registers.put(f"machine/{MX}/epoch:{'e' * 16}", '{"reason":"joined"}', 3 << HYBRID_LOGICAL_BITS)
    registers.put(f"machine/{MX}/epoch:{'f' * 16}", '{"reason":"restored"}', 5 << HYBRID_LOGICAL_BITS)
    registers.put(f"machine/{MX}/interfaces", '{"Data 1":"10.0.0.1"}').put(f"machine/{MX}/ssh_port", "2200")
    registers.put(f"machine/{MX}/detached", '{"by":"os:root","at":17}', 3, "d" * 64)
    assert read(registers).machines[MX] == Machine(
        id=MX,
        hostname="mx",
        group=GroupId("main"),
        interfaces={"Data 1": "10.0.0.1"},
        ssh_port=2200,
        joined=True,
        epoch_reason="restored",
        epoch_begun=5,
        detached="d" * 64,  # type: ignore[arg-type] # a record's id
        detached_by="os:root",
        detached_at=17,
    )


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("interfaces", "[]"), ("ssh_port", "70000"), ("ccs_port", '"22"'), ("version", "1e400"), ("detached", "true")],
)
def test_an_attribute_in_a_wrong_shape_hides_no_other(attribute: str, value: str) -> None:
    """A member that writes nonsense into one register of a machine leaves the rest of it readable."""
    registers = cluster_of(Plain(), "main", machine="main").put(f"machine/{MX}/serial", '"S1"')
    whole = read(registers).machines[MX]
    registers.put(f"machine/{MX}/{attribute}", value, 9)
    assert read(registers).machines[MX] == whole


def test_a_machine_without_a_key_is_none() -> None:
    """Only a key makes a member: other registers of its id mean nothing."""
    registers = cluster_of(Plain(), "main").put(f"machine/{EDGE}/hostname", '"ghost"')
    assert list(read(registers).machines) == [MX]


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("cluster", "cluster"),
        ("CLUSTER", "cluster"),
        ("group:paris", "group/paris"),
        ("Group:PARIS", "group/paris"),
        ("machine:mx", f"machine/{MX}"),
        ("MACHINE:MX", f"machine/{MX}"),
        (f"machine:{MX}", f"machine/{MX}"),
    ],
)
def test_a_level_is_told_by_name_in_any_case(text: str, level: str) -> None:
    """As operators write it."""
    assert read(cluster_of(Plain(), "paris")).level(text) == level


@pytest.mark.parametrize("text", ["", "cluster:x", "group", "group:", "machine:", "planet:mars", "paris"])
def test_what_is_no_level_is_refused_with_words(text: str) -> None:
    """The refusal says what a level looks like."""
    with pytest.raises(Refused) as refused:
        read(cluster_of(Plain(), "paris")).level(text)
    assert refused.value.describe() == f"'{text}' is no level\na level is cluster, group:NAME or machine:NAME"


def test_a_name_that_is_not_known_is_answered_with_those_that_are() -> None:
    """So a typing error needs no second command."""
    found = read(cluster_of(Plain(), "main", "paris"))
    with pytest.raises(NotFound) as unknown:
        found.group("pairs")
    assert unknown.value.describe() == "there is no group named 'pairs'\nknown: Main, Paris"
    with pytest.raises(NotFound) as lonely:
        read(Plain()).machine("mx")
    assert "there are no machines yet" in lonely.value.hint


def test_a_standalone_machine_has_no_cluster_level() -> None:
    """There is nobody to share it with."""
    with pytest.raises(Refused, match="not in a cluster"):
        read(Plain()).level("cluster")


HASH = Secret("ab" * 32)


def user(role: str, **fields: Any) -> str:
    """Return the text of a user's register."""
    return json.dumps({"name": "eve", "role": role, **fields})


@pytest.mark.parametrize(
    ("lanes", "role"),
    [
        ([user("guest")], "guest"),
        ([user("administrator"), user("operator")], "operator"),
        ([user("guest"), user("administrator")], "guest"),
        ([user("administrator", deleted=True), user("operator")], None),
        ([user("operator"), user("guest", deleted=True)], None),
        ([user("emperor")], None),
        ([user("emperor"), user("guest")], "guest"),
        (["17"], None),
        (["[]"], None),
        (["null"], None),
        ([json.dumps({"role": "guest"})], None),
        ([user("guest", keys="all")], None),
    ],
)
def test_of_a_users_lanes_the_safest_counts(lanes: Sequence[str], role: str | None) -> None:
    """Deleted before the lesser role before the latest; what is no user counts for nothing."""
    registers = Plain()
    for time, text in enumerate(lanes, 1):
        registers.put("user/u1", HASH, time, text=text)
    found = read(registers).users
    assert [one.role for one in found.values()] == ([role] if role else [])


def test_of_equal_roles_the_latest_change_counts() -> None:
    """Two new passwords at once: the later one is it."""
    registers = Plain().put("user/u1", HASH, 1, text=user("guest", password="old"))
    registers.put("user/u1", HASH, 2, text=user("guest", password="new"))
    assert read(registers).users["u1"].password == "new"


def test_admin_can_be_neither_deleted_nor_demoted() -> None:
    """Whatever was merged, somebody can log in and put it right."""
    registers = Plain().put("user/admin", HASH, 1, text=json.dumps({"name": "admin", "role": "guest", "deleted": True}))
    found = read(registers).users["admin"]
    assert (found.role, found.deleted) == ("administrator", False)


def test_a_user_whose_text_is_not_here_is_not_seen() -> None:
    """A hash alone says nothing; a value that was not kept secret is no user either."""
    assert read(Plain().put("user/u1", HASH).put("user/u2", user("administrator"))).users == {}


# --- whatever is written, it can be read -------------------------------------------------------------

PATHS = [
    *("cluster/name", "cluster/by", "cluster/other", "kind/relay", "user/admin", "user/u1", "announced/x"),
    *(f"group/{group}/{what}" for group in ("a", "b") for what in ("created", "name", "deleted", "other")),
    *(f"machine/{MX}/{what}" for what in (*Machine.__struct_fields__, "key", "address", "epoch:1", "other")),
    *(f"machine/{EDGE}/{what}" for what in ("key", "group", "hostname", "detached")),
    *("setting/cluster/relay", "element/cluster/relay/1", "setting/group/a/relay", "setting/machine/x/relay"),
]
json_texts = st.one_of(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["a", "b", MX]),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["by", "at", "x"]), inner),
        max_leaves=4,
    ).map(json.dumps),
    st.sampled_from(["9" * 400, "1e400", "-0", "[" * 64 + "]" * 64, ' "a" ', '"\\u0000"', "1.5"]),
)
values = st.one_of(json_texts, st.none(), st.just(HASH))
Writes = list[tuple[str, LaneValue, str | None]]
writes = st.lists(st.tuples(st.sampled_from(PATHS), values, st.none() | json_texts), max_size=12)


@settings(max_examples=300)
@given(writes)
def test_nothing_that_a_member_can_write_stops_a_reader(written: Writes) -> None:
    """Any JSON in any register: the model, the digests and everybody's settings can still be read."""
    registers = registers_of(written)
    found = read(registers)
    for machine in found.machines:
        effective_settings(registers, found.levels_for(machine))
    assert len(digest(found, registers)) == len(lanes_digest(registers)) == 64
    assert msgspec.json.decode(msgspec.json.encode(found), type=Cluster) == found


@given(writes, st.randoms(use_true_random=False))
def test_the_order_of_lanes_does_not_matter(written: Writes, dice: Random) -> None:
    """The model is a function of the set of lanes: lists are in an order of their own, not in that of arrival."""
    numbered = [(f"{number:064x}", *one) for number, one in enumerate(written)]
    shuffled = dice.sample(numbered, len(numbered))
    one, other = (
        read(registers_of([given[1:] for given in order], [given[0] for given in order]))
        for order in (numbered, shuffled)
    )
    assert repr(one) == repr(other)


def registers_of(written: Writes, ids: Sequence[str] = ()) -> Plain:
    """Return registers with these lanes, all of one time."""
    registers = Plain()
    for number, (path, value, text) in enumerate(written):
        registers.put(path, value, record=ids[number] if ids else "", text=text or "")
    return registers
