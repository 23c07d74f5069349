"""Branches drawn beside the log."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core.graph import draw, nearest_shown
from cluster_store.core.types import RecordId

#: Events, each after all that it came after, with its parents.
History = list[tuple[RecordId, Sequence[RecordId]]]


def history_of(*events: str) -> History:
    """Return a history of events, each given as its name and, after ``<``, its parents, a letter each."""
    parted = (event.partition("<") for event in events)
    return [(RecordId(name), [RecordId(parent) for parent in parents]) for name, _, parents in parted]


def drawing(*events: str) -> list[str]:
    """Return the lines of a picture of events."""
    return [line if event is None else f"{line} {event}" for line, event in draw(history_of(*events))]


def test_events_that_follow_each_other_stand_in_one_column() -> None:
    """A history without a cut is a straight line, whoever wrote it."""
    assert drawing("a", "b<a", "c<b") == ["* a", "* b", "* c"]


def test_two_sides_of_a_cut_fork_and_meet() -> None:
    """A strand forks off right below what both sides had seen, and joins above whoever has seen both."""
    assert drawing("a", "b<a", "c<a", "d<b", "e<cd") == [
        "* a",
        "|\\",
        "* | b",
        "| * c",
        "* | d",
        "|/",
        "* e",
    ]


def test_where_a_strand_forks_shows_what_was_seen() -> None:
    """Who had seen an event and who had not are two pictures, though the events stand in one order."""
    assert drawing("a", "b<a", "c<b", "d<a") == ["* a", "|\\", "* | b", "* | c", "  * d"]
    assert drawing("a", "b<a", "c<b", "d<b") == ["* a", "* b", "|\\", "* | c", "  * d"]


def test_three_sides_cross() -> None:
    """A strand that forks off or joins across others passes behind them, and free columns are used again."""
    assert drawing("a", "b<a", "c<a", "d<a", "e<bd", "f<e", "g<cf", "h<e", "i<gh") == [
        "* a",
        "|\\",
        "|_|\\",
        "* | | b",
        "| * | c",
        "| | * d",
        "|_|/",
        "* | e",
        "|_|\\",
        "* | | f",
        "|/  |",
        "*   | g",
        "|   * h",
        "|__/",
        "* i",
    ]


def test_events_that_follow_nothing_stand_apart() -> None:
    """Where a log begins in the middle, its first events are below each other in no column."""
    assert drawing("b", "c", "d<bc") == ["* b", "| * c", "|/", "* d"]
    assert drawing("a", "b", "c") == ["* a", "  * b", "* c"]


def test_what_is_left_out_still_ties_the_shown_events() -> None:
    """A filtered log keeps who came after whom: what an event follows is the nearest that is shown."""
    history = history_of("a", "b<a", "c<a", "d<bc", "e<d")
    assert list(nearest_shown(history, frozenset(map(RecordId, "abe")))) == history_of("a", "b<a", "e<b")
    assert list(nearest_shown(history, frozenset(map(RecordId, "bce")))) == history_of("b", "c", "e<bc")


def seen(lines: Sequence[tuple[str, RecordId | None]]) -> set[tuple[str, str]]:
    """Read a picture as a person does: return which event each strand leads from, and to."""
    edges: set[tuple[str, str]] = set()
    #: Column -> the events that its strand comes from.
    strands: dict[int, list[str]] = {}
    for line, event in lines:
        if event is not None:
            column = line.index("*") // 2
            edges |= {(start, event) for start in strands.get(column, [])}
            strands = {place // 2: strands.get(place // 2, []) for place, sign in enumerate(line) if sign == "|"}
            strands[column] = [event]
            continue
        (place,) = (place for place, sign in enumerate(line) if sign in "/\\")
        right, left = (place + 1) // 2, (place - 1) // 2
        while left and line[2 * left - 1] == "_":
            left -= 1
        if line[place] == "/":
            strands[left] = strands[left] + strands.pop(right)
        else:
            strands[right] = strands[left]
    return edges


@given(
    st.lists(st.lists(st.integers(1, 6), max_size=4), max_size=25),
    st.lists(st.booleans(), min_size=25, max_size=25),
)
def test_the_picture_shows_exactly_who_directly_follows_whom(steps: list[list[int]], showing: list[bool]) -> None:
    """Whatever the history and whatever is left out, the strands are the shown events' order and nothing else."""
    history: History = [
        (RecordId(str(number)), [RecordId(str(number - back)) for back in steps[number] if back <= number])
        for number in range(len(steps))
    ]
    shown = [event for (event, _), one in zip(history, showing, strict=False) if one]
    past: dict[str, set[str]] = {}
    for event, parents in history:
        past[event] = set(parents).union(*(past[parent] for parent in parents))
    covering = {
        (one, other)
        for other in shown
        for one in shown
        if one in past[other] and not any(one in past[between] and between in past[other] for between in shown)
    }
    lines = list(draw(list(nearest_shown(history, frozenset(shown)))))
    assert [event for _, event in lines if event is not None] == shown
    assert seen(lines) == covering
    assert all(set(line) <= set("*|_/\\ ") for line, _ in lines)
