"""Many seeds at once: several processes, verdicts in the order of the seeds, and a bar for whoever waits.

Keys of the keyboard go to every process of a terminal, so those that run seeds leave an interrupt to the one that
hands them out.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from cluster_store.core.errors import ClusterStoreError
from cluster_store.simulation.options import Options
from cluster_store.simulation.rehearsal import Rehearsal
from cluster_store.simulation.run import Verdict, simulate
from cluster_store.simulation.shrink import RUNS_MAX
from cluster_store.simulation.transcript import History

#: Seeds that are handed out before the first of them has been told of, for each process.
_AHEAD = 4

Chosen = Iterable[tuple[int, Options]]


class LostProcessError(ClusterStoreError):
    """A process that ran a seed is gone."""


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def verdicts(chosen: Chosen, jobs: int, beginning: Rehearsal | None) -> Iterator[Verdict]:
    """Yield the verdicts on seeds, in their order.

    Args:
        chosen: seeds and their options.
        jobs: how many are run at once.
        beginning: what fleets begin with.

    Raises:
        LostProcessError: somebody ended a process.
    """
    if jobs == 1:
        for seed, options in chosen:
            yield _simulated(seed, options, beginning)
        return
    with _pool(jobs, beginning.history if beginning is not None else None) as pool:
        waiting: deque[Future[Verdict]] = deque()
        try:
            for seed, options in chosen:
                waiting.append(pool.submit(_run, seed, options))
                if len(waiting) >= _AHEAD * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            hint = "memory may be short: run fewer at once, with --jobs"
            raise LostProcessError("a process that ran a seed was ended by somebody else", hint) from error


def _simulated(seed: int, options: Options, beginning: Rehearsal | None) -> Verdict:
    runs_max = beginning.runs_max if beginning is not None else RUNS_MAX
    return simulate(seed, options, beginning, runs_max=runs_max)


# --- processes -----------------------------------------------------------------------------------------


@contextmanager
def _pool(jobs: int, history: History | None) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool that is up; however the block ends, so do its processes, at once."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, _prepare, (history,))
    # What is ignored while a process starts stays so in it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for _ in range(jobs):
            pool.submit(cores)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        yield pool
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


#: In a process of the pool only: what its fleets begin with.
_beginning: Rehearsal | None = None


def _prepare(history: History | None) -> None:
    global _beginning  # noqa: PLW0603 - a pool has no other way to give its processes something to keep
    _beginning = Rehearsal(history) if history is not None else None
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _run(seed: int, options: Options) -> Verdict:
    return _simulated(seed, options, _beginning)


# --- whoever waits -------------------------------------------------------------------------------------


@contextmanager
def progress(total: int) -> Iterator[Callable[[Verdict], None]]:
    """Show at a terminal how many seeds are done, and how fast; yield what is to be told of each."""
    if total == 1 or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns: tuple[Any, ...] = (
        TextColumn("{task.completed:.0f} of {task.total:.0f} seeds"),
        BarColumn(None),
        TextColumn("{task.fields[failed]} failed, {task.fields[rate]:.0f} a minute"),
        TimeRemainingColumn(),
    )
    # What is printed meanwhile goes above the bar, if it goes to the terminal at all.
    together = sys.stdout.isatty()
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=together)
    began, failed = time.monotonic(), 0
    with bar:
        task = bar.add_task("", total=total, failed=0, rate=0.0)

        def told(verdict: Verdict) -> None:
            nonlocal failed
            failed += not verdict.passed
            done = bar.tasks[0].completed + 1
            bar.update(task, advance=1, failed=failed, rate=60 * done / (time.monotonic() - began))

        yield told
