"""Each situation in this folder comes to what its file tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.transcript import play

SITUATIONS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda path: path.stem)
def test_a_situation_comes_to_what_it_came_to_before(situation: Path, *, rewrite: bool) -> None:
    """Every value, conflict, group, refusal and notice is as recorded."""
    recorded = situation.read_text(encoding="utf-8")
    told = play(recorded)
    if rewrite:
        situation.write_text(told, encoding="utf-8")
    else:
        assert told == recorded


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda path: path.stem)
def test_a_situation_says_what_it_is_about_and_how_it_ends(situation: Path) -> None:
    """A file begins with a sentence, and shows at its end whether the machines agree."""
    lines = situation.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert "> compare" in lines[-3:]


def test_a_changed_outcome_is_noticed() -> None:
    """The comparison can fail: a value that nobody wrote is not what the situation comes to."""
    text = SITUATIONS[0].read_text(encoding="utf-8")
    assert play(text.replace(": agree", ": disagree")) != text.replace(": agree", ": disagree")
