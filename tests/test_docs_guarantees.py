"""docs/guarantees.md promises nothing that no test keeps."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")

#: Number -> sentence and the tests behind it.
PROMISES: dict[int, str] = {
    int(number): text for number, text in re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
}


@cache
def named_in(path: str) -> frozenset[str]:
    """Return the names of a file's tests, of a file that is not there none."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(
        node.name for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, functions)
    )


def missing(text: str) -> list[str]:
    """Return the tests that a text names and that are not there; a text without any lacks one."""
    named = re.findall(r"`(\S+)::(\S+)`", text)
    if not named:
        return ["a test"]
    return [f"{path}::{name}" for path, name in named if name not in named_in(path) or not name.startswith("test_")]


@pytest.mark.parametrize("number", PROMISES)
def test_every_promise_is_kept_by_a_test(number: int) -> None:
    """Each names at least one test, and each that it names is there."""
    assert not missing(PROMISES[number])


def test_promises_are_numbered_one_by_one() -> None:
    """So that they can be spoken of."""
    assert list(PROMISES) == list(range(1, len(PROMISES) + 1))
    assert len(PROMISES) > 20


@pytest.mark.parametrize(
    "text",
    [
        "We promise.",
        "`tests/test_docs_guarantees.py::test_that_is_not_there`",
        "`tests/nowhere.py::test_promises_are_numbered_one_by_one`",
        "`tests/test_docs_guarantees.py::missing`",
    ],
)
def test_a_planted_promise_without_a_test_is_found(text: str) -> None:
    """No test at all, no such test, no such file, no test by its name."""
    assert missing(text)
