"""Tables on terminals of any width."""

from __future__ import annotations

import io

import pytest
from cluster_store_cli import tables
from rich.console import Console

COLUMNS = ("hostname", "state", "reason", "last contact")
ROW = ("mx1.example.com", "unreachable", "192.0.2.1:22 is unreachable: Connection refused", "2026-03-02T19:27:04Z")


def printed(monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    """Return the lines of a table on a terminal of a width."""
    screen = io.StringIO()
    monkeypatch.setattr(tables, "_console", lambda: Console(file=screen, width=width, highlight=False))
    tables.print_table(COLUMNS, [ROW])
    return [line.rstrip() for line in screen.getvalue().splitlines()]


@pytest.mark.parametrize("width", [110, 90, 80, 70, 40])
def test_no_word_is_broken(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """A hostname, a state or a time can be read and copied whatever the width; sentences make room for them."""
    lines = printed(monkeypatch, width)
    assert all(any(word in line for line in lines) for word in (ROW[0], ROW[1], ROW[3]))
    assert " ".join(" ".join(lines[2:]).split()).count("Connection") == 1


@pytest.mark.parametrize(("width", "rows"), [(110, 1), (90, 2), (40, 1)])
def test_sentences_are_folded_where_that_helps(monkeypatch: pytest.MonkeyPatch, width: int, rows: int) -> None:
    """Where not even that does, a row is one line, which the terminal breaks."""
    lines = printed(monkeypatch, width)
    assert len(lines) == 2 + rows
    assert (max(map(len, lines)) > width) == (width == 40)
