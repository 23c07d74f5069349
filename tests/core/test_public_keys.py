"""Public keys of people: what is taken for one, and how it is called."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cluster_store.core import public_keys
from cluster_store.core.errors import InvalidValue
from tests.core.keyring import blob, key_line

RSA = blob(b"ssh-rsa", b"\1\0\1", b"\0" + b"\xff" * 256)
ALICE = key_line("alice")


def test_a_key_is_what_its_line_says() -> None:
    """Kind, data and comment come apart and together again; blanks around them do not count."""
    key = public_keys.parse(f"  {ALICE}   alice at home \n")
    assert key.line == f"{ALICE} alice at home"
    assert (key.kind, key.comment) == ("ssh-ed25519", "alice at home")
    assert key.same(public_keys.parse(ALICE))
    assert not key.same(public_keys.parse(key_line("bob")))
    assert public_keys.parse(f"ssh-rsa {RSA}").kind == "ssh-rsa"
    in_hardware = "sk-ssh-ed25519@openssh.com"
    assert public_keys.parse(f"{in_hardware} {blob(in_hardware.encode(), b'1' * 32, b'ssh:')}").kind == in_hardware


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed")
@pytest.mark.parametrize("kind", [["ed25519"], ["rsa", "-b", "2048"], ["ecdsa", "-b", "256"], ["ecdsa", "-b", "521"]])
def test_keys_of_openssh_are_taken_and_called_as_it_calls_them(kind: list[str], tmp_path: Path) -> None:
    """Every kind that can log in, with the fingerprint that ``ssh-keygen -l`` prints."""
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", file, "-t", *kind], check=True)
    line = Path(f"{file}.pub").read_text(encoding="utf-8")
    shown = subprocess.run(["ssh-keygen", "-l", "-f", f"{file}.pub"], check=True, capture_output=True, text=True).stdout
    assert public_keys.parse(line).fingerprint == shown.split()[1]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "not a public key that can log in"),
        ("hello", "not a public key that can log in"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "that is a private key"),
        (f'from="10.0.0.1" {ALICE}', "not a public key that can log in"),
        (f"ssh-dss {blob(b'ssh-dss', b'1')}", "not a public key that can log in"),
        ("ssh-ed25519", "is cut off or damaged"),
        (ALICE[:-6], "is cut off or damaged"),
        (ALICE + "=", "is not written as it should be"),
        (ALICE[:-2] + "ü=", "is cut off or damaged"),
        (f"ssh-rsa {blob(b'ssh-ed25519', b'1' * 32)}", "is of another kind than its line says"),
        (f"ssh-ed25519 {blob(b'ssh-ed25519', b'1' * 32, b'2')}", "is of another kind than its line says"),
        (f"ssh-ed25519 {blob(b'ssh-ed25519', b'1' * 31)}", "has a wrong length"),
        (f"ssh-rsa {blob(b'ssh-rsa', b'3', b'7' * 128)}", "must have from 2048 to 16384 bits"),
        (f"{ALICE} two\x1blines", "is no short line of text"),
        (f"{ALICE} {'x' * 201}", "is no short line of text"),
    ],
)
def test_what_is_no_key_is_refused_by_name(line: str, why: str) -> None:
    """Whatever an operator may paste in its place."""
    with pytest.raises(InvalidValue, match=why):
        public_keys.parse(line)


def test_of_foreign_lines_those_that_are_keys_count() -> None:
    """A member may have written anything."""
    assert [key.line for key in public_keys.of_lines(("x", ALICE, "ssh-rsa AAAA"))] == [ALICE]
