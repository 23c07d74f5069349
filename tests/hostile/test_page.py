"""docs/hostile_peers.md says what is tried, and what comes of it.

With CLUSTER_STORE_HOSTILE_TRIES=500 each kind is tried so many times, and the table is written anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.hostile.catalogue import KINDS
from tests.hostile.kinds import run
from tests.hostile.stage import watch_encoder
from tests.hostile.streams import CHANNEL, LOGIN

#: What is sent to a real daemon, byte by byte, by test_daemon.py.
STREAMS = [
    *(("login", name, len(tried), "cut off") for name, tried in LOGIN.items()),
    *(("channel", name, len(tried), "dropped") for name, tried in CHANNEL.items()),
]
PAGE = Path(__file__).parents[2] / "docs" / "hostile_peers.md"
_TABLE = re.compile(r"(?<=<!-- tried -->\n).*(?=<!-- end of tried -->)", re.DOTALL)
_ROW = re.compile(r"^\| (\w+) \| (.+) \| ([\d,]+) \| (.+) \|$", re.MULTILINE)


@pytest.mark.skipif("CLUSTER_STORE_HOSTILE_TRIES" not in os.environ, reason="CLUSTER_STORE_HOSTILE_TRIES is not set")
@pytest.mark.timeout(3600)
def test_the_table_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """All kinds, many times each, with the outcomes that were seen."""
    watch_encoder(monkeypatch)
    rows = [f"| {level} | {name} | {tried} | {outcome} |\n" for level, name, tried, outcome in STREAMS]
    total = sum(tried for *_, tried, _ in STREAMS)
    for kind in KINDS:
        seen = run(kind, int(os.environ["CLUSTER_STORE_HOSTILE_TRIES"]))
        tried = seen.pop("tried")
        total += tried
        rows.append(f"| {kind.level} | {kind.name} | {tried:,} | {', '.join(sorted(seen))} |\n")
    head = f"{total:,} inputs of {len(rows)} kinds.\n\n| level | kind | tried | outcome |\n|---|---|---|---|\n"
    PAGE.write_text(_TABLE.sub(lambda _: f"{head}{''.join(rows)}\n", PAGE.read_text("utf-8")), "utf-8")


def test_the_page_lists_what_is_tried() -> None:
    """Every kind is in the table, in its place, and nothing else; with no outcome that the tests do not allow."""
    rows = _ROW.findall(PAGE.read_text("utf-8"))
    streams = [(level, name, f"{tried}", outcome) for level, name, tried, outcome in STREAMS]
    assert rows[: len(streams)] == streams
    rows = rows[len(streams) :]
    assert [(level, name) for level, name, _, _ in rows] == [(kind.level, kind.name) for kind in KINDS]
    for kind, (*_, outcomes) in zip(KINDS, rows, strict=True):
        assert set(outcomes.split(", ")) <= kind.outcomes
