"""``watch``: a process that hears of every effective change."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.cli.stores import Store


class Watcher:
    """A running ``watch``, whose lines can be waited for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line.rstrip("\n"))

    def line(self) -> str:
        """Return the next line."""
        return self._lines.get(timeout=20)


@contextmanager
def watching(store: Store, *words: str) -> Iterator[Watcher]:
    """Watch while something is done."""
    command = [sys.executable, "-m", "cluster_store_cli", "--store", str(store.root), "watch", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("watching ")
            yield Watcher(process)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_effective_changes_are_printed_as_they_come(member: Store) -> None:
    """With the old value, the new one and its level; what changes nothing here, or is not asked for, is not."""
    member.do("set", "smtp.banner", "old", "-m", "why")
    with watching(member, "smtp.") as watcher:
        member.do("set", "other", "1", "-m", "why")
        member.do("set", "smtp.hidden.here", "1", "--level", "group:paris", "-m", "why")
        member.do("set", "smtp.banner", "new", "-m", "why")
        assert watcher.line() == 'smtp.banner: "old" -> "new" (cluster)'
        member.do("set", "smtp.banner", "own", "--level", "machine:mx1.example.com", "-m", "why")
        assert watcher.line() == 'smtp.banner: "new" -> "own" (machine:mx1.example.com)'
        member.do("clusterconfig", "setgroup", "mx1.example.com", "paris")
        assert watcher.line() == "smtp.hidden.here: unset -> 1 (group:paris)"
        member.do("unset", "smtp.banner", "--level", "machine:mx1.example.com", "-m", "why")
        assert watcher.line() == 'smtp.banner: "own" -> "new" (cluster)'
        member.do("set", "smtp.password", "--secret", "--password-stdin", "-m", "why", typed="one")
        assert watcher.line() == 'smtp.password: unset -> "(secret)" (cluster)'


def test_changes_are_json_lines_and_run_a_command(member: Store, tmp_path: Path) -> None:
    """The command finds key, old and new value in its environment, where there are any; its failure is no end."""
    file = tmp_path / "heard"
    script = f'echo "$CLUSTER_STORE_KEY ${{CLUSTER_STORE_OLD-none}} ${{CLUSTER_STORE_NEW-none}}" >> {file}; true'
    with watching(member, "--json", "--exec", script) as watcher:
        member.do("set", "number", "123456789012345678901234567890", "-m", "why")
        line = watcher.line()
        assert line == '{"key":"number","old":null,"new":123456789012345678901234567890,"level":"cluster"}'
        member.do("unset", "number", "-m", "why")
        assert json.loads(watcher.line())["new"] is None
        member.do("set", "last", "1", "-m", "why")
        watcher.line()
        member.do("set", "last", "2", "-m", "why")
        watcher.line()
    assert file.read_text().splitlines()[:3] == [
        "number none 123456789012345678901234567890",
        "number 123456789012345678901234567890 none",
        "last none 1",
    ]
