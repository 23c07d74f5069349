"""Digests: equal exactly where two machines read the same, or where the same lanes stand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core import commands
from cluster_store.core.digest import digest, lanes_digest
from cluster_store.core.registers import CLUSTER, Secret, element_path, group_level, kind_path, setting_path
from cluster_store.core.rules import read
from cluster_store.core.settings import KNOCKED_OUT, PRESENT, SET_KIND, is_set, own_elements, own_value
from cluster_store.core.types import GroupId
from tests.core.desk import SALT, Desk, card
from tests.core.plain import Plain

LEVELS = (CLUSTER, group_level(GroupId("paris")))
KEYS = ("banner", "relay")
PATHS = [
    *(setting_path(level, key) for level in LEVELS for key in KEYS),
    *(element_path(level, key, element) for level in LEVELS for key in KEYS for element in ("1", '"a"')),
    *map(kind_path, KEYS),
]
VALUES = ("1", '"x"', None, Secret("a" * 64), PRESENT, KNOCKED_OUT, SET_KIND)


def digest_of(registers: Plain) -> str:
    """Return the digest as ``status`` does."""
    return digest(read(registers), registers)


def readable(registers: Plain) -> dict[Any, Any]:
    """Return what each level says of each key, read one by one."""
    view: dict[Any, Any] = {}
    for level in LEVELS:
        for key in KEYS:
            if is_set(registers, key):
                view[level, key] = {name: said for name, (said, _) in own_elements(registers, level, key).items()}
            else:
                lane = own_value(registers, level, key)
                view[level, key] = {} if lane is None else lane.value
    return view


@st.composite
def registers(draw: st.DrawFn) -> Plain:
    """A few registers with one or two lanes each."""
    plain = Plain()
    for path, value, hybrid in draw(
        st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(VALUES), st.integers(1, 2)), max_size=5)
    ):
        plain.put(path, value, hybrid)
    return plain


@given(one=registers(), two=registers())
def test_digests_are_equal_exactly_where_the_same_is_read(one: Plain, two: Plain) -> None:
    """Whatever lanes stand behind it; equal lanes have both digests equal."""
    assert (digest_of(one) == digest_of(two)) == (readable(one) == readable(two))
    assert (lanes_digest(one) == lanes_digest(two)) == (one.lanes == two.lanes or plainly(one) == plainly(two))


def plainly(registers: Plain) -> list[Any]:
    """Return path, record and value of every lane: all that the lanes' digest is about."""
    return sorted(
        (path, lane.id, repr(lane.value)) for path, lanes in registers.lanes.items() for lane in lanes.values()
    )


CHANGES = [
    commands.ChangeMachine(hostname="mx9"),
    commands.ChangeMachine(interfaces={"Data": "192.0.2.1"}),
    commands.AddGroup(name="lyon"),
    commands.AdmitMachine(card=card("mx2"), group="paris"),
    commands.MoveMachines(machines=("mx1",), group="paris"),
    commands.DetachMachines(machines=("mx1",)),
    commands.SetSetting(key="smtp.banner", value='"other"', salt=SALT),
    commands.SetSetting(key="smtp.banner", value='"Welcome"', level="group:paris", salt=SALT),
    commands.SetSetting(key="db.password", value='"other"', salt=SALT),
    commands.UnsetSetting(key="smtp.banner"),
    commands.AddElements(key="relay.hosts", elements=('"b"',)),
    commands.RemoveElements(key="relay.hosts", elements=('"a"',), level="group:paris"),
    commands.ChangePassword(user="admin", password="$argon2id$hash", salt=SALT),
]


@pytest.fixture
def desk() -> Desk:
    """A machine in a cluster, with a little of everything."""
    desk = Desk("mx1")
    desk.do(commands.InitialiseMachine(card=card("mx1"), salt=SALT))
    desk.do(commands.CreateCluster(name="americas", salt=SALT))
    desk.do(commands.AddGroup(name="paris"))
    desk.set("smtp.banner", '"Welcome"')
    desk.set("db.password", '"s3cret"', secret=True)
    desk.do(commands.AddElements(key="relay.hosts", elements=('"a"',)))
    return desk


@pytest.mark.parametrize("command", CHANGES, ids=lambda command: type(command).__name__)
def test_whatever_can_be_read_is_in_the_digest(desk: Desk, command: commands.Command) -> None:
    """A change of anything that an operator can see changes it."""
    before = digest_of(desk.registers), lanes_digest(desk.registers)
    desk.do(command)
    after = digest_of(desk.registers), lanes_digest(desk.registers)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_what_nobody_reads_is_not(desk: Desk) -> None:
    """A lane that loses, and one that says unset where nothing was set, show in the lanes' digest only."""
    before = digest_of(desk.registers), lanes_digest(desk.registers)
    desk.registers.put(setting_path(CLUSTER, "smtp.banner"), '"lost"', 0, "f" * 64)
    desk.registers.put(setting_path(CLUSTER, "never.set"), None, 1, "e" * 64)
    assert digest_of(desk.registers) == before[0]
    assert lanes_digest(desk.registers) != before[1]


def test_a_secret_is_no_value_of_the_same_text() -> None:
    """Whoever writes a secret's hash as a plain value has written something else."""
    path = setting_path(CLUSTER, "key")
    secret, plain = (Plain().put(path, value, 1, "a" * 64) for value in (Secret("b" * 64), f'"{"b" * 64}"'))
    listed = Plain().put(path, f'["{"b" * 64}"]', 1, "a" * 64)
    assert len({digest_of(found) for found in (secret, plain, listed)}) == 3
    assert len({lanes_digest(found) for found in (secret, plain, listed)}) == 3
