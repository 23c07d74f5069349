"""Waiting for a condition with a bound, in place of sleeping for a time that is too short or too long.

Both forms look at the condition at once, then after pauses that grow from 1 to 50 ms, and return its first true value,
so that ``line = wait_until(lambda: first_line(log))`` needs no second look. Whoever changes what is waited for may set
``changed`` to have the condition looked at without waiting for the pause to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast, overload

T = TypeVar("T")

_PAUSE_S_FIRST = 0.001
_PAUSE_S_LONGEST = 0.05


def wait_until(
    condition: Callable[[], T],
    timeout: float = 10.0,
    *,
    what: str = "",
    changed: threading.Event | None = None,
) -> T:
    """Return the first true value of ``condition``.

    Args:
        condition: looked at again and again; what it raises ends the waiting.
        timeout: seconds, after which the test fails.
        what: what was waited for, for the failure's message.
        changed: set by others to end a pause early.

    Raises:
        AssertionError: the condition did not hold in time.
    """
    changed = changed or threading.Event()
    start, pause = time.monotonic(), _PAUSE_S_FIRST
    while not (value := condition()):
        left = start + timeout - time.monotonic()
        if left <= 0:
            raise AssertionError(_failure(what, condition, timeout, value))
        changed.wait(min(pause, left))
        changed.clear()
        pause = min(2 * pause, _PAUSE_S_LONGEST)
    return value


@overload
def wait_until_async(
    condition: Callable[[], Awaitable[T]], timeout: float = ..., *, what: str = ..., changed: asyncio.Event | None = ...
) -> Coroutine[Any, Any, T]: ...
@overload
def wait_until_async(
    condition: Callable[[], T], timeout: float = ..., *, what: str = ..., changed: asyncio.Event | None = ...
) -> Coroutine[Any, Any, T]: ...
async def wait_until_async(
    condition: Callable[[], Awaitable[T]] | Callable[[], T],
    timeout: float = 10.0,  # noqa: ASYNC109 - the bound is the function's purpose, and it names what was waited for
    *,
    what: str = "",
    changed: asyncio.Event | None = None,
) -> T:
    """Do what ``wait_until`` does while the event loop runs on; ``condition`` may be a coroutine function."""
    changed = changed or asyncio.Event()
    start, pause = time.monotonic(), _PAUSE_S_FIRST
    while not (value := await _value(condition)):
        left = start + timeout - time.monotonic()
        if left <= 0:
            raise AssertionError(_failure(what, condition, timeout, value))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), min(pause, left))
        changed.clear()
        pause = min(2 * pause, _PAUSE_S_LONGEST)
    return value


async def _value(condition: Callable[[], Awaitable[T]] | Callable[[], T]) -> T:
    value = condition()
    return cast("T", await value if inspect.isawaitable(value) else value)


def _failure(what: str, condition: Callable[[], object], timeout: float, value: object) -> str:
    name = what or getattr(condition, "__qualname__", repr(condition))
    return f"waited {timeout:g} s for {name}; its last value was {value!r}"
