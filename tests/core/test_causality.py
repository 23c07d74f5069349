"""Lines, vectors and covers against a naive twin that keeps the explicit set of every record's ancestors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core.causality import LEAF_HASH_DIGITS, Line, Removal, cover, is_removed, vector
from cluster_store.core.types import Epoch, MachineId, RecordId
from tests.core.histories import has_left

EPOCH = Epoch("e" * 16)


@dataclass
class Tree:
    """One feed: each record has a number in the order it was drawn, and the one before it, -1 for a root."""

    before: list[int] = field(default_factory=list)

    def ancestors(self, record: int) -> set[int]:
        """Return a record and all before it, the naive way."""
        found = set()
        while record >= 0:
            found.add(record)
            record = self.before[record]
        return found

    def seq(self, record: int) -> int:
        """Return a record's number in its feed."""
        return len(self.ancestors(record))

    @staticmethod
    def id(record: int) -> RecordId:
        """Return a record's id."""
        return RecordId(sha256(f"{record}".encode()).hexdigest())


@dataclass
class Stored:
    """A feed as one machine stores it: lines in the order in which the records came."""

    tree: Tree
    lines: dict[int, Line] = field(default_factory=dict)
    #: Record -> its line.
    place: dict[int, int] = field(default_factory=dict)

    def store(self, record: int) -> None:
        """Extend the line whose newest record is the one before, or branch off."""
        before = self.tree.before[record]
        parent = self.place.get(before)
        number, fork = len(self.lines) + 1, parent
        if parent is not None and self.lines[parent].head == self.tree.id(before):
            number, fork = parent, self.lines[parent].parent
        self.place[record] = number
        self.lines[number] = Line(
            number=number,
            machine=MachineId("m" * 32),
            epoch=EPOCH,
            parent=fork,
            forked_at=self.lines[number].forked_at if number in self.lines else (self.tree.seq(before) if fork else 0),
            seq=self.tree.seq(record),
            head=self.tree.id(record),
            hybrid=record,
            position=len(self.place),
            actor=b"",
        )


def grown(draws: Sequence[int]) -> Tree:
    """Return the feed of these draws: each follows the record before it, an older one, or rarely none at all."""
    before = []
    for index, draw in enumerate(draws):
        steps_back = 1 if draw < 6 else draw - 4
        before.append(-1 if draw == 9 else max(index - steps_back, -1 if index == 0 else 0))
    return Tree(before)


# Left to itself Hypothesis draws short lists, and short feeds have few branches.
trees = st.integers(1, 25).flatmap(lambda size: st.lists(st.integers(0, 9), min_size=size, max_size=size)).map(grown)


def in_some_order(tree: Tree, dice: Random) -> Stored:
    """Store a feed, each record after the one before it, in some order."""
    stored, waiting = Stored(tree), list(range(len(tree.before)))
    while waiting:
        ready = [record for record in waiting if tree.before[record] < 0 or tree.before[record] in stored.place]
        record = dice.choice(ready)
        waiting.remove(record)
        stored.store(record)
    return stored


@given(trees, st.randoms(use_true_random=False), st.randoms(use_true_random=False))
def test_equal_records_have_equal_vectors(tree: Tree, one: Random, other: Random) -> None:
    """Whatever order the records of a feed came in, the vector is that of the tree's leaves."""
    leaves = sorted(
        (tree.seq(record), tree.id(record)[:LEAF_HASH_DIGITS])
        for record in range(len(tree.before))
        if record not in tree.before
    )
    for stored in (in_some_order(tree, one), in_some_order(tree, other)):
        found = vector(stored.lines.values())
        assert [(leaf.seq, leaf.hash) for leaf in found] == leaves
        assert found == sorted(found)


@given(trees, st.randoms(use_true_random=False))
def test_one_record_less_is_another_vector(tree: Tree, dice: Random) -> None:
    """Two stores whose vectors are equal hold the same records: any leaf that one lacks shows."""
    whole = in_some_order(tree, dice)
    size = len(tree.before)
    for leaf in [record for record in range(size) if record not in tree.before]:
        part = Stored(tree)
        for record in range(size):
            if record != leaf:
                part.store(record)
        assert vector(part.lines.values()) != vector(whole.lines.values())


@given(trees, st.randoms(use_true_random=False), st.lists(st.integers(0, 24), max_size=5))
def test_covering_a_record_covers_its_ancestors_and_nothing_else(tree: Tree, dice: Random, known: list[int]) -> None:
    """Who has a record has every record before it, in its line and in those it branched off from."""
    stored = in_some_order(tree, dice)
    known = [record % len(tree.before) for record in known]
    covered: dict[int, int] = {}
    for record in known:
        cover(stored.lines, stored.place[record], tree.seq(record), covered)
    has = {record for record, line in stored.place.items() if tree.seq(record) <= covered.get(line, 0)}
    assert has == set[int]().union(*map(tree.ancestors, known))


# --- removals -----------------------------------------------------------------------------------------

NAMES = [MachineId(name) for name in "abcde"]
removals = st.frozensets(
    st.builds(
        Removal,
        st.sampled_from(NAMES),
        st.integers(1, 3),
        st.sampled_from([RecordId("1"), RecordId("2")]),
        st.lists(st.sampled_from(NAMES), max_size=3).map(tuple),
    ),
    max_size=6,
)


@given(removals)
def test_who_is_removed_as_the_naive_twin_says(told: frozenset[Removal]) -> None:
    """Whoever was removed is, except the last one of all where nobody would be left."""
    assert [is_removed(name, told) for name in NAMES] == [has_left(name, told) for name in NAMES]


@given(removals)
def test_somebody_always_stays(told: frozenset[Removal]) -> None:
    """Of all machines that any removal names, one at least is still a member."""
    named = {removal.machine for removal in told} | {member for removal in told for member in removal.left}
    assert not told or not all(is_removed(name, told) for name in named)


def removal(machine: str, hybrid: int, left: Sequence[str]) -> Removal:
    """Return a removal by a record of that time."""
    return Removal(MachineId(machine), hybrid, RecordId(f"r{hybrid}"), tuple(map(MachineId, left)))


def test_halves_that_removed_each_other_keep_the_one_that_went_last() -> None:
    """Two halves of a cut remove each other's machines: the last to be removed goes on alone."""
    told = frozenset(
        (removal("c", 1, "ab"), removal("d", 2, "ab"), removal("a", 3, "cd"), removal("b", 4, "cd")),
    )
    assert [is_removed(MachineId(name), told) for name in "abcd"] == [True, False, True, True]


def test_a_member_that_only_one_half_knew_is_left() -> None:
    """Whoever let a fifth machine in has a member more than the other half removed."""
    told = frozenset((removal("c", 1, "ab"), removal("a", 3, "ce"), removal("b", 4, "ce")))
    assert [is_removed(MachineId(name), told) for name in "abce"] == [True, True, True, False]
