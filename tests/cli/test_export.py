"""``replay --export``: files that an outside auditor checks with nothing of this program."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.cli.stores import Store
from tests.collisions import stored_collision


@pytest.fixture(scope="module")
def _exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    asyncio.run(stored_collision(folder))
    Store(folder / "mx1").do("replay", "--export", str(folder / "out"))
    return folder / "out"


@pytest.fixture
def export(_exported: Path, tmp_path: Path) -> Path:
    """An export that the test may change."""
    shutil.copytree(_exported, tmp_path / "out")
    return tmp_path / "out"


def check(export: Path, *words: str) -> tuple[int, str]:
    """Run the export's own verifier, which sees neither this program nor its folder; return status and output."""
    done = subprocess.run(
        [sys.executable, "-I", str(export / "verify.py"), *words],
        cwd=export,
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def events_of(export: Path) -> list[Path]:
    """Return the files of the events, in their order."""
    return sorted((export / "events").iterdir())


def index_of(export: Path) -> dict[str, Any]:
    """Return the index."""
    found: dict[str, Any] = orjson.loads((export / "index.json").read_bytes())
    return found


def test_an_export_passes_and_tells_the_newest_events(export: Path) -> None:
    """Every event of both machines is checked, and the id of each machine's newest one is told for comparing."""
    status, said = check(export)
    assert status == 0, said
    index = index_of(export)
    assert f"all {len(events_of(export))} events are as they were written, in the cluster {index['cluster']}" in said
    assert said.count("newest of ") == 2
    assert check(export, "--cluster", str(index["cluster"]))[0] == 0
    assert check(export, "--cluster", "f" * 64)[0] == 1
    last = index["events"][-1]
    assert check(export, "--expect", str(last))[0] == 0


def test_the_verifier_needs_only_the_standard_library_and_one_other(export: Path) -> None:
    """It imports nothing of this program."""
    text = (export / "verify.py").read_text(encoding="utf-8")
    imported = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported - sys.stdlib_module_names == {"cryptography"}


def forge(content: bytes) -> bytes:
    """Change a value."""
    assert b'"two' in content or b'\\"two' in content
    return content.replace(b"two", b"six")


def other_seal(content: bytes) -> bytes:
    """Change one digit of the seal."""
    data, _, seal = content.partition(b"\n")
    return data + b"\n" + (b"0" if seal[:1] != b"0" else b"1") + seal[1:]


def renamed(export: Path, path: Path, content: bytes) -> str:
    """Put another content in an event's place, and correct the index and the file's name; return its id."""
    from hashlib import sha256  # noqa: PLC0415 - for the forger alone

    data, _, seal = content.partition(b"\n")
    fresh = sha256(data + bytes.fromhex(seal.decode().strip())).hexdigest()
    index = index_of(export)
    position = int(path.name.partition("-")[0])
    index["events"][position - 1] = fresh
    (export / "index.json").write_bytes(orjson.dumps(index))
    path.unlink()
    path.with_name(f"{position:08}-{fresh[:10]}.event").write_bytes(content)
    return fresh


def of_mx2(export: Path) -> Path:
    """Return the file of the event that set a banner on the other machine."""
    return next(path for path in events_of(export) if b'\\"two\\"' in path.read_bytes())


@pytest.mark.parametrize("change", [forge, other_seal])
def test_a_changed_event_is_named(export: Path, change: Callable[[bytes], bytes]) -> None:
    """Whatever differs in an event, its file is named."""
    path = of_mx2(export)
    path.write_bytes(change(path.read_bytes()))
    status, said = check(export)
    assert status == 1
    assert path.name in said
    assert "its hash is another" in said


@pytest.mark.parametrize("change", [forge, other_seal])
def test_a_changed_event_under_a_corrected_index_is_named(export: Path, change: Callable[[bytes], bytes]) -> None:
    """Whoever corrects the index too cannot make the machine's seal; the event is named by machine and number."""
    path = of_mx2(export)
    fresh = renamed(export, path, change(path.read_bytes()))
    status, said = check(export)
    assert status == 1
    assert "mx2#" in said
    assert fresh[:10] in said
    assert "its seal is not its machine's" in said


def test_a_missing_event_is_named(export: Path) -> None:
    """Without its file, and without its place in the index, it is missed by what came after it."""
    path = of_mx2(export)
    event = path.name.partition("-")[2][:10]
    path.unlink()
    status, said = check(export)
    assert (status, path.name in said) == (1, True)
    index = index_of(export)
    kept = [one for one in index["events"] if not one.startswith(event)]
    (export / "index.json").write_bytes(orjson.dumps({**index, "events": kept}))
    files = events_of(export)
    for position, one in enumerate(kept, 1):
        found = next(file for file in files if file.name.endswith(f"-{one[:10]}.event"))
        found.rename(found.with_name(f"{position:08}-{one[:10]}.event"))
    status, said = check(export)
    assert status == 1
    assert "is not there" in said
    assert event in said


def test_events_in_another_order_are_named(export: Path) -> None:
    """An event before what it came after is no history."""
    index = index_of(export)
    ids = list(index["events"])
    *_, one, two = events_of(export)
    ids[-2:] = ids[:-3:-1]
    one.rename(one.with_name(f"{len(ids):08}-{ids[-1][:10]}.event"))
    two.rename(two.with_name(f"{len(ids) - 1:08}-{ids[-2][:10]}.event"))
    (export / "index.json").write_bytes(orjson.dumps({**index, "events": ids}))
    status, said = check(export)
    assert status == 1
    assert "is not there" in said


def test_a_cut_tail_is_found_by_who_knows_what_to_expect(export: Path) -> None:
    """Without the newest events an export is consistent; an id from another machine shows that they are gone."""
    index = index_of(export)
    *kept, last = index["events"]
    events_of(export)[-1].unlink()
    (export / "index.json").write_bytes(orjson.dumps({**index, "events": kept}))
    assert check(export)[0] == 0
    status, said = check(export, "--expect", str(last))
    assert status == 1
    assert f"the event {last} is not there" in said


def test_a_file_too_many_and_an_unreadable_index(export: Path) -> None:
    """What the index does not have is named; an index that is none ends with another status."""
    (export / "events" / "00000000-more.event").write_bytes(b"{}\n\n")
    assert check(export)[0] == 1
    (export / "index.json").write_bytes(b"[]")
    assert check(export)[0] == 2


def test_an_export_of_a_part_says_so(member: Store, tmp_path: Path) -> None:
    """Up to an event, only what that came after is exported; a folder that holds something is refused."""
    member.do("set", "a", "1", "-m", "why")
    member.do("replay", "--until", "mx1.example.com#3", "--export", str(tmp_path / "part"))
    assert len(events_of(tmp_path / "part")) == 3
    status, said = check(tmp_path / "part")
    assert status == 0
    assert "of a part of the log only" in said
    assert "is not empty" in member.refuse("replay", "--export", str(tmp_path / "part"))


def test_no_secret_is_exported(export: Path) -> None:
    """The values of secrets are not in the events, so they are not in the files."""
    assert all(b"s3cret" not in path.read_bytes() for path in events_of(export))
