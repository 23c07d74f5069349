"""Whether work that goes on for long stays as fast as it began: the pace of its first and of its last part."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from time import perf_counter

from cluster_store.node import Node


class Pace:
    """How far some work had come when."""

    def __init__(self) -> None:
        """Begin now."""
        self._samples = [(perf_counter(), 0)]

    def note(self, done: int) -> None:
        """Take note of how much is done now."""
        if done > self._samples[-1][1]:
            self._samples.append((perf_counter(), done))

    @property
    def seconds(self) -> float:
        """From the beginning to the last note."""
        return self._samples[-1][0] - self._samples[0][0]

    def first(self, count: int) -> float:
        """Return the seconds that so many took at the beginning."""
        begin = self._samples[0]
        return _seconds(begin, next(sample for sample in self._samples if sample[1] >= count), count)

    def last(self, count: int) -> float:
        """Return the seconds that so many took at the end."""
        end = self._samples[-1]
        return _seconds(next(one for one in reversed(self._samples) if one[1] <= end[1] - count), end, count)


def _seconds(one: tuple[float, int], other: tuple[float, int], count: int) -> float:
    """Return the seconds between two notes, for so many: the notes may lie further apart."""
    return (other[0] - one[0]) * count / (other[1] - one[1])


@contextlib.asynccontextmanager
async def of_node(node: Node) -> AsyncIterator[Pace]:
    """Follow how many records a node takes in until the end of the block."""
    begun, pace = node.replica.state.position, Pace()

    seen = begun

    def has_advanced() -> bool:
        return node.replica.state.position > seen

    async def follow() -> None:
        nonlocal seen
        while True:
            await node.wait_for(has_advanced)
            seen = node.replica.state.position
            pace.note(seen - begun)

    following = asyncio.create_task(follow())
    try:
        yield pace
        pace.note(node.replica.state.position - begun)
    finally:
        following.cancel()
