"""Daemons of stores, forked and not started anew: see ``forks.py``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.cli.stores import Store
from tests.end_to_end.forks import How, forks
from tests.waiting import wait_until

#: How long a daemon may take to begin or to end on a busy host, seconds.
_PATIENCE_S = 60.0


@contextmanager
def serving(store: Store, *words: str) -> Iterator[str]:
    """Run a store's daemon; give the one line that it prints, and see that it goes in peace."""
    line, told = store.root.with_suffix(".out"), store.root.with_suffix(".err")
    with line.open("wb") as out, told.open("wb") as err:
        daemon = forks().start(["--store", str(store.root), "serve", *words], How(), out, err)

    def ready() -> str:
        assert daemon.poll() is None, told.read_text(encoding="utf-8")
        text = line.read_text(encoding="utf-8")
        return text if text.endswith("\n") else ""

    try:
        printed = wait_until(ready, _PATIENCE_S, what="the daemon's line")
        yield printed
        daemon.terminate()
        assert daemon.wait(_PATIENCE_S) == 0, told.read_text(encoding="utf-8")
        assert line.read_text(encoding="utf-8") == printed
    finally:
        daemon.kill()
