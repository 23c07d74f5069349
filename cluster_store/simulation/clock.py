"""Virtual time, and the coroutines that live in it.

Nothing here waits: the clock jumps to the next moment at which somebody has something to do. Coroutines are resumed
one at a time, ordered by moment and then by who asked first, so the same program always runs the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from heapq import heappop, heappush
from typing import Any

#: Work for the clock: it waits only for a ``Pause`` or a ``Signal``.
Work = Coroutine[Any, Any, None]


class Life:
    """What coroutines belong to, a process for one: they end with it, and stand still while it is asleep."""

    def __init__(self) -> None:
        self.tasks: dict[Task, None] = {}
        #: The moment until which nothing of this life goes on.
        self.asleep_until = 0

    def end(self) -> None:
        """End every coroutine where it is."""
        tasks, self.tasks = self.tasks, {}
        for task in tasks:
            task.over = True
            task.work.close()


class Task:
    """One coroutine and the life that it belongs to."""

    def __init__(self, work: Work, life: Life) -> None:
        self.work = work
        self.life = life
        self.over = False


class Pause:
    """Awaited: go on after so many milliseconds."""

    def __init__(self, duration_ms: int) -> None:
        self.duration_ms = duration_ms

    def __await__(self) -> Generator[Pause, None, None]:
        yield self


class Clock:
    """Milliseconds since the simulation began, and what happens when."""

    def __init__(self) -> None:
        self.now = 0
        #: How often a coroutine was resumed.
        self.steps = 0
        self._asked = 0
        self._agenda: list[tuple[int, int, Task]] = []
        self._lives: dict[Life, None] = {}

    def end(self) -> None:
        """End everything."""
        for life in list(self._lives):
            life.end()

    def spawn(self, work: Work, life: Life) -> None:
        """Let a coroutine begin at this moment."""
        task = Task(work, life)
        self._lives[life] = None
        life.tasks[task] = None
        self.resume(task, self.now)

    def resume(self, task: Task, at: int) -> None:
        """Let a coroutine go on at some moment."""
        self._asked += 1
        heappush(self._agenda, (at, self._asked, task))

    def step(self) -> bool:
        """Go on to what happens next; say whether anything did."""
        while self._agenda:
            at, _, task = heappop(self._agenda)
            if task.over:
                continue
            self.now = max(self.now, at)
            if task.life.asleep_until > self.now:
                self.resume(task, task.life.asleep_until)
                continue
            self.steps += 1
            self._run(task)
            return True
        return False

    def _run(self, task: Task) -> None:
        try:
            awaited = task.work.send(None)
        except StopIteration:
            task.over = True
            task.life.tasks.pop(task, None)
            return
        if isinstance(awaited, Signal):
            awaited.waiting.append(task)
        else:
            assert isinstance(awaited, Pause)
            self.resume(task, self.now + awaited.duration_ms)

    async def until(self, condition: Callable[[], bool], patience_ms: int, every_ms: int = 20) -> bool:
        """Wait for a condition, looking now and then; say whether it came to hold."""
        deadline = self.now + patience_ms
        while not condition():
            if self.now >= deadline:
                return False
            await Pause(every_ms)
        return True


class Signal:
    """Awaited: go on as soon as it is set, which happens once."""

    def __init__(self, clock: Clock) -> None:
        self.is_set = False
        self.waiting: list[Task] = []
        self._clock = clock

    def set(self) -> None:
        """Let everybody who waits go on."""
        self.is_set = True
        waiting, self.waiting = self.waiting, []
        for task in waiting:
            self._clock.resume(task, self._clock.now)

    def __await__(self) -> Generator[Signal, None, None]:
        if not self.is_set:
            yield self
