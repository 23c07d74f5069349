"""A machine's keys on disk: made once, for one user's eyes, read back as they were or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.adapters.keys import CLIENT_FILE, HOST_FILE, IDENTITY_FILE, Keys
from cluster_store.core.errors import InvalidValue, Refused, StoreCorrupt, StoreError, StoreFull, StoreMissing

FILES = (IDENTITY_FILE, HOST_FILE, CLIENT_FILE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with keys in it."""
    Keys.create(tmp_path / "keys")
    return tmp_path / "keys"


def _ssh_keygen(*arguments: str) -> str:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    return subprocess.run(["ssh-keygen", *arguments], check=True, capture_output=True, text=True).stdout


def test_keys_are_read_back_as_they_were_made(tmp_path: Path) -> None:
    """What create returned and what load returns are the same three keys."""
    made = Keys.create(tmp_path / "keys")
    loaded = Keys.load(tmp_path / "keys")
    for keys in (made, loaded):
        assert keys.identity_public == made.identity_public
        assert keys.sign(b"data") == made.sign(b"data")
        assert (keys.host_key_line, keys.client_key_line) == (made.host_key_line, made.client_key_line)


def test_two_machines_and_three_purposes_never_share_a_key() -> None:
    """Every key is fresh."""
    machines = [Keys.generate() for _ in range(3)]
    lines = [line for keys in machines for line in (keys.host_key_line, keys.client_key_line)]
    assert len({*lines, *(keys.identity_public for keys in machines)}) == 9


def test_only_the_owner_can_read_the_keys_whatever_the_umask(tmp_path: Path) -> None:
    """The files are 0600 and the folder 0700, in a folder that was open before as well."""
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        Keys.create(folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == dict.fromkeys(FILES, 0o600)


@given(st.binary(max_size=300))
def test_a_signature_is_of_the_identity_key_and_of_exactly_these_bytes(data: bytes) -> None:
    """It verifies against the public key, and not for other data."""
    keys = Keys.generate()
    public = Ed25519PublicKey.from_public_bytes(keys.identity_public)
    signature = keys.sign(data)
    assert (len(keys.identity_public), len(signature)) == (32, 64)
    public.verify(signature, data)
    with pytest.raises(InvalidSignature):
        public.verify(signature, data + b"\0")


# --- what ssh-keygen makes of them ---


@pytest.mark.parametrize("name", [HOST_FILE, CLIENT_FILE])
def test_ssh_keygen_shows_the_same_key_and_fingerprint(folder: Path, name: str) -> None:
    """An operator who inspects a key file sees what peers see."""
    keys = Keys.load(folder)
    line = keys.host_key_line if name == HOST_FILE else keys.client_key_line
    assert line.startswith("ssh-ed25519 AAAA")
    assert _ssh_keygen("-y", "-P", "", "-f", str(folder / name)).split() == line.split()
    bits, fingerprint, *_, kind = _ssh_keygen("-lf", str(folder / name)).split()
    assert (bits, fingerprint, kind) == ("256", Keys.fingerprint(line), "(ED25519)")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_fingerprints_are_those_of_openssh_for_every_kind_of_key(tmp_path: Path, kind: str) -> None:
    """People's keys have fingerprints too; a comment, and the end of the line, make no difference."""
    path = tmp_path / "key"
    _ssh_keygen("-q", "-t", kind, "-N", "", "-C", "a comment", "-f", str(path))
    line = path.with_suffix(".pub").read_text()
    assert Keys.fingerprint(line) == _ssh_keygen("-lf", str(path)).split()[1]
    assert Keys.fingerprint(" ".join(line.split()[:2])) == Keys.fingerprint(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 !!!",
        "ssh-ed25519 AAAA",
        "é é",
        "ssh-rsa {blob}",
        "{blob}",
        "ssh-ed25519 {blob}==",
    ],
)
def test_what_is_no_public_key_has_no_fingerprint(line: str) -> None:
    """Also not when the line says another kind than what is encoded."""
    with pytest.raises(InvalidValue):
        Keys.fingerprint(line.format(blob=Keys.generate().host_key_line.split()[1] + "A"))


# --- what is refused ---


@pytest.mark.parametrize("name", FILES)
def test_a_key_is_never_overwritten(tmp_path: Path, name: str) -> None:
    """Creating keys beside any one that exists is refused, and changes nothing."""
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / name).write_text("precious")
    with pytest.raises(Refused) as caught:
        Keys.create(folder)
    assert str(folder / name) in caught.value.message
    assert {path.name: path.read_text() for path in folder.iterdir()} == {name: "precious"}


@pytest.mark.parametrize("name", FILES)
def test_a_key_that_is_not_there_is_named(folder: Path, name: str) -> None:
    """A store with one key missing is not used."""
    (folder / name).unlink()
    with pytest.raises(StoreMissing) as caught:
        Keys.load(folder)
    assert str(folder / name) in caught.value.message
    assert caught.value.hint


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The hint says what makes one."""
    with pytest.raises(StoreMissing) as caught:
        Keys.load(tmp_path / "keys")
    assert str(tmp_path / "keys") in caught.value.message
    assert "backup" in caught.value.hint


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_can_open_is_refused(folder: Path, name: str, mode: int) -> None:
    """The hint is the command that mends it, and it does."""
    (folder / name).chmod(mode)
    with pytest.raises(StoreCorrupt) as caught:
        Keys.load(folder)
    assert f"{mode:04o}" in caught.value.message
    assert f"chmod 600 {folder / name}" in caught.value.hint
    (folder / name).chmod(0o600)
    Keys.load(folder)


def test_a_folder_that_others_can_enter_is_refused(folder: Path) -> None:
    """Whoever can write to the folder can put another key in the place of one."""
    folder.chmod(0o755)
    with pytest.raises(StoreCorrupt) as caught:
        Keys.load(folder)
    assert f"chmod 700 {folder}" in caught.value.hint


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flip(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    lines[1] = lines[1][:10] + (b"A" if lines[1][10:11] != b"A" else b"B") + lines[1][11:]
    return b"".join(lines)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage",
    [_cut, _flip, lambda _: b"", lambda _: b"\0" * 400, lambda _: b"A" * 1_000_000],
    ids=["cut", "flipped", "empty", "zeros", "long"],
)
def test_a_damaged_key_is_named(folder: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    """Whatever became of the bytes, the error is one that an operator can act on."""
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(StoreCorrupt) as caught:
        Keys.load(folder)
    assert str(folder / name) in caught.value.message
    assert "backup" in caught.value.hint


@pytest.mark.parametrize("name", FILES)
def test_another_kind_of_key_is_refused(folder: Path, name: str) -> None:
    """Only ed25519 is a machine's key, however good another one may be."""
    form = PrivateFormat.PKCS8 if name == IDENTITY_FILE else PrivateFormat.OpenSSH
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, form, NoEncryption())
    (folder / name).write_bytes(other)
    with pytest.raises(StoreCorrupt, match="ed25519"):
        Keys.load(folder)


def test_a_key_with_a_passphrase_is_refused(folder: Path) -> None:
    """Nobody could type it when a daemon starts."""
    other = generate_private_key(SECP256R1())
    (folder / IDENTITY_FILE).write_bytes(
        other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    with pytest.raises(StoreCorrupt) as caught:
        Keys.load(folder)
    assert IDENTITY_FILE in caught.value.message


def test_one_key_in_two_places_is_refused(folder: Path) -> None:
    """A key copied to another purpose would make a signature for one good for the other."""
    (folder / CLIENT_FILE).write_bytes((folder / HOST_FILE).read_bytes())
    with pytest.raises(StoreCorrupt, match="same key"):
        Keys.load(folder)


# --- crashes and full disks ---


def test_a_crash_while_a_key_is_written_leaves_no_half_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every step, each key is whole or absent, and what was left behind is in nobody's way."""
    steps = 0

    def crash_at(limit: int) -> Callable[[int], None]:
        def sync(_descriptor: int) -> None:
            nonlocal steps
            steps += 1
            if steps == limit:
                raise KeyboardInterrupt

        return sync

    for limit in range(1, 8):
        folder, steps = tmp_path / str(limit), 0
        monkeypatch.setattr("os.fsync", crash_at(limit))
        with pytest.raises(KeyboardInterrupt):
            Keys.create(folder)
        for name in FILES:
            assert not (folder / name).exists() or (folder / name).read_bytes().endswith(b"PRIVATE KEY-----\n")
    monkeypatch.undo()
    leftover = tmp_path / "1"
    assert [path.name for path in leftover.iterdir()] == [IDENTITY_FILE + ".new"]
    Keys.create(leftover)
    assert sorted(path.name for path in leftover.iterdir()) == sorted(FILES)
    Keys.load(leftover)


def test_a_full_disk_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator is told to make room, not that a key is damaged."""

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreFull, match="No space left"):
        Keys.create(tmp_path / "keys")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the way is an error of the store with the path in it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/keys"):
        Keys.create(tmp_path / "file" / "keys")
    with pytest.raises(StoreCorrupt, match="file/keys"):
        Keys.load(tmp_path / "file" / "keys")


def test_reading_keys_does_not_load_the_ssh_library() -> None:
    """Commands that only seal a record must start at once."""
    code = "import sys, cluster_store.adapters.keys; sys.exit('asyncssh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
