"""What shows how far a long command is, to somebody who is there to see it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(task: str, *, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Give what is called with what is being done, how much of it is done, and how much there is.

    ``quiet``: show nothing, because the command tells its steps itself.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        number = bar.add_task(task, total=None)
        yield lambda what, done, total: bar.update(number, description=what, completed=done, total=total or None)


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """Give what is called with a sentence now and then."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield status.update
