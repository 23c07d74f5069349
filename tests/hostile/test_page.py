"""docs/hostile_peers.md says what is tried, and what comes of it; with HOSTILE_TABLE=write, it is written anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.hostile.catalogue import KINDS
from tests.hostile.kinds import run
from tests.hostile.stage import watch_encoder

PAGE = Path(__file__).parents[2] / "docs" / "hostile_peers.md"
_TABLE = re.compile(r"(?<=<!-- tried -->\n).*(?=<!-- end of tried -->)", re.DOTALL)
_ROW = re.compile(r"^\| (\w+) \| (.+) \| ([\d,]+) \| (.+) \|$", re.MULTILINE)


@pytest.mark.skipif(os.environ.get("HOSTILE_TABLE") != "write", reason="HOSTILE_TABLE=write is not set")
@pytest.mark.timeout(3600)
def test_the_table_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """All kinds, many times each, with the outcomes that were seen."""
    watch_encoder(monkeypatch)
    rows, total = [], 0
    for kind in KINDS:
        seen = run(kind, int(os.environ.get("HOSTILE_TRIES", "500")))
        tried = seen.pop("tried")
        total += tried
        rows.append(f"| {kind.level} | {kind.name} | {tried:,} | {', '.join(sorted(seen))} |\n")
    head = f"{total:,} inputs of {len(KINDS)} kinds.\n\n| level | kind | tried | outcome |\n|---|---|---|---|\n"
    PAGE.write_text(_TABLE.sub(lambda _: f"{head}{''.join(rows)}\n", PAGE.read_text("utf-8")), "utf-8")


def test_the_page_lists_what_is_tried() -> None:
    """Every kind is in the table, in its place, and nothing else; with no outcome that the tests do not allow."""
    rows = _ROW.findall(PAGE.read_text("utf-8"))
    assert [(level, name) for level, name, _, _ in rows] == [(kind.level, kind.name) for kind in KINDS]
    for kind, (*_, outcomes) in zip(KINDS, rows, strict=True):
        assert set(outcomes.split(", ")) <= kind.outcomes
