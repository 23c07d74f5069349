"""Passwords and secrets: where they are kept, and where they never show."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.machines import PASSWORD, Fleet, converged

WRONG = "wr0ng-but-typed-all-the-same"
SECRET = "s3cret-of-the-relay"
NEW = "an0ther-passw0rd"


@contextmanager
def watching_processes(*texts: str) -> Iterator[list[str]]:
    """Look at the arguments and the environment of every process all the time, as ``ps`` does; note what shows."""
    seen: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                if int(process.name) != os.getpid():
                    seen.extend(text for text in texts if text.encode() in _shown(process))
            over.wait(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def _shown(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    except OSError:
        return b""


def test_no_password_ever_shows(machines: Fleet) -> None:
    """Neither the log, nor ps, nor an error, nor showconfig, nor any file holds what was typed, right or wrong."""
    told = []
    mx1, mx2 = machines.cluster("mx1", "mx2")
    # The arguments that are seen of a forked process are not its own: whoever types something here is real.
    mx1.real = machines.real = True
    with watching_processes(PASSWORD, WRONG, SECRET, NEW) as seen:
        mx3 = machines.machine("mx3").init()
        told.append(mx3.refused(*mx3.joining(mx1), typed=WRONG + "\n"))
        mx1.do("passwd", "--password-stdin", typed=NEW + "\n")
        told.append(mx3.refused(*mx3.joining(mx1), typed=PASSWORD + "\n"))
        mx3.do(*mx3.joining(mx1), typed=NEW + "\n")
        mx3.serve()
        secret = mx1.run(
            "set", "relay.password", "--secret", "--password-stdin", "-m", "why", typed=SECRET + "\n"
        ).expect(0)
        told += [secret.out, secret.err]
        converged(mx1, mx2, mx3)
        for words in (("log", "--json"), ("showconfig",), ("explain", "relay.password"), ("replay",), ("status",)):
            outcome = mx2.run(*words)
            told += [outcome.out, outcome.err]
        mx2.stop()
    assert not seen
    for text in told:
        assert not any(hidden in text for hidden in (PASSWORD, WRONG, SECRET, NEW)), text
    files = [path for path in machines.folder.rglob("*") if path.is_file()]
    assert {"cluster.db", "mx1.log"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        # A setting's secret is what a machine needs to do its work, so it is kept; a password is not.
        assert not any(hidden.encode() in content for hidden in (PASSWORD, WRONG, NEW)), path
    assert all(SECRET.encode() not in path.read_bytes() for path in files if not path.name.startswith("cluster.db"))


def test_guessing_is_slowed_down(machines: Fleet) -> None:
    """After two wrong passwords each further one has to wait longer; the right one still gets in."""
    mx1, mx2 = machines.cluster("mx1")[0], machines.machine("mx2").init()
    words = mx2.joining(mx1)
    took = []
    for _ in range(3):
        began = time.monotonic()
        assert "does not let admin in" in mx2.refused(*words, typed=WRONG + "\n")
        took.append(time.monotonic() - began)
    assert took[2] > min(took[:2]) + 0.9
    mx2.do(*words, typed=PASSWORD + "\n")


def test_the_store_is_its_owners_alone(machines: Fleet) -> None:
    """Nobody else may look into the folder, the database or the keys."""
    machine = machines.machine("mx1").init()
    machine.do("set", "a", "1", "-m", "why")
    for path in [machine.store, *machine.store.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
