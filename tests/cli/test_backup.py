"""``backup`` and ``restore``: what is in the file, what is refused, and what a restored store goes on with."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.cli.damage import copied, state_of, statements, worked_with
from tests.cli.stores import Store


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that has been worked with; nobody changes it."""
    return worked_with(tmp_path_factory.mktemp("sound") / "mx1")


@pytest.fixture(scope="module")
def saved(sound: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of that store; nobody changes it."""
    path = tmp_path_factory.mktemp("saved") / "mx1.tar"
    sound.do("backup", str(path))
    return path


def test_a_backup_says_what_it_is(sound: Store, saved: Path) -> None:
    """It holds the database, the keys, and a manifest with the hash of each; only its owner can read it."""
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    with tarfile.open(saved) as tar:
        files = {entry.name: tar.extractfile(entry) for entry in tar if entry.isfile()}
        assert {entry.mode for entry in tar} == {0o600, 0o700}
        contents = {name: file.read() for name, file in files.items() if file is not None}
    manifest = json.loads(contents.pop("manifest.json"))
    status = sound.ask("status")
    assert (manifest["format"], manifest["machine"]) == (1, status["machine"])
    assert (manifest["hostname"], manifest["cluster_name"]) == (status["hostname"], "americas")
    assert manifest["records"] == status["records"]
    assert manifest["members"] == {
        name: {"size": len(data), "sha256": sha256(data).hexdigest()} for name, data in contents.items()
    }
    assert sorted(contents) == [
        "cluster.db",
        *(f"keys/{path.name}" for path in sorted((sound.root / "keys").iterdir())),
    ]


def test_unpacked_by_tar_it_is_a_store(saved: Path, sound: Store, tmp_path: Path) -> None:
    """Whoever has nothing but the file and a tar has the store."""
    with tarfile.open(saved) as tar:
        tar.extractall(tmp_path / "mx1", filter="tar")
    store = Store(tmp_path / "mx1")
    (store.root / "keys").chmod(0o700)
    store.do("verify")
    assert state_of(store) == state_of(sound)


def test_a_restored_store_never_uses_a_number_again(saved: Path, sound: Store, tmp_path: Path) -> None:
    """It says what was saved, and begins a new epoch with its first change, wherever it is."""
    store = Store(tmp_path / "elsewhere" / "mx1")
    told = store.ask("restore", str(saved))
    assert told["former"] is None
    assert told["records"] == sound.ask("status")["records"]
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (store.root / "keys").iterdir()} == {0o600}
    store.do("verify", "--every-signature")
    assert state_of(store) == state_of(sound)
    before = store.ask("status")["epoch"]
    store.do("set", "key.1", "after", "-m", "x")
    begun, changed = (json.loads(line) for line in store.do("log", "--json", "-n", "2").splitlines())
    assert (begun["kind"], begun["seq"], changed["seq"]) == ("EpochBegun", 1, 2)
    assert store.ask("status")["epoch"]["reason"] == "restored" != before["reason"]
    assert [path.name for path in store.root.iterdir() if path.name.startswith(("restoring", "."))] == []


def test_a_store_that_is_there_is_kept(saved: Path, sound: Store, tmp_path: Path) -> None:
    """Nothing is put in its place without being told to, and then it is put aside, whole."""
    store = copied(sound, tmp_path / "mx1")
    store.do("set", "key.1", "later", "-m", "x")
    later = state_of(store)
    assert "there is already a store" in store.refuse("restore", str(saved))
    told = store.ask("restore", str(saved), "--force")
    assert state_of(store) == state_of(sound)
    former = Store(Path(told["former"]))
    assert state_of(former) == later
    former.do("verify")
    again = store.ask("restore", str(saved), "--force")
    assert again["former"] != told["former"]


def test_keys_without_a_database_are_kept_too(saved: Path, sound: Store, tmp_path: Path) -> None:
    """What is left of a store may be all that is left of a machine's identity."""
    store = copied(sound, tmp_path / "mx1")
    (store.root / "cluster.db").unlink()
    assert "already a store" in store.run("restore", str(saved)).expect(1).err
    told = store.ask("restore", str(saved), "--force")
    assert (Path(told["former"]) / "keys" / "identity.pem").exists()
    store.do("verify")


def test_a_backup_through_a_pipe(sound: Store, tmp_path: Path) -> None:
    """Standard output takes one, and standard input gives it back; nothing else is printed there."""
    program = [sys.executable, "-m", "cluster_store_cli", "--store", str(sound.root), "backup", "-"]
    done = subprocess.run(program, capture_output=True, check=True)
    assert b"keep it as safe as the machine" in done.stderr
    store = Store(tmp_path / "mx1")
    store.do("restore", "-", typed=done.stdout)
    assert state_of(store) == state_of(sound)


@pytest.mark.parametrize("where", ["folder", "store", "special"])
def test_a_file_that_cannot_be_meant_is_refused(sound: Store, tmp_path: Path, where: str) -> None:
    """Not even with --force is anything overwritten that is no file, or that is the store's own."""
    paths = {"folder": tmp_path, "store": sound.root / "cluster.db", "special": Path("/dev/null")}
    before = state_of(sound)
    sound.run("backup", str(paths[where]), "--force").expect(1)
    assert state_of(sound) == before
    assert not Path("/dev/null").is_file()


def test_a_file_is_overwritten_only_when_told(sound: Store, tmp_path: Path) -> None:
    """A backup that is there may be the last one."""
    path = tmp_path / "mx1.tar"
    path.write_bytes(b"the last one")
    assert "--force" in sound.refuse("backup", str(path))
    assert path.read_bytes() == b"the last one"
    sound.do("backup", str(path), "--force")
    assert tarfile.is_tarfile(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mx1.tar"]
    assert "there is no folder" in sound.refuse("backup", str(tmp_path / "none" / "mx1.tar"))


def test_a_damaged_store_is_not_saved(sound: Store, tmp_path: Path) -> None:
    """A backup that could not be restored would only seem to be one, in the place of a good one."""
    store = copied(sound, tmp_path / "mx1")
    path = tmp_path / "mx1.tar"
    store.do("backup", str(path))
    good = path.read_bytes()
    statements("UPDATE lanes SET value = '\"owned\"' WHERE path LIKE '%key.2'")(store)
    assert "cluster-store repair" in store.run("backup", str(path), "--force").expect(1).err
    assert path.read_bytes() == good


# --- files that are no backup ------------------------------------------------------------------------


def packed(members: dict[str, bytes], manifest: Any = None) -> bytes:
    """Return an archive with these members behind a manifest."""
    told = manifest or {}
    files = {"manifest.json": json.dumps(told).encode(), **members}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def unpacked(path: Path) -> tuple[dict[str, bytes], Any]:
    """Return a backup's members and its manifest."""
    with tarfile.open(path) as tar:
        found = {entry.name: tar.extractfile(entry) for entry in tar if entry.isfile()}
        members = {name: file.read() for name, file in found.items() if file is not None}
    return members, json.loads(members.pop("manifest.json"))


def repacked(saved: Path, change: Callable[[dict[str, bytes], Any], None]) -> bytes:
    """Return a backup with something changed, and the hashes set right."""
    members, manifest = unpacked(saved)
    change(members, manifest)
    manifest["members"] = {
        name: {"size": len(data), "sha256": sha256(data).hexdigest()} for name, data in members.items()
    }
    return packed(members, manifest)


def drop_key(members: dict[str, bytes], _: Any) -> None:
    """Leave a machine's identity out of a backup."""
    del members["keys/identity.pem"]


def replace_key(members: dict[str, bytes], _: Any) -> None:
    """Put another machine's key into a backup."""
    members["keys/identity.pem"] = members["keys/identity.pem"][::-1]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda saved: b"",
        lambda saved: b"no archive at all",
        lambda saved: saved.read_bytes()[:50_000],
        lambda saved: saved.read_bytes()[:60_000] + b"\1" + saved.read_bytes()[60_001:],
        lambda saved: packed({}),
        lambda saved: packed({}, {"format": "one"}),
        lambda saved: packed(unpacked(saved)[0], {**unpacked(saved)[1], "format": 99}),
        lambda saved: packed({**unpacked(saved)[0], "../../evil": b"x"}, unpacked(saved)[1]),
        lambda saved: repacked(saved, replace_key),
        lambda saved: repacked(saved, drop_key),
        lambda saved: repacked(saved, lambda _, manifest: manifest.update(machine="0" * 32)),
        lambda saved: repacked(saved, lambda _, manifest: manifest.update(records=3)),
        lambda saved: repacked(
            saved, lambda members, _: members.update({"cluster.db": members["cluster.db"][:90_000]})
        ),
    ],
    ids=[
        *("empty", "text", "cut off", "a changed byte", "no members", "a manifest of another shape", "a later format"),
        *("a path outside", "a damaged key", "no key", "another machine", "another log", "a cut database"),
    ],
)
def test_what_is_no_whole_backup_takes_no_effect(saved: Path, tmp_path: Path, spoil: Callable[[Path], bytes]) -> None:
    """It is refused in words, and leaves neither a store nor anything of itself."""
    path = tmp_path / "spoilt.tar"
    path.write_bytes(spoil(saved))
    store = Store(tmp_path / "deep" / "mx1")
    outcome = store.run("restore", str(path)).expect(1)
    assert "bug" not in outcome.err
    assert 1 <= len(outcome.err.splitlines()) <= 2
    assert [entry.name for entry in store.root.iterdir() if entry.name != "lock"] == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["deep", "spoilt.tar"]


def test_a_backup_whose_log_was_changed_is_refused(saved: Path, tmp_path: Path) -> None:
    """Hashes that fit are not enough: the log is checked as ``verify`` checks it."""

    def change(members: dict[str, bytes], _: Any) -> None:
        inside = Store(tmp_path / "inside")
        inside.root.mkdir()
        (inside.root / "cluster.db").write_bytes(members["cluster.db"])
        text = "replace(CAST(envelope AS TEXT), 'value 3', 'value 4')"
        statements("UPDATE records SET envelope = CAST(" + text + " AS BLOB)")(inside)  # noqa: S608 - the text above
        members["cluster.db"] = (inside.root / "cluster.db").read_bytes()

    path = tmp_path / "changed.tar"
    path.write_bytes(repacked(saved, change))
    told = Store(tmp_path / "mx1").run("restore", str(path)).expect(1).err
    assert "the backup is damaged" in told
    assert "its bytes are not those that its id was made from" in told


def test_there_has_to_be_a_file(tmp_path: Path) -> None:
    """A name that leads nowhere is told as that."""
    assert "there is no file" in Store(tmp_path / "mx1").run("restore", str(tmp_path / "none.tar")).expect(1).err
    assert "cannot be read" in Store(tmp_path / "mx1").run("restore", str(tmp_path)).expect(1).err
