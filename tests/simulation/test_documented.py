"""docs/invariants.md says what the checkers check, and which bugs they find."""

from __future__ import annotations

import re
from pathlib import Path

from cluster_store.simulation.fold import Fold
from cluster_store.simulation.invariants import INVARIANTS, Invariants
from cluster_store.simulation.options import FAULTS
from cluster_store.simulation.run import Run
from tests.simulation.test_canaries import CANARIES

PAGE = (Path(__file__).parents[2] / "docs" / "invariants.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \| (.*?) \| `(.*?)` \| `(.*?)` \|$", PAGE, re.MULTILINE)


def test_the_page_lists_every_invariant_in_its_own_words() -> None:
    """So a number in a verdict can be looked up."""
    assert {int(number): words for number, words, _, _ in ROWS} == INVARIANTS


def test_each_invariant_has_the_checker_that_the_page_names() -> None:
    """A checker that was renamed or dropped would leave its invariant unkept."""
    classes = {owner.__name__: owner for owner in (Fold, Invariants, Run)}
    for _, _, checker, _ in ROWS:
        owner, _, name = checker.partition(".")
        assert callable(getattr(classes[owner], name)), checker


def test_each_invariant_has_the_canary_that_the_page_names() -> None:
    """And there is no canary that nobody reads of."""
    planted = [(str(number), plant.__name__) for plant, number, _ in CANARIES]
    assert [(number, canary) for number, _, _, canary in ROWS] == planted


def test_the_page_lists_every_fault() -> None:
    """In the words of ``simulate``."""
    assert dict(re.findall(r"^\| ([a-z]+) \| (.*?) \|$", PAGE.partition("## Faults")[2], re.MULTILINE)) == {
        "name": "what happens",
        **FAULTS,
    }
