"""What a machine inherits, against a naive twin that works on plain dictionaries."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core.registers import CLUSTER, LaneValue, Registers, Secret, element_path, group_level, machine_level
from cluster_store.core.settings import (
    KNOCKED_OUT,
    PRESENT,
    SET_KIND,
    effective,
    effective_settings,
    keys_under,
    own_elements,
    own_value,
    settings_at,
)
from cluster_store.core.types import GroupId, Level, MachineId
from tests.core.plain import Plain

MACHINE, GROUP = machine_level(MachineId("m1")), group_level(GroupId("g1"))
LEVELS: Sequence[Level] = (MACHINE, GROUP, CLUSTER)
KEYS = ("banner", "relay")


class Twin(msgspec.Struct):
    """Naive twin: what was written, as (level, key) -> [(value, time)] and (level, key, element) -> the same."""

    plain: dict[tuple[Level, str], list[tuple[LaneValue, int]]] = {}
    elements: dict[tuple[Level, str, str], list[tuple[LaneValue, int]]] = {}
    sets: tuple[str, ...] = ()

    def value(self, key: str) -> tuple[LaneValue, Level] | None:
        """Return a key's effective value and the level that it comes from."""
        if key in self.sets:
            return self._set(key)
        for level in LEVELS:
            lanes = sorted(self.plain.get((level, key), []), key=lambda lane: lane[1])
            if lanes and lanes[-1][0] is not None:
                return lanes[-1][0], level
        return None

    def _set(self, key: str) -> tuple[LaneValue, Level] | None:
        present: set[str] = set()
        said_by: Level | None = None
        for level in reversed(LEVELS):
            for (where, what, element), lanes in self.elements.items():
                if (where, what) != (level, key):
                    continue
                said = [value for value, _ in sorted(lanes, key=lambda lane: lane[1])]
                if PRESENT in said:
                    present.add(element)
                    said_by = level
                elif said[-1] is not None:
                    present.discard(element)
                    said_by = level
        return (f"[{','.join(sorted(present))}]", said_by) if said_by is not None else None


lanes = st.lists(st.sampled_from(['"a"', "1", None]), min_size=1, max_size=3)
element_lanes = st.lists(st.sampled_from([PRESENT, KNOCKED_OUT, None]), min_size=1, max_size=3)


@given(
    st.dictionaries(st.tuples(st.sampled_from(LEVELS), st.sampled_from(KEYS)), lanes),
    st.dictionaries(
        st.tuples(st.sampled_from(LEVELS), st.sampled_from(KEYS), st.sampled_from(['"x"', "1", "[2]"])), element_lanes
    ),
    st.sets(st.sampled_from(KEYS)),
)
def test_a_machine_inherits_what_the_naive_twin_says(
    plain: dict[tuple[Level, str], list[LaneValue]],
    elements: dict[tuple[Level, str, str], list[LaneValue]],
    sets: set[str],
) -> None:
    """Plain keys: the most specific level. Sets: the union without what more specific levels knock out."""
    registers, times = Plain(), iter(range(1, 1000))
    twin = Twin({}, {}, tuple(sets))
    for (level, key), values in plain.items():
        twin.plain[level, key] = [(value, next(times)) for value in values]
        for value, time in twin.plain[level, key]:
            registers.put(f"setting/{level}/{key}", value, time)
    for (level, key, element), values in elements.items():
        twin.elements[level, key, element] = [(value, next(times)) for value in values]
        for value, time in twin.elements[level, key, element]:
            registers.put(element_path(level, key, element), value, time)
    for key in sets:
        registers.put(f"kind/{key}", SET_KIND)
    for key in KEYS:
        found = effective(registers, LEVELS, key)
        assert (found and (found.value, found.level)) == twin.value(key)
    known = effective_settings(registers, LEVELS)
    assert {key: (value.value, value.level) for key, value in known.items()} == {
        key: twin.value(key) for key in KEYS if twin.value(key) is not None
    }
    assert list(known) == sorted(known)


def get(registers: Registers, key: str = "relay", levels: Sequence[Level] = LEVELS) -> LaneValue:
    """Return a key's effective value."""
    found = effective(registers, levels, key)
    return found.value if found is not None else None


def test_the_most_specific_level_wins_key_by_key() -> None:
    """A machine's own value before its group's before the cluster's; each key for itself."""
    registers = Plain().put("setting/cluster/a", "1").put("setting/group/g1/a", "2").put("setting/cluster/b", "3")
    assert (get(registers, "a"), get(registers, "b")) == ("2", "3")
    registers.put("setting/machine/m1/b", "4")
    assert (get(registers, "a"), get(registers, "b")) == ("2", "4")
    assert get(registers, "b", [CLUSTER]) == "3"
    assert get(registers, "c") is None


def test_an_unset_value_lets_the_level_above_through() -> None:
    """Unsetting is a write: it takes a level's own value away, not the inherited one."""
    registers = (
        Plain().put("setting/cluster/a", "1").put("setting/group/g1/a", "2", 1).put("setting/group/g1/a", None, 2)
    )
    assert get(registers, "a") == "1"
    assert own_value(registers, GROUP, "a") is None


def test_null_is_a_value() -> None:
    """JSON's null is set on purpose; it hides what is above."""
    registers = Plain().put("setting/cluster/a", "1").put("setting/machine/m1/a", "null")
    assert get(registers, "a") == "null"


def test_a_secret_shows_as_its_hash() -> None:
    """What is effective is the hash; the text is in the lane for whoever may see it."""
    registers = Plain().put("setting/cluster/a", Secret("ab" * 32), text='"hush"')
    found = effective(registers, LEVELS, "a")
    assert found is not None
    assert (found.value, found.lane.text) == (Secret("ab" * 32), '"hush"')


SET = "element/cluster/relay/1"


@pytest.mark.parametrize(
    ("values", "present"),
    [
        ([PRESENT], True),
        ([KNOCKED_OUT], False),
        ([PRESENT, KNOCKED_OUT], True),
        ([KNOCKED_OUT, PRESENT], True),
        ([KNOCKED_OUT, None], None),
        ([None, KNOCKED_OUT], False),
        ([None], None),
        (["5"], False),
    ],
)
def test_of_concurrent_lanes_the_one_that_adds_wins(values: list[LaneValue], *, present: bool | None) -> None:
    """No addition is ever lost to somebody who removed at the same time, whoever was later."""
    registers = Plain().put("kind/relay", SET_KIND)
    for time, value in enumerate(values, 1):
        registers.put(SET, value, time)
    found = own_elements(registers, CLUSTER, "relay")
    assert {element: said for element, (said, _) in found.items()} == ({} if present is None else {"1": present})


def test_the_levels_of_a_set_add_up() -> None:
    """A group adds to what its cluster has, and knocks out what it does not want."""
    registers = Plain().put("kind/relay", SET_KIND).put(SET, PRESENT).put("element/cluster/relay/2", PRESENT)
    registers.put("element/group/g1/relay/2", KNOCKED_OUT).put("element/group/g1/relay/3", PRESENT)
    assert get(registers) == "[1,3]"
    assert get(registers, levels=[CLUSTER]) == "[1,2]"
    registers.put("element/machine/m1/relay/2", PRESENT)
    assert get(registers) == "[1,2,3]"


def test_a_set_whose_last_element_was_knocked_out_is_empty_not_unset() -> None:
    """Somebody said that there is nothing; that is a value."""
    registers = Plain().put("kind/relay", SET_KIND).put("element/group/g1/relay/1", KNOCKED_OUT)
    assert get(registers) == "[]"
    assert settings_at(registers, GROUP) == {}


def test_a_key_that_became_a_set_hides_its_plain_value() -> None:
    """Where one side set a value and the other made a set of the key, it is a set on both."""
    registers = Plain().put("setting/cluster/relay", '"plain"').put("kind/relay", SET_KIND).put(SET, PRESENT)
    assert get(registers) == "[1]"


def test_what_is_kept_at_one_level_is_its_own_alone() -> None:
    """Neither inherited values nor other levels' keys show, and the prefix is one of keys."""
    registers = (
        Plain().put("setting/cluster/a.b", "1").put("setting/group/g1/a.c", "2").put("setting/group/g10/a.d", "3")
    )
    assert {key: value.value for key, value in settings_at(registers, GROUP).items()} == {"a.c": "2"}
    assert keys_under(registers, LEVELS, "a.") == ["a.b", "a.c"]
    assert keys_under(registers, LEVELS, "a.c") == ["a.c"]
    assert keys_under(registers, [MACHINE]) == []
