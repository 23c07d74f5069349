"""The bounded waits that the other tests rely on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.waiting import wait_until, wait_until_async


def later(*values: object) -> Callable[[], object]:
    """Return a condition that takes these values one after the other."""
    left: Iterator[object] = iter(values)
    return lambda: next(left)


def test_the_first_true_value_is_returned() -> None:
    """Waiting ends with the condition's own value."""
    assert wait_until(later(0, "", "ready", "too late")) == "ready"


def test_a_condition_that_never_holds_fails_with_its_name() -> None:
    """The failure says how long, for what, and what was seen last."""
    with pytest.raises(AssertionError, match=r"waited 0\.01 s for the daemon; its last value was 0"):
        wait_until(lambda: 0, 0.01, what="the daemon")


def test_a_condition_that_holds_is_looked_at_even_without_time() -> None:
    """A bound of zero still looks once."""
    assert wait_until(lambda: 7, 0) == 7


def test_what_the_condition_raises_ends_the_waiting() -> None:
    """A broken condition is not mistaken for one that does not hold yet."""
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 // 0)


def test_another_thread_can_end_the_pause() -> None:
    """Setting ``changed`` has the condition looked at again."""
    changed, done = threading.Event(), threading.Event()

    def finish() -> None:
        done.set()
        changed.set()

    thread = threading.Thread(target=finish)
    thread.start()
    assert wait_until(done.is_set, changed=changed)
    thread.join()


async def test_the_event_loop_runs_on_meanwhile() -> None:
    """What makes the condition true can be a task of the same loop."""
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(0.005, done.set)
    assert await wait_until_async(done.is_set)


async def test_a_condition_may_be_a_coroutine_function() -> None:
    """A coroutine's result is waited for and judged."""
    values = later(None, "linked")

    async def state() -> object:
        return values()

    assert await wait_until_async(state) == "linked"


async def test_the_async_wait_is_bounded_too() -> None:
    """A coroutine condition that never holds fails in time, and says for what it waited."""

    async def never() -> bool:
        return False

    start = time.monotonic()
    with pytest.raises(AssertionError, match="never"):
        await wait_until_async(never, 0.01)
    assert time.monotonic() - start < 5
