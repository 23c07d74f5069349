"""Asking a daemon that does not answer."""

from __future__ import annotations

import io
import os
import socket
import sys
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from cluster_store.adapters import local_client

#: How long a test waits for the other thread, seconds.
PATIENCE_S = 60.0


class Heard(io.StringIO):
    """A stream that tells when something was written to it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.something = Event()

    def flush(self) -> None:
        """Tell."""
        self.something.set()


@pytest.fixture
def listener(tmp_path: Path) -> Any:
    """A daemon's socket at which nobody answers yet."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.settimeout(PATIENCE_S)
        listening.bind(str(tmp_path / "node.sock"))
        listening.listen()
        yield listening


def answer(listening: socket.socket, before: Event | None = None) -> None:
    """Answer one question, after something has happened."""
    connection, _ = listening.accept()
    with connection:
        connection.settimeout(PATIENCE_S)
        connection.recv(1000)
        if before is None or before.wait(PATIENCE_S):
            connection.sendall(b'{"progress":"half"}\n{"result":{"done":true}}\n')


def test_whoever_waits_for_a_stopped_daemon_is_told(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: which process, since when, and what an interrupt does. The answer counts when it comes."""
    heard = Heard()
    monkeypatch.setattr(local_client, "_WORDLESS_S", 0.0)
    monkeypatch.setattr(sys, "stderr", heard)
    daemon = Thread(target=answer, args=(listener, heard.something))
    daemon.start()
    result = local_client.call(tmp_path / "node.sock", "status", {}, lambda _: None)
    daemon.join(PATIENCE_S)
    assert result == {"done": True}
    first, second = heard.getvalue().splitlines()
    assert first.startswith("waiting since ")
    assert first.endswith(f" for the daemon (process {os.getpid()}) to answer")
    assert second == "Ctrl-C ends only the waiting: what was asked may still be done once the daemon goes on"


def test_a_daemon_that_answers_is_not_spoken_of(
    tmp_path: Path, listener: socket.socket, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its progress is told as ever."""
    monkeypatch.setattr(local_client, "_WORDLESS_S", PATIENCE_S)
    daemon = Thread(target=answer, args=(listener,))
    daemon.start()
    told: list[str] = []
    assert local_client.call(tmp_path / "node.sock", "status", {}, told.append) == {"done": True}
    daemon.join(PATIENCE_S)
    assert told == ["half"]
    assert capsys.readouterr().err == ""
