"""Which paths are registers, where each is kept, and which lane is the value."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core.limits import PATH_BYTES_MAX
from cluster_store.core.registers import (
    CLUSTER,
    SHARDS,
    Lane,
    Secret,
    differing,
    document_of,
    element_path,
    element_prefix,
    group_level,
    kind_path,
    lane_key,
    machine_level,
    scope_of,
    setting_path,
    split_setting,
    valid_path,
    winner,
)
from cluster_store.core.types import GroupId, Level, MachineId, Path, RecordId

lanes = st.builds(
    Lane,
    st.integers(0, 3).map(lambda number: RecordId(f"{number}")),
    st.sampled_from(['"a"', '"b"', None]),
    st.integers(1, 3),
    st.booleans(),
)
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@given(st.lists(lanes, max_size=5, unique_by=lambda lane: lane.id))
def test_the_value_is_the_latest_lane_of_a_person(standing: list[Lane]) -> None:
    """The naive twin: any person before any timer, then the greatest hybrid time, then the greatest record id."""
    chosen = None
    for lane in standing:
        if (
            chosen is None
            or (chosen.weak and not lane.weak)
            or (chosen.weak == lane.weak and (lane.hybrid, lane.id) > (chosen.hybrid, chosen.id))
        ):
            chosen = lane
    assert {winner(order) for order in permutations(standing)} == {chosen}


def test_a_person_beats_a_timer_of_any_time() -> None:
    """A value that expires while somebody sets another one never comes back over it."""
    person, timer = Lane(RecordId("1"), '"a"', 1, weak=False), Lane(RecordId("2"), '"b"', 9, weak=True)
    assert winner([person, timer]) is person


def test_nothing_stands_where_nothing_was_written() -> None:
    """A register without lanes has no value."""
    assert winner(()) is None


def test_equal_values_are_no_conflict() -> None:
    """Two people who said the same agree; an unset value and a secret differ from everything else."""

    def lane(value: str | Secret | None) -> Lane:
        return Lane(RecordId("1"), value, 1, weak=False)

    assert not differing([])
    assert not differing([lane('"a"')])
    assert not differing([lane('"a"'), lane('"a"')])
    assert differing([lane('"a"'), lane('"b"')])
    assert differing([lane('"a"'), lane(None)])
    assert differing([lane("null"), lane(None)])
    assert differing([lane(Secret("a" * 64)), lane(Secret("b" * 64))])
    assert not differing([lane(Secret("a" * 64)), lane(Secret("a" * 64))])


# --- paths --------------------------------------------------------------------------------------------

LEVELS = [CLUSTER, group_level(GroupId("caf%C3%A9~2")), machine_level(MachineId("0" * 32))]


@pytest.mark.parametrize("level", LEVELS)
@given(key=texts, element=texts)
def test_every_key_at_every_level_has_its_register(level: Level, key: str, element: str) -> None:
    """Whatever a key or an element is made of, its path is a register and tells them again."""
    where, what = setting_path(level, key), element_path(level, key, element)
    assert valid_path(where)
    assert valid_path(what)
    assert split_setting(where) == (level, key, None)
    assert split_setting(what) == (level, key, element)
    assert scope_of(where) == scope_of(what) == level
    assert what.startswith(element_prefix(level, key))
    assert valid_path(kind_path(key))


@given(texts, texts)
def test_the_elements_of_one_key_are_not_those_of_another(one: str, other: str) -> None:
    """No key's prefix takes in the elements of a key that merely begins alike."""
    if one != other:
        assert not element_path(CLUSTER, one, "1").startswith(element_prefix(CLUSTER, other))


@pytest.mark.parametrize(
    "path",
    [
        "cluster/name",
        "group/main_group/created",
        "machine/00/epoch:1234",
        "user/u1",
        "kind/relay",
        "announced/key",
        "setting/cluster/smtp.banner",
        "setting/group/a/b",
        "setting/machine/a/b",
        "element/cluster/a/%22b%22",
        "element/group/g/a/1",
        "setting/cluster/" + "x" * (PATH_BYTES_MAX - 16),
        "setting/cluster/%C3%A9",
    ],
)
def test_a_register_is_a_path_of_a_known_shape(path: str) -> None:
    """These are registers of format 1 for ever."""
    assert valid_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "cluster",
        "cluster/",
        "cluster/a/b",
        "group/a",
        "group/a/b/c",
        "Setting/cluster/a",
        "setting/a",
        "setting/cluster",
        "setting/cluster/",
        "setting/cluster/a/b",
        "setting/group/a",
        "setting/group/a/b/c",
        "setting/user/a/b",
        "element/cluster/a",
        "element/cluster/a/b/c",
        "kind/a/b",
        "other/a",
        "cluster/name ",
        "cluster/name\n",
        "cluster/é",
        "cluster/a b",
        'cluster/"',
        "cluster/#",
        "cluster/%",
        "cluster/%4",
        "cluster/%41",
        "cluster/%c3%a9",
        "cluster/%FF",
        "cluster/%C3",
        "cluster/%ED%A0%80",
        "cluster/%2f",
        "setting/cluster/" + "x" * (PATH_BYTES_MAX - 15),
    ],
)
def test_anything_else_is_no_register(path: str) -> None:
    """A path that readers could not take apart again, or that two texts could mean, is none."""
    assert not valid_path(path)


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("cluster/name", "cluster"),
        ("group/paris/name", "cluster"),
        ("machine/m/group", "cluster"),
        ("user/u", "cluster"),
        ("kind/relay", "cluster"),
        ("setting/cluster/a", "cluster"),
        ("setting/group/paris/a", "group/paris"),
        ("setting/machine/cluster/a", "machine/cluster"),
        ("element/group/cluster/a/1", "group/cluster"),
    ],
)
def test_a_register_is_kept_where_it_belongs(path: str, scope: str) -> None:
    """Settings are kept with their level, everything else with the cluster."""
    assert scope_of(Path(path)) == scope
    assert document_of(Path(path)).rpartition("#")[0] == scope


def test_a_scopes_registers_are_spread_over_its_documents() -> None:
    """The spread is part of the format: these registers are in these documents for ever."""
    known = ["cluster/name", "setting/cluster/smtp.banner", "setting/group/paris/smtp.banner", "user/admin"]
    assert [document_of(Path(path)) for path in known] == ["cluster#9", "cluster#1", "group/paris#d", "cluster#f"]
    used = {document_of(setting_path(CLUSTER, f"key{number}")) for number in range(500)}
    assert len(used) == SHARDS


def test_a_lanes_key_is_its_path_and_its_record() -> None:
    """No two lanes share a key, and no path can end in another one's record."""
    assert lane_key(Path("cluster/name"), RecordId("ab")) == "cluster/name@ab"
