"""The shape of the code, as docs/ARCHITECTURE.md draws it: who may import whom, and what a file may be.

Each rule is a function over one file's path and text. It is run on every file of the repository, on small planted
violations that it must find, and on innocent neighbours that it must leave alone.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]

#: The modules of the core, lowest first: each imports only from those before it.
CORE_ORDER = (
    "errors",
    "limits",
    "types",
    "json_text",
    "values",
    "public_keys",
    "causality",
    "document",
    "registers",
    "timers",
    "events",
    "records",
    "commands",
    "cluster",
    "rules",
    "roles",
    "settings",
    "digest",
    "requirements",
    "derivation",
    "state",
    "admission",
    "decision",
    "decide_timers",
    "decide_settings",
    "decide_levels",
    "decide_commit",
    "decide_groups",
    "decide_users",
    "decide_removal",
    "decide_rollback",
    "decide_conflicts",
    "decide_communication",
    "decide",
    "naming",
    "standalone",
    "history",
    "graph",
    "past",
    "rollback",
    "detail",
    "conflicts",
    "hidden",
    "aftermath",
    "redress",
    "inbox",
    "explain",
    "impact",
    "radius",
    "comparison",
    "provenance",
    "replay",
    "chain",
    "effects",
    "dismissal",
    "authoring",
    "submission",
    "overlay",
    "sync",
    "twins",
    "replica",
    "wire",
)
#: The modules of the shell around it, lowest first: each imports only the core and those before it.
SHELL_ORDER = (
    "ports",
    "verify",
    "replaying",
    "auditor",
    "exporting",
    "formats",
    "documents",
    "node",
    "timekeeping",
    "logins",
    "open_link",
    "peer_status",
    "background",
    "dialing",
    "moving",
    "dialers",
    "links",
    "gatekeeper",
    "listening",
    "lookups",
    "previewing",
    "joining",
    "salvage",
    "leaving",
    "service",
)
#: What each part of the package may import besides itself. The shell, the adapters and the simulation stand side by
#: side on the core and the ports, and never see each other; daemon and bootstrap put them together.
PARTS = {
    "core": set[str](),
    "adapters": {"core", "ports"},
    "simulation": {"core", "ports", "documents"},
    **{part: {"core", *SHELL_ORDER[:place]} for place, part in enumerate(SHELL_ORDER)},
}
PARTS["initialising"] = PARTS["drafting"] = {*PARTS}
PARTS["daemon"] = PARTS["backup"] = PARTS["mending"] = {*PARTS}
PARTS["repair"] = {*PARTS}
PARTS["bootstrap"] = {*PARTS}
#: The only files that import these libraries, so that each can be replaced, and its errors translated, at one door.
HOMES = {
    "automerge": "cluster_store/core/document.py",
    "aiosqlite": "cluster_store/adapters/sqlite_*.py",
    "asyncssh": "cluster_store/adapters/ssh*.py",
    "typer": "cli/*.py",
}
#: What a command imports only when it needs it: most of them answer before these would have been loaded.
HEAVY = ("aiosqlite", "asyncssh", "automerge", "cryptography", "nacl", "orjson", "rich", "yaml")

LINES_MAX = 499
VAGUE_NAMES = frozenset({"common", "helper", "helpers", "misc", "util", "utils"})
#: Where one developer's machine or one mirror would be written down: for everybody else it is wrong.
FOREIGN = re.compile(
    r"(?:\b(?:pypi|test\.pypi|npmjs|pythonhosted|yarnpkg|crates|rubygems)\.(?:org|com|io)\b)"
    r"|(?:(?<![\w./~-])/(?:home|root|work|Users|opt/pypi|opt/wheels)/[\w.])"
)

Rule = Callable[[str, str], Iterator[str]]


def module_of(path: str) -> str:
    """Return the import name of a file: ``cli/main.py`` is ``cluster_store_cli.main``."""
    parts = PurePosixPath(path).with_suffix("").parts
    parts = ("cluster_store_cli", *parts[1:]) if parts[0] == "cli" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield line and full dotted name of everything a file imports, inside functions and type checks too."""
    package = module_of(path).split(".")
    if not path.endswith("__init__.py"):
        package.pop()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=aliases):
                yield from ((node.lineno, alias.name) for alias in aliases)
            case ast.ImportFrom(names=aliases, module=module, level=level):
                above = package[: len(package) - level + 1] if level else []
                base = [*above, *([module] if module else [])]
                yield from ((node.lineno, ".".join([*base, alias.name])) for alias in aliases)
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                yield node.lineno, name


def core_imports_point_down(path: str, text: str) -> Iterator[str]:
    """A module of the core imports only modules below it, and each has its place in the order."""
    if not path.startswith("cluster_store/core/") or path.endswith("core/__init__.py"):
        return
    own = module_of(path).split(".")[2]
    if own not in CORE_ORDER:
        yield f"{path}: {own} has no place in CORE_ORDER"
        return
    below = CORE_ORDER[: CORE_ORDER.index(own) + 1]
    for line, name in imports(path, text):
        parts = name.split(".")
        if parts[:2] == ["cluster_store", "core"] and (parts[2:3] or [""])[0] not in below:
            yield f"{path}:{line}: imports {name}, which is not below {own}"


def parts_keep_apart(path: str, text: str) -> Iterator[str]:
    """A part of the package imports only the parts it stands on, and nothing of the command line."""
    if not path.startswith("cluster_store/"):
        return
    own = [*module_of(path).split("."), ""][1]
    if own and own not in PARTS:
        yield f"{path}: {own} has no place in SHELL_ORDER or PARTS"
        return
    allowed = {own, *PARTS[own]} if own else {*PARTS}
    for line, name in imports(path, text):
        package, part, *_ = [*name.split("."), ""]
        if package == "cluster_store_cli" or (package == "cluster_store" and part not in allowed):
            yield f"{path}:{line}: imports {name}"


def libraries_have_one_home(path: str, text: str) -> Iterator[str]:
    """Some libraries are imported in one place of the product only; tests and benchmarks may use them too."""
    if not path.startswith(("cluster_store/", "cli/")):
        return
    for line, name in imports(path, text):
        home = HOMES.get(name.split(".")[0])
        if home and not fnmatch(path, home):
            yield f"{path}:{line}: imports {name}, whose home is {home}"


def modules_stay_small_and_named(path: str, text: str) -> Iterator[str]:
    """A module fits one reading, and its name says what it is about."""
    if not path.endswith(".py"):
        return
    if (lines := len(text.splitlines())) > LINES_MAX:
        yield f"{path}: has {lines} lines"
    if vague := VAGUE_NAMES.intersection(PurePosixPath(path).with_suffix("").parts):
        yield f"{path}: {', '.join(sorted(vague))} says nothing"


def nothing_foreign_is_named(path: str, text: str) -> Iterator[str]:
    """No file names a package registry's host or a folder of the machine it was written on."""
    for number, line in enumerate(text.splitlines(), 1):
        if found := FOREIGN.search(line):
            yield f"{path}:{number}: names {found[0]}"


def packages_are_declared(path: str, declared: str) -> Iterator[str]:
    """Every package of the product is in pyproject.toml's list, or it would be missing from what pip installs."""
    if path.startswith(("cluster_store/", "cli/")) and path.endswith(".py"):
        package = module_of(str(PurePosixPath(path).with_name("__init__.py")))
        if package not in tomllib.loads(declared)["tool"]["setuptools"]["packages"]:
            yield f"{path}: {package} is not in pyproject.toml's packages"


PYTHON_RULES: tuple[Rule, ...] = (
    core_imports_point_down,
    parts_keep_apart,
    libraries_have_one_home,
    modules_stay_small_and_named,
)


@cache
def tracked() -> dict[str, str]:
    """Return path and text of every file of the repository that is text and not ignored."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:  # no repository: an unpacked archive
        listed.stdout = "\0".join(str(path.relative_to(ROOT)) for path in ROOT.rglob("*"))
    texts = {}
    for path in sorted(filter(None, listed.stdout.split("\0"))):
        try:
            texts[path] = (ROOT / path).read_text(encoding="utf-8")
        except (UnicodeDecodeError, IsADirectoryError, FileNotFoundError):
            continue
    assert "cluster_store/core/errors.py" in texts, "the rules would look at nothing"
    return texts


@pytest.mark.parametrize("rule", PYTHON_RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(rule: Rule) -> None:
    """The repository's own modules have no fault."""
    modules = {path: text for path, text in tracked().items() if path.endswith(".py")}
    faults = [fault for path, text in modules.items() for fault in rule(path, text)]
    assert not faults, "\n".join(faults)


def test_the_architecture_page_draws_the_same_core() -> None:
    """The page lists the core's modules in the order that is kept here."""
    drawn = re.findall(r"^ {4}(\w+)\.py {2}", tracked()["docs/ARCHITECTURE.md"], re.MULTILINE)
    assert tuple(drawn) == CORE_ORDER


def test_no_file_names_a_registry_or_a_builders_folder() -> None:
    """What is in the repository is true on every machine."""
    faults = [fault for path, text in tracked().items() for fault in nothing_foreign_is_named(path, text)]
    assert not faults, "\n".join(faults)


def test_every_package_is_installed() -> None:
    """No folder of the product is left out of the wheel."""
    declared = tracked()["pyproject.toml"]
    faults = [fault for path in tracked() for fault in packages_are_declared(path, declared)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (core_imports_point_down, "cluster_store/core/types.py", "from cluster_store.core.replica import Replica"),
        (core_imports_point_down, "cluster_store/core/types.py", "from cluster_store.core import replica"),
        (core_imports_point_down, "cluster_store/core/types.py", "from . import replica"),
        (core_imports_point_down, "cluster_store/core/types.py", "def f():\n    from .sync import Session"),
        (core_imports_point_down, "cluster_store/core/types.py", "import cluster_store.core"),
        (core_imports_point_down, "cluster_store/core/unplaced.py", ""),
        (parts_keep_apart, "cluster_store/core/types.py", "from cluster_store.ports import Link"),
        (parts_keep_apart, "cluster_store/core/types.py", "from cluster_store import open_store"),
        (parts_keep_apart, "cluster_store/core/types.py", "import cluster_store"),
        (parts_keep_apart, "cluster_store/ports.py", "from cluster_store.adapters import clock"),
        (parts_keep_apart, "cluster_store/adapters/ssh.py", "from cluster_store.node import Node"),
        (parts_keep_apart, "cluster_store/adapters/ssh.py", "from ..simulation import network"),
        (parts_keep_apart, "cluster_store/simulation/disk.py", "from cluster_store.adapters.memory import Log"),
        (parts_keep_apart, "cluster_store/node.py", "import cluster_store.adapters.ssh"),
        (parts_keep_apart, "cluster_store/node.py", "ssh = importlib.import_module('cluster_store.adapters.ssh')"),
        (parts_keep_apart, "cluster_store/node.py", "from cluster_store.bootstrap import open_store"),
        (parts_keep_apart, "cluster_store/bootstrap.py", "from cluster_store_cli.main import run"),
        (parts_keep_apart, "cluster_store/__init__.py", "import cluster_store_cli"),
        (parts_keep_apart, "cluster_store/unplaced.py", ""),
        (libraries_have_one_home, "cluster_store/core/replica.py", "import automerge.core"),
        (libraries_have_one_home, "cluster_store/core/document.py", "import aiosqlite"),
        (libraries_have_one_home, "cluster_store/node.py", "def f():\n    import asyncssh"),
        (libraries_have_one_home, "cluster_store/bootstrap.py", "from typer import Typer"),
        (libraries_have_one_home, "cli/shell.py", "from asyncssh import connect"),
        (modules_stay_small_and_named, "tests/test_long.py", "pass\n" * 500),
        (modules_stay_small_and_named, "cluster_store/core/utils.py", ""),
        (modules_stay_small_and_named, "tests/helpers/paths.py", ""),
        (nothing_foreign_is_named, "README.md", "pip install --index-url https://" + "pypi" + ".org/simple"),
        (nothing_foreign_is_named, "package-lock.json", '"resolved": "https://registry.npm' + 'js.org/"'),
        (nothing_foreign_is_named, ".ci/run", "python=" + "/ro" + "ot/.pyenv/versions/3.12.1/bin/python3"),
        (packages_are_declared, "cli/menus/groups.py", '[tool.setuptools]\npackages = ["cluster_store_cli"]'),
    ],
)
def test_a_planted_violation_is_found(rule: Rule, path: str, text: str) -> None:
    """Each rule finds exactly the one fault that was put before it."""
    assert len(list(rule(path, text))) == 1


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (core_imports_point_down, "cluster_store/core/replica.py", "from cluster_store.core.types import Path"),
        (core_imports_point_down, "cluster_store/core/replica.py", "import hashlib"),
        (parts_keep_apart, "cluster_store/adapters/ssh.py", "from cluster_store.ports import Link"),
        (parts_keep_apart, "cluster_store/adapters/ssh.py", "from .keys import load"),
        (parts_keep_apart, "cluster_store/__init__.py", "from cluster_store.bootstrap import open_store"),
        (parts_keep_apart, "cli/main.py", "from cluster_store import open_store"),
        (libraries_have_one_home, "cluster_store/adapters/sqlite_log.py", "import aiosqlite"),
        (libraries_have_one_home, "cluster_store/adapters/ssh_server.py", "import asyncssh"),
        (libraries_have_one_home, "cli/groups/add.py", "import typer"),
        (libraries_have_one_home, "tests/core/test_document.py", "import automerge.core"),
        (modules_stay_small_and_named, "docs/LONG.md", "line\n" * 1000),
        (nothing_foreign_is_named, "README.md", "see docs/home/notes and ~/home/store and /etc/postfix/main.cf"),
        (packages_are_declared, "cli/main.py", '[tool.setuptools]\npackages = ["cluster_store_cli"]'),
    ],
)
def test_what_is_allowed_is_left_alone(rule: Rule, path: str, text: str) -> None:
    """No rule finds fault with what the design asks for."""
    assert list(rule(path, text)) == []


def heavy_after(statement: str) -> list[str]:
    """Return which heavy modules a fresh interpreter has loaded after one statement."""
    program = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_command_line_starts_without_heavy_modules() -> None:
    """Importing the command line loads nothing that a quick command does without."""
    if not (ROOT / "cli" / "main.py").is_file():
        pytest.skip("there is no command line yet")
    assert heavy_after("import cluster_store_cli.main") == []


def test_a_quick_get_loads_msgspec_without_its_luggage() -> None:
    """What msgspec would take where it is there, and half of the standard library with it, stays where it is."""
    statement = "from cluster_store_cli import lookup\nlookup._load_msgspec()\nimport sys, msgspec"
    assert heavy_after(f"{statement}\nassert not {{'inspect', 'typing_extensions'}} & sys.modules.keys()") == []


def test_a_planted_heavy_import_is_found() -> None:
    """The check sees what a statement loads."""
    assert heavy_after("import yaml") == ["yaml"]
