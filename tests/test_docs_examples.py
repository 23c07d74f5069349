"""What the pages show of a terminal is what really comes: their commands are run, in order, with real daemons."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest
from cluster_store_cli import network

from cluster_store.simulation.options import FAULTS
from tests.collisions import stored_collision
from tests.transcript import FORMS, Bindings, Shell, steps

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"
CLUSTERING = ROOT / "docs" / "clustering.md"
RECOVERY = ROOT / "docs" / "recovery.md"
USERS = ROOT / "docs" / "users.md"
SIMULATION = ROOT / "docs" / "simulation.md"
HISTORY = ROOT / "docs" / "history.md"
CHANGE_DISCIPLINE = ROOT / "docs" / "change_discipline.md"


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that can be had."""
    ports: list[int] = []
    while len(ports) < count:
        ports += network.choose_ports("127.0.0.1", (0, 0), ports)
    return ports[:count]


def run(folder: Path, page: str) -> None:
    """Run a page in a folder, with free ports in the place of those that it names."""
    shown = sorted(set(re.findall(FORMS["port"], page)))
    bindings = Bindings()
    for port, real in zip(shown, free_ports(len(shown)), strict=True):
        bindings.bind(port, str(real))
    with Shell(folder) as shell:
        shell.run(page, bindings)


def test_the_tutorial_is_as_it_says(tmp_path: Path) -> None:
    """Three machines, levels, a cut, a conflict settled, the log and its proof: each command prints what is shown."""
    run(tmp_path, TUTORIAL.read_text(encoding="utf-8"))


def test_the_guide_to_clusters_is_as_it_says(tmp_path: Path) -> None:
    """Its menus at a terminal, both ways to join, and each operation: each prints what is shown."""
    run(tmp_path, CLUSTERING.read_text(encoding="utf-8"))


def test_the_guide_to_recovery_is_as_it_says(tmp_path: Path) -> None:
    """A backup, a restore, and two damaged stores: each command prints what is shown, and mends what it says."""
    run(tmp_path, RECOVERY.read_text(encoding="utf-8"))


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed")
def test_the_page_about_users_is_as_it_says(tmp_path: Path) -> None:
    """Users added, changed, listed and deleted: each command prints what is shown."""
    run(tmp_path, USERS.read_text(encoding="utf-8"))


#: What comes before the README's transcript, as it says in words.
TWO_MACHINES = """
```console
$ echo 'correct horse battery staple' > password
$ init() { cluster-store init --interface Management=127.0.0.1 --password-stdin "$@" < password > init.txt; }
mx1$ init --hostname mx1.example.com --ssh-port 20022 --ccs-port 20122
mx2$ init --hostname mx2.example.com --ssh-port 20023 --ccs-port 20123
mx1$ cluster-store serve 2> mx1.log &
mx1.example.com accepts connections at 127.0.0.1:20022, SHA256:ANnV7gzaeKXk6g5ZdqtKVrI6CTtIc3e7+q005j3s0os
mx2$ cluster-store serve 2> mx2.log &
mx2.example.com accepts connections at 127.0.0.1:20023, SHA256:1GshX3E6ErIo1i0lWfuhHiBk431rjv42HxFwhZZktEw
```
"""


def test_the_readme_is_as_it_says(tmp_path: Path) -> None:
    """The first thing that anybody reads of the product is what it does."""
    run(tmp_path, TWO_MACHINES + README.read_text(encoding="utf-8"))


#: What comes before the page on history, as it says in words.
ONE_MACHINE = """
```console
$ init() { cluster-store init --hostname mx1.example.com --interface Management=127.0.0.1 "$@" > init.txt 2>&1; }
mx1$ init --ssh-port 20022 --ccs-port 20122 && cluster-store clusterconfig create americas 2> create.txt
```
"""


def test_the_page_on_history_is_as_it_says(tmp_path: Path) -> None:
    """Changes looked at, as they were, compared, taken back, and given to an auditor: each prints what is shown."""
    run(tmp_path, ONE_MACHINE + HISTORY.read_text(encoding="utf-8"))


def test_the_page_on_change_discipline_is_as_it_says(tmp_path: Path) -> None:
    """Changes staged, compared, committed, met by others, dropped and taken back: each prints what is shown."""
    run(tmp_path, ONE_MACHINE + CHANGE_DISCIPLINE.read_text(encoding="utf-8"))


def test_the_page_on_simulation_is_as_it_says(tmp_path: Path) -> None:
    """Seeds pass, a run is drawn, and the log of a member of a cluster is rehearsed with."""
    asyncio.run(stored_collision(tmp_path))
    run(tmp_path, SIMULATION.read_text(encoding="utf-8"))
    assert (tmp_path / "run.svg").read_text(encoding="utf-8").startswith("<svg")


def test_the_page_on_simulation_explains_every_fault() -> None:
    """Its table has the faults that there are, in their order."""
    faults = SIMULATION.read_text(encoding="utf-8").partition("## The faults\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", faults, re.MULTILINE) == list(FAULTS)


def test_no_page_shows_a_terminal_that_nobody_runs() -> None:
    """Every page with such a block is one of those above, and these have at least one."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    assert {page for page in pages if list(steps(page.read_text(encoding="utf-8")))} == {
        README,
        TUTORIAL,
        CLUSTERING,
        RECOVERY,
        SIMULATION,
        HISTORY,
        CHANGE_DISCIPLINE,
        USERS,
    }


# --- the runner itself ---


def test_a_block_is_cut_into_commands_and_their_outputs() -> None:
    """Prompts may name a machine, commands may be continued, and other blocks are left alone."""
    page = "```console\nmx1$ one \\\n> two\nout\n\n$ three\n```\n```sh\n$ four\n```\n"
    found = [(step.machine, step.command, step.output) for step in steps(page)]
    assert found == [("mx1", "one \\\ntwo", "out\n\n"), ("", "three", "")]


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        ("event 0123456789\n", "event abcdefabcd\n", True),
        ("event 0123456789\n", "event abcdef\n", False),
        ("at 2026-03-02T19:27:24.625Z\n", "at 2031-01-01T00:00:00.000Z\n", True),
        ("one\n", "two\n", False),
        ("one\n", "one\ntwo\n", False),
        ("one\n...\nfour\n", "one\ntwo\nthree\nfour\n", True),
        ("one\n...\nfour\n", "one\ntwo\nthree\n", False),
        ("0123456789 0123456789\n", "aaaaaaaaaa aaaaaaaaaa\n", True),
        ("0123456789 0123456789\n", "aaaaaaaaaa bbbbbbbbbb\n", False),
    ],
)
def test_an_output_is_compared_by_the_form_of_what_varies(expected: str, output: str, same: bool) -> None:  # noqa: FBT001
    """Ids and times may be others, words may not, and what is twice on the page must come twice."""
    assert Bindings().take(expected, output) is same


def test_what_a_page_showed_once_stands_for_what_came_then() -> None:
    """It is put into later commands, and must come again where the page shows it again."""
    bindings = Bindings()
    assert bindings.take("event 0123456789\n", "event abcdefabcd\n")
    assert bindings.real("explain 0123456789") == "explain abcdefabcd"
    assert bindings.take("of 0123456789\n", "of abcdefabcd\n")
    assert not bindings.take("of 0123456789\n", "of aaaaaaaaaa\n")


def test_what_differs_on_the_page_must_differ() -> None:
    """Two digests that the page shows as different cannot stand for one."""
    with pytest.raises(AssertionError, match="calls otherwise"):
        Bindings().take("0123456789\n9876543210\n", "aaaaaaaaaa\naaaaaaaaaa\n")


@pytest.mark.parametrize("page", ["```console\n$ echo one\ntwo\n```\n", "```console\n$ false\n```\n"])
def test_a_page_that_is_wrong_fails(tmp_path: Path, page: str) -> None:
    """Another output than is shown, or a failed command, is found."""
    with Shell(tmp_path) as shell, pytest.raises(AssertionError, match=r"echo one|from: false"):
        shell.run(page, Bindings())
