"""Branches drawn beside the log."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core.graph import Graph, nearest_shown
from cluster_store.core.types import RecordId


def drawing(*events: str) -> list[str]:
    """Return the lines of a picture of events, each given as its name and, after ``<``, its parents."""
    graph = Graph()
    lines = []
    for event in events:
        name, _, parents = event.partition("<")
        *joints, strand = graph.draw(RecordId(name), [RecordId(parent) for parent in parents.split()])
        lines += [*joints, f"{strand} {name}"]
    return lines


def test_events_that_follow_each_other_stand_in_one_column() -> None:
    """A history without a cut is a straight line, whoever wrote it."""
    assert drawing("a", "b<a", "c<b") == ["* a", "* b", "* c"]


def test_two_sides_of_a_cut_stand_side_by_side_and_meet() -> None:
    """Concurrent events branch off what both had seen, and whoever has seen both joins them."""
    assert drawing("a", "b<a", "c<a", "d<b", "e<c d") == [
        "* a",
        "* b",
        "|\\",
        "| * c",
        "* | d",
        "|/",
        "* e",
    ]


def test_three_sides_use_free_columns_again() -> None:
    """A column that has ended is used by the next branch; a distant one is reached across the others."""
    assert drawing("a", "b<a", "c<a", "d<a", "e<b d", "f<a", "g<c e f") == [
        "* a",
        "* b",
        "|\\",
        "| * c",
        "|_|\\",
        "| | * d",
        "|_|/",
        "* | e",
        "|_|\\",
        "| | * f",
        "|/  |",
        "|__/",
        "* g",
    ]


def test_a_parent_outside_the_picture_is_left_out() -> None:
    """Where a log begins in the middle, its first events stand alone."""
    assert drawing("b<a", "c<a", "d<b c") == ["* b", "| * c", "|/", "* d"]


def test_what_is_left_out_still_ties_the_shown_events() -> None:
    """A filtered log keeps who came after whom: parents are the nearest events that are shown."""
    history: list[tuple[str, Sequence[str]]] = [("a", ""), ("b", "a"), ("c", "a"), ("d", "bc"), ("e", "d")]
    events = [(RecordId(name), list(map(RecordId, parents))) for name, parents in history]
    assert list(nearest_shown(events, frozenset({RecordId("a"), RecordId("b"), RecordId("e")}))) == [
        ("a", []),
        ("b", ["a"]),
        ("e", ["b", "a"]),
    ]


@given(st.lists(st.lists(st.integers(1, 6), max_size=4), max_size=30))
def test_every_event_has_one_mark_in_a_column_of_its_own(steps: list[list[int]]) -> None:
    """Whatever the history, an event is one line with one mark; what stands beside it are strands that go on."""
    graph = Graph()
    for number, back in enumerate(steps):
        parents = [RecordId(str(number - distance)) for distance in back if distance <= number]
        *joints, strand = graph.draw(RecordId(str(number)), parents)
        assert strand.count("*") == 1
        assert set(strand) <= set("*| ")
        assert all(set(joint) <= set("|_/\\ ") and joint.count("/") + joint.count("\\") == 1 for joint in joints)
        assert len(joints) <= max(1, len(parents) - 1)
