"""A machine's store and the command line on it, in the test's own process."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from cluster_store_cli.main import main

from cluster_store import bootstrap
from cluster_store.core.digest import digest, lanes_digest


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    words: Sequence[str]
    status: int
    out: str
    err: str

    def expect(self, status: int) -> Outcome:
        """Insist on an exit status."""
        assert self.status == status, f"{' '.join(self.words)}: {self.status}, not {status}\n{self.out}\n{self.err}"
        return self


class Printed(io.TextIOWrapper):
    """A stream that keeps what is printed."""

    def text(self) -> str:
        """Return all of it."""
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


def run(*words: str, typed: bytes | str = b"", call: Callable[[], int] | None = None) -> Outcome:
    """Run the program on these words, with nobody at a terminal; or call something in its place."""
    data = typed if isinstance(typed, bytes) else typed.encode()
    out, err = (Printed(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    typing = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
    with mock.patch.multiple(sys, stdin=typing, stdout=out, stderr=err):
        status = call() if call is not None else main(words)
    return Outcome(words, status, *(stream.text() for stream in (out, err)))


@dataclass(frozen=True)
class Store:
    """A store's folder."""

    root: Path

    def run(self, *words: str, typed: bytes | str = b"") -> Outcome:
        """Run a command on it."""
        return run("--store", str(self.root), *words, typed=typed)

    def do(self, *words: str, typed: bytes | str = b"") -> str:
        """Run a command that must succeed; return what it printed."""
        return self.run(*words, typed=typed).expect(0).out

    def ask(self, *words: str, typed: bytes | str = b"") -> Any:
        """Run a command that must succeed, for its JSON."""
        return json.loads(self.do(*words, "--json", typed=typed))

    def refuse(self, *words: str, typed: bytes | str = b"") -> str:
        """Run a command that must be refused in one or two lines and change nothing; return them."""
        before = self.state()
        outcome = self.run(*words, typed=typed).expect(1)
        assert outcome.out == ""
        assert 1 <= len(outcome.err.splitlines()) <= 2, outcome.err
        assert "Traceback" not in outcome.err
        assert "bug" not in outcome.err
        assert self.state() == before
        return outcome.err

    def state(self) -> Any:
        """Return how much the store holds and what, as ``status`` tells it; the files of a folder without a store."""
        if not (self.root / "cluster.db").exists():
            return sorted(path.name for path in self.root.glob("*"))
        with bootstrap.read(self.root) as store, store.snapshot():
            return store.count, digest(store.cluster(), store), lanes_digest(store)

    def init(self, hostname: str = "mx1.example.com", *words: str, typed: str = "") -> Store:
        """Make it."""
        place = ("--interface", "Management=127.0.0.1", "--ssh-port", "0", "--ccs-port", "0")
        self.do("init", "--hostname", hostname, *place, *words, typed=typed)
        return self

    def get(self, key: str, *words: str) -> Any:
        """Return a key's value."""
        return self.ask("get", key, *words)["value"]
