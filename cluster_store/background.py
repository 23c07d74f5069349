"""Work that nobody waits for until all is stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger("cluster_store")


class Background:
    """Tasks of one kind that go on by themselves."""

    def __init__(self, kind: str) -> None:
        """Begin with none; ``kind`` says what failed where one does."""
        self._kind = kind
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin a piece of work."""
        self.keep(asyncio.create_task(work))

    def keep(self, task: asyncio.Task[None]) -> None:
        """Keep a task that was begun elsewhere until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def stop(self) -> list[asyncio.Task[None]]:
        """Cancel all of them; return those that may take a while to end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        return tasks

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A fault of this program, which must not pass unseen.
            logger.critical("%s failed", self._kind, exc_info=error)
