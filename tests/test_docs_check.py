"""The checker of the documentation finds what it is there to find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKER = Path(__file__).parents[1] / "docs" / "check.py"

README = """# Store

See [the guide](docs/GUIDE.md#first-steps-2), `[no link](nowhere)` and [elsewhere](https://example.org/).

<!-- demo-command -->

```sh
store demo
```

<!-- test-command -->
```sh
store test \\
  --all
```
"""
GUIDE = """# Guide

## First steps (2)

[Back](../README.md)
"""


def check(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the checker over a repository."""
    command = [sys.executable, str(CHECKER), "--root", str(root), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write(root: Path, readme: str = README, guide: str = GUIDE) -> None:
    """Make a repository of two pages."""
    (root / "docs").mkdir()
    (root / "README.md").write_text(readme, encoding="utf-8")
    (root / "docs" / "GUIDE.md").write_text(guide, encoding="utf-8")


def test_good_pages_have_no_problem(tmp_path: Path) -> None:
    """Links that lead somewhere, closed blocks and both commands pass."""
    write(tmp_path)
    done = check(tmp_path)
    assert (done.returncode, done.stdout) == (0, "2 pages, 0 problems\n")


@pytest.mark.parametrize(
    ("readme", "guide", "problem"),
    [
        (
            README.replace("GUIDE.md#", "GONE.md#") + "[g](docs/GUIDE.md)",
            GUIDE,
            "README.md: docs/GONE.md#first-steps-2",
        ),
        (README, GUIDE.replace("First", "Last"), "README.md: docs/GUIDE.md#first-steps-2 names a heading"),
        (README, GUIDE + "\n```sh\nnever closed\n", "docs/GUIDE.md: a fenced block is not closed"),
        (README.replace("docs/GUIDE.md#first-steps-2", "docs/"), GUIDE, "docs/GUIDE.md: no page links to it"),
        (README.replace("test-command", "text-command"), GUIDE, "README.md: holds <!-- test-command --> 0 times"),
        (README + "<!-- demo-command -->", GUIDE, "README.md: holds <!-- demo-command --> 2 times"),
        (README.replace("```sh\nstore demo\n```", "store demo"), GUIDE, "README.md: no fenced block"),
    ],
)
def test_a_planted_problem_is_found(tmp_path: Path, readme: str, guide: str, problem: str) -> None:
    """Each kind of problem is named with its page, and the exit status says so."""
    write(tmp_path, readme, guide)
    done = check(tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith(problem)
    assert done.stdout.endswith("2 pages, 1 problems\n")


def test_a_promised_command_is_printed_as_it_stands(tmp_path: Path) -> None:
    """Whoever runs the command gets the block's lines and nothing else."""
    write(tmp_path)
    assert check(tmp_path, "--command", "test-command").stdout == "store test \\\n  --all\n"


def test_a_command_that_is_not_promised_is_refused(tmp_path: Path) -> None:
    """Nothing is printed that somebody could run."""
    write(tmp_path, readme="# Store\n")
    done = check(tmp_path, "--command", "test-command")
    assert (done.returncode, done.stdout) == (1, "")
