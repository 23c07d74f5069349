"""Documents made only of derived changes are, to JavaScript Automerge, documents like any other."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cluster_store.core.document import Document, Put
from tests.core.derived import ACTORS, Derived, History, derived_history

pytestmark = pytest.mark.javascript

#: Exactly one version, so that a failure is this project's doing.
PACKAGE = "@automerge/automerge@3.5.0"
SCRIPT = Path(__file__).with_name("load_document.mjs")
INSTALL_S_MAX = 60
LOAD_S_MAX = 30

Load = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def load(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Return what hands input to the script and returns what JavaScript saw."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not both installed")
    cache = getattr(request.config, "cache", None)
    parent = Path(cache.mkdir("javascript")) if cache is not None else tmp_path_factory.mktemp("javascript")
    folder = _installed(npm, parent)

    def load_in_javascript(wanted: dict[str, Any]) -> dict[str, Any]:
        done = subprocess.run(
            [node, str(SCRIPT), str(folder)],
            input=json.dumps(wanted).encode(),
            capture_output=True,
            timeout=LOAD_S_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen

    return load_in_javascript


def _installed(npm: str, parent: Path) -> Path:
    """Return a folder with the package in it; it is installed at the first run, beside, and moved into place whole."""
    folder = parent / PACKAGE.replace("/", "-")
    if folder.exists():
        return folder
    with tempfile.TemporaryDirectory(dir=parent) as beside:
        fresh = Path(beside) / "fresh"
        fresh.mkdir()
        (fresh / "package.json").write_text('{"private": true}')
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
        try:
            subprocess.run(command, cwd=fresh, capture_output=True, timeout=INSTALL_S_MAX, check=True)
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm did not install {PACKAGE} within {INSTALL_S_MAX} s")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"npm cannot install {PACKAGE}: {error.stderr.decode(errors='replace').strip()[-300:]}")
        try:
            fresh.rename(folder)
        except OSError:
            assert folder.exists(), "the installed package can be moved, unless another test process was quicker"
    return folder


@pytest.fixture(scope="module")
def history() -> History:
    """Changes of seven actors with every shape of operations and text."""
    return derived_history(Random(5), ACTORS, 150)


def as_javascript(derived: Derived) -> dict[str, Any]:
    """Return a change as JavaScript Automerge describes it."""
    return {
        "actor": derived.actor.hex(),
        "seq": derived.seq,
        "startOp": derived.start_op,
        "deps": [dep.hex() for dep in derived.change.deps],
        "hash": derived.change.hash.hex(),
        "time": 0,
        "message": None,
        "ops": [
            {"action": "set", "obj": "_root", "key": operation.key, "value": operation.value, "pred": []}
            if isinstance(operation, Put)
            else {
                "action": "del",
                "obj": "_root",
                "key": operation.key,
                "pred": [f"{operation.op}@{operation.actor.hex()}"],
            }
            for operation in derived.operations
        ],
    }


def assert_the_same(seen: dict[str, Any], history: History) -> None:
    """JavaScript sees the content, the heads, and every change with all that it was encoded from."""
    assert dict(seen["items"]) == history.content
    assert len(seen["items"]) == len(history.content)
    assert tuple(sorted(bytes.fromhex(head) for head in seen["heads"])) == history.heads()
    changes = sorted(seen["changes"], key=lambda change: str(change["hash"]))
    assert changes == sorted(map(as_javascript, history.derived), key=lambda change: str(change["hash"]))


def encoded(data: bytes) -> str:
    """Return bytes as JSON can carry them."""
    return base64.b64encode(data).decode()


def test_a_document_of_derived_changes_loads_in_javascript(load: Load, history: History) -> None:
    """Automerge.load of our save gives the same content, and getAllChanges every change."""
    document = Document.open(None)
    document.apply(history.changes)
    assert_the_same(load({"saved": encoded(document.save())}), history)


def test_derived_changes_can_be_applied_in_javascript(load: Load, history: History) -> None:
    """Our bytes are changes to JavaScript also without this project's engine in between."""
    assert_the_same(load({"changes": [encoded(change.data) for change in history.changes]}), history)


def test_what_javascript_saved_opens_here(load: Load, history: History) -> None:
    """A document of ours that JavaScript loaded and saved again is still ours."""
    seen = load({"changes": [encoded(change.data) for change in history.changes]})
    document = Document.open(base64.b64decode(seen["saved"]))
    assert document.items() == history.content
    assert document.heads() == history.heads()


def test_an_empty_document_loads_in_javascript(load: Load) -> None:
    """A document without changes has no items, heads or changes there either."""
    seen = load({"saved": encoded(Document.open(None).save())})
    assert (seen["items"], seen["heads"], seen["changes"]) == ([], [], [])
