"""The branches of a history as text beside it, the oldest event above: who had seen what when they wrote.

A strand leads from an event to one that directly follows it. Where two events directly follow one, a strand forks
off right below it; an event that directly follows two joins theirs right above it. So events are concurrent exactly
where no way down the strands leads from one to the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cluster_store.core.types import RecordId


def draw(history: Sequence[tuple[RecordId, Sequence[RecordId]]]) -> Iterator[tuple[str, RecordId | None]]:
    """Yield a picture's lines, each with the event whose mark, ``*``, is in it; None where it has only joints.

    Args:
        history: each event, after all that it came after, with those of them that it directly follows.
    """
    children: dict[RecordId, list[RecordId]] = {event: [] for event, _ in history}
    for event, parents in history:
        for parent in parents:
            children[parent].append(event)
    strands = _Strands()
    ended = -1
    for event, _ in history:
        # Right below an event that nothing follows, another one would look as if it did.
        column, *ending = strands.leading_to(event) or [strands.free(-1, ended)]
        for other in ending:
            yield strands.joint(column, other, "/"), None
            strands.ends[other] = None
        yield strands.row({column: "*"}), event
        following = children[event]
        strands.ends[column] = following[0] if following else None
        ended = -1 if following else column
        for child in following[1:]:
            beginning = strands.free(column)
            yield strands.joint(column, beginning, "\\"), None
            strands.ends[beginning] = child


class _Strands:
    """The strands beside one line of the picture."""

    def __init__(self) -> None:
        #: The event that the strand in each column leads to; None where a column is free.
        self.ends: list[RecordId | None] = []

    def leading_to(self, event: RecordId) -> list[int]:
        """Return the columns of the strands that end at an event, from the left."""
        return [column for column, end in enumerate(self.ends) if end == event]

    def free(self, beyond: int, but: int = -1) -> int:
        """Return a free column to the right of another one, and not a certain one."""
        columns = range(beyond + 1, len(self.ends) + 2)
        free = next(column for column in columns if column != but and not any(self.ends[column : column + 1]))
        self.ends += [None] * (free + 1 - len(self.ends))
        return free

    def row(self, marks: Mapping[int, str]) -> str:
        """Return a line with all strands, and some marks in their place."""
        signs = (marks.get(column, " " if end is None else "|") for column, end in enumerate(self.ends))
        return " ".join(signs).rstrip()

    def joint(self, left: int, right: int, sign: str) -> str:
        """Return the line that ties a strand to one on its right, which begins below it or ends above it."""
        row = list(self.row({right: " "}).ljust(2 * right + 1))
        for place in range(2 * left + 1, 2 * right - 1):
            row[place] = "_" if row[place] == " " else row[place]
        row[2 * right - 1] = sign
        return "".join(row).rstrip()


def nearest_shown(
    events: Iterable[tuple[RecordId, Sequence[RecordId]]], shown: frozenset[RecordId]
) -> Iterator[tuple[RecordId, list[RecordId]]]:
    """Yield the shown events with those that they directly follow among these: with no other shown one between.

    Args:
        events: every event with its parents, the oldest first.
        shown: those that will be drawn.
    """
    nearest: dict[RecordId, tuple[RecordId, ...]] = {}
    drawn = _Drawn()
    for event, parents in events:
        found = drawn.newest(dict.fromkeys(one for parent in parents for one in nearest.get(parent, ())))
        if event in shown:
            yield event, list(found)
            drawn.add(event, found)
            found = (event,)
        nearest[event] = found


class _Drawn:
    """Who follows whom among the shown events."""

    def __init__(self) -> None:
        self._parents: dict[RecordId, tuple[RecordId, ...]] = {}
        #: How many were there before each.
        self._places: dict[RecordId, int] = {}

    def add(self, event: RecordId, parents: tuple[RecordId, ...]) -> None:
        """Take in the next event."""
        self._places[event] = len(self._places)
        self._parents[event] = parents

    def newest(self, events: Iterable[RecordId]) -> tuple[RecordId, ...]:
        """Return those of some events that came before none of the others."""
        found = tuple(events)
        if len(found) < 2:  # noqa: PLR2004 - there are no others
            return found
        # Nothing that stands before the first of them can lead to any.
        first = min(self._places[event] for event in found)
        passed: set[RecordId] = set()
        ahead = [parent for event in found for parent in self._parents[event]]
        while ahead:
            event = ahead.pop()
            if event not in passed and self._places[event] >= first:
                passed.add(event)
                ahead += self._parents[event]
        return tuple(event for event in found if event not in passed)
