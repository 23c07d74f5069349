"""The pages speak of commands that are there: the reference is written from them, and the others name no other."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cluster_store_cli import program
from cluster_store_cli.catalogue import COMMANDS, FAMILIES, Entry

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]

#: Every command's words -> where it is.
ENTRIES: dict[str, Entry] = {
    **{name: entry for name, entry in COMMANDS.items() if name not in FAMILIES},
    **{f"{family} {name}": entry for family, entries in FAMILIES.items() for name, entry in entries.items()},
}


@pytest.fixture
def reference() -> ModuleType:
    """The script that writes the page."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parameters(words: str) -> list[Any]:
    """Return what a command takes."""
    return program._command(words.rpartition(" ")[2], ENTRIES[words]).params


@pytest.mark.parametrize("words", ENTRIES)
def test_every_command_is_on_the_page(words: str) -> None:
    """With its purpose, its usage, each argument and option, and the exit status that is its own."""
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^#+ `{words}`\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    assert ENTRIES[words].help in section
    assert f"```\ncluster-store {words}" in section
    for parameter in parameters(words):
        if parameter.name not in ("json", "version"):
            named = parameter.opts[0] if parameter.param_type_name == "option" else "| `"
            assert named in section, parameter.name
    uses_bad = "BAD" in inspect.getsource(import_module(f"cluster_store_cli.{ENTRIES[words].module}"))
    assert ("Exit status 3" in section) == uses_bad


def test_the_page_is_what_the_commands_are_now(reference: ModuleType) -> None:
    """Whoever changes a command writes the page again."""
    assert reference.main(["--check"]) == 0


def test_another_page_is_noticed(
    reference: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing page and a page of other commands fail; a written one passes."""
    monkeypatch.setattr(reference, "PAGE", tmp_path / "cli.md")
    assert reference.main(["--check"]) == 1
    assert "run 'python docs/reference.py'" in capsys.readouterr().out
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
    (tmp_path / "cli.md").write_text("other", encoding="utf-8")
    assert reference.main(["--check"]) == 1


# --- what the other pages tell to type ---

#: Blocks of a shell's, but for those that are run (tests/test_docs_examples.py), and code within a line.
_CODE = re.compile(r"^```sh\n(.*?)^```$|`((?:cluster-store|clusterconfig) [^`]+)`", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^ *|[|;&({`] ?|-- )(cluster-store|clusterconfig) ([^|;&#<>`\n]+)", re.MULTILINE)


def told(page: str) -> Iterator[list[str]]:
    """Yield the commands of ours that a page tells somebody to type, each as its words behind the program's."""
    for block, inline in _CODE.findall(page):
        for name, rest in _COMMAND.findall((block or inline).replace("\\\n", " ")):
            words = rest.split()
            while words and words[0].startswith("--"):
                words = words[2:] if words[0] == "--store" else words[1:]
            yield [name, *words] if name in FAMILIES else words


def fault(words: list[str]) -> str:
    """Return what is wrong with a command that a page tells to type, or ``""``."""
    name = " ".join(words[: 2 if words and words[0] in FAMILIES else 1])
    if not name or name in FAMILIES or name.rpartition(" ")[2].isupper():
        return ""  # only a program or a family, or a placeholder
    if name not in ENTRIES:
        return f"there is no command '{name}'"
    known = {option for parameter in parameters(name) for option in parameter.opts} | {"--help"}
    unknown = [word for word in words if re.match(r"-{1,2}[a-z]", word) and word not in known]
    return f"'{name}' has no option {unknown[0]}" if unknown else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_tell_to_type_what_there_is(page: Path) -> None:
    """No page names a command, or an option of one, that this version does not have."""
    faults = [fault(words) for words in told(page.read_text(encoding="utf-8"))]
    assert not list(filter(None, faults))


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("`cluster-store settle it`", "there is no command 'settle'"),
        ("```sh\nfoo | clusterconfig --store x dissolve\n```\n", "there is no command 'clusterconfig dissolve'"),
        ("```sh\ncluster-store get \\\n  --fast KEY\n```\n", "'get' has no option --fast"),
    ],
)
def test_a_planted_command_is_found(page: str, problem: str) -> None:
    """In a line and in a block, behind a pipe and continued."""
    assert [fault(words) for words in told(page)] == [problem]


@pytest.mark.parametrize("page", ["`cluster-store COMMAND`", "`clusterconfig`", "```\ncluster-store nothing\n```\n"])
def test_what_is_no_command_to_type_is_left_alone(page: str) -> None:
    """Placeholders, names of programs, and blocks that are no shell's."""
    assert not list(filter(None, map(fault, told(page))))
