"""The branches of a history as text beside it, the oldest event above: who had seen what when they wrote.

Each column is a strand of events that follow each other, whichever machines wrote them. Where two strands run side by
side, their events were concurrent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cluster_store.core.types import RecordId


class Graph:
    """Draws events one by one, each after all that it came after."""

    def __init__(self) -> None:
        #: The newest event of each column; None where a column is free.
        self._tips: list[RecordId | None] = []
        #: The column in which each event was drawn.
        self._columns: dict[RecordId, int] = {}

    def draw(self, event: RecordId, parents: Sequence[RecordId]) -> list[str]:
        """Return the lines of an event; the last one has its mark, ``*``, those above it the joints.

        Args:
            event: drawn once.
            parents: the events that it directly follows. Those that were not drawn are left out of the picture.
        """
        drawn = [parent for parent in parents if parent in self._columns]
        strands = sorted({self._columns[parent] for parent in drawn if parent in self._tips})
        if strands:
            column, *ending = strands
            joints = []
            for other in ending:
                joints.append(self._joint(column, other, "/"))
                self._tips[other] = None
        else:
            begun = min((self._columns[parent] for parent in drawn), default=-1)
            column = self._free(begun)
            joints = [self._joint(begun, column, "\\")] if drawn else []
        self._tips[column] = event
        self._columns[event] = column
        while self._tips[-1] is None:
            self._tips.pop()
        return [*joints, self._row({column: "*"})]

    def _free(self, beyond: int) -> int:
        """Return a free column to the right of another one."""
        for column in range(beyond + 1, len(self._tips)):
            if self._tips[column] is None:
                return column
        self._tips.append(None)
        return len(self._tips) - 1

    def _row(self, marks: dict[int, str]) -> str:
        signs = (marks.get(column, " " if tip is None else "|") for column, tip in enumerate(self._tips))
        return " ".join(signs).rstrip()

    def _joint(self, left: int, right: int, sign: str) -> str:
        """Return the line that ties a column to one on its right."""
        row = list(self._row({right: " "}).ljust(2 * right + 1))
        for place in range(2 * left + 1, 2 * right - 1):
            row[place] = "_" if row[place] == " " else row[place]
        row[2 * right - 1] = sign
        return "".join(row).rstrip()


def nearest_shown(
    events: Iterable[tuple[RecordId, Sequence[RecordId]]], shown: frozenset[RecordId]
) -> Iterator[tuple[RecordId, list[RecordId]]]:
    """Yield the shown events with parents that are shown too: their nearest ancestors among these.

    Args:
        events: every event with its parents, the oldest first.
        shown: those that will be drawn.
    """
    nearest: dict[RecordId, tuple[RecordId, ...]] = {}
    for event, parents in events:
        found = tuple(dict.fromkeys(one for parent in parents for one in nearest.get(parent, ())))
        if event in shown:
            yield event, list(found)
            found = (event,)
        nearest[event] = found
