"""``loadconfig``, ``showconfig`` and ``saveconfig``: settings from files and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.stores import Store

MAIN_CF = """\
# A comment
smtpd_banner = $myhostname ESMTP
mynetworks = 127.0.0.0/8
    192.0.2.0/24
# in between
    [::1]/128
version = 1.10
empty =
"""
SETTINGS = {
    "smtpd_banner": "$myhostname ESMTP",
    "mynetworks": "127.0.0.0/8    192.0.2.0/24    [::1]/128",
    "version": "1.10",
    "empty": "",
}


def test_a_file_becomes_one_event(member: Store, tmp_path: Path) -> None:
    """Every key at one level, with the comment; what the file does not name stays."""
    member.do("set", "other", "1", "-m", "why")
    file = tmp_path / "main.cf"
    file.write_text(MAIN_CF)
    before = member.ask("status")["records"]
    outcome = member.run("loadconfig", str(file), "-m", "from Postfix").expect(0)
    assert "4 settings set at cluster" in outcome.err
    assert member.ask("status")["records"] == before + 1
    assert json.loads(member.do("showconfig")) == {**SETTINGS, "other": 1}
    assert "nothing to change at cluster" in member.run("loadconfig", str(file), "-m", "why").expect(0).err


def test_a_cf_file_comes_back(member: Store, tmp_path: Path) -> None:
    """What is saved as .cf loads as the same settings, without another event."""
    (tmp_path / "main.cf").write_text(MAIN_CF)
    member.do("loadconfig", str(tmp_path / "main.cf"), "-m", "why")
    member.do("saveconfig", str(tmp_path / "copy.cf"))
    assert "version = 1.10\n" in (tmp_path / "copy.cf").read_text()
    assert member.ask("loadconfig", str(tmp_path / "copy.cf"), "-m", "why")["changed"] is False
    assert member.do("showconfig", "--format", "CF") == (tmp_path / "copy.cf").read_text()


def test_nested_keys_become_dotted_and_nested_again(member: Store) -> None:
    """JSON is flat unless it is asked to be nested."""
    member.do("loadconfig", "-", "--format", "yaml", "-m", "why", typed="smtp:\n  banner: hi\n  limits: {max: 5}\n")
    assert json.loads(member.do("showconfig")) == {"smtp.banner": "hi", "smtp.limits.max": 5}
    assert json.loads(member.do("showconfig", "--nested")) == {"smtp": {"banner": "hi", "limits": {"max": 5}}}
    assert member.do("saveconfig", "-", "--format", "yaml", "--prefix", "smtp.b") == 'smtp.banner: "hi"\n'


def test_a_level_s_own_settings_are_not_the_effective_ones(member: Store) -> None:
    """--level shows what is kept there, --machine what counts there."""
    member.do("loadconfig", "-", "--format", "json", "--level", "cluster", "-m", "why", typed='{"a": 1, "b": 1}')
    member.do("loadconfig", "-", "--format", "toml", "--level", "group:Main_Group", "-m", "why", typed="b = 2")
    assert json.loads(member.do("showconfig", "--level", "group:Main_Group")) == {"b": 2}
    assert json.loads(member.do("showconfig", "--machine", "mx1.example.com")) == {"a": 1, "b": 2}


def test_a_prefix_puts_a_file_under_a_key(member: Store) -> None:
    """With or without a dot at its end."""
    member.do("loadconfig", "-", "--format", "json", "--prefix", "postfix", "-m", "why", typed='{"version": "1.10"}')
    member.do("loadconfig", "-", "--format", "json", "--prefix", "dovecot.", "-m", "why", typed='{"version": "1.10"}')
    assert json.loads(member.do("showconfig")) == {"postfix.version": "1.10", "dovecot.version": "1.10"}


def test_a_rehearsal_shows_and_changes_nothing(member: Store) -> None:
    """What each key is now, and what it would become."""
    member.do("set", "a", "1", "-m", "why")
    member.do("set", "same", "1", "-m", "why")
    member.do("add", "hosts", "x", "-m", "why")
    member.do("set", "hidden", "--secret", "--password-stdin", "-m", "why", typed="s3cret")
    before = member.state()
    file = '{"a": 123456789012345678901234567890, "b": "new", "same": 1, "hosts": ["x", "y"], "hidden": "clear"}'
    told = json.loads(member.do("loadconfig", "-", "--format", "json", "--dry-run", "--json", typed=file))
    assert told["level"] == "cluster"
    assert sorted(told["changes"], key=lambda change: str(change["key"])) == [
        {"key": "a", "old": 1, "new": 123456789012345678901234567890},
        {"key": "b", "old": None, "new": "new"},
        {"key": "hidden", "old": "(secret)", "new": "(secret)"},
        {"key": "hosts", "old": ["x"], "new": ["x", "y"]},
    ]
    shown = member.run("loadconfig", "-", "--format", "json", "--dry-run", typed=file).expect(0)
    assert "4 settings would change at cluster; nothing was changed" in shown.err
    assert "123456789012345678901234567890" in shown.out
    assert member.state() == before


def test_what_a_reader_of_the_file_should_know_is_said(member: Store) -> None:
    """After the settings are in, on standard error and in JSON."""
    outcome = member.run("loadconfig", "-", "--format", "cf", "--json", "-m", "why", typed="a = 1\na = 2\n").expect(0)
    assert "a is set again" in outcome.err
    assert len(json.loads(outcome.out)["warnings"]) == 1


def test_a_saved_file_is_whole_and_its_owner_s(member: Store, tmp_path: Path) -> None:
    """It takes the place of what was there; nothing else is left beside it."""
    folder = tmp_path / "files"
    folder.mkdir()
    file = folder / "config.json"
    file.write_text("before")
    file.chmod(0o644)
    member.do("set", "a", "é", "-m", "why")
    assert member.ask("saveconfig", str(file)) == {"file": str(file), "settings": 1, "left_out": []}
    assert file.read_text(encoding="utf-8") == '{\n  "a": "é"\n}\n'
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(folder.iterdir()) == [file]


def test_secrets_are_left_out_of_files(member: Store, tmp_path: Path) -> None:
    """And named, so that nobody takes the file for complete."""
    member.do("set", "hidden", "--secret", "--password-stdin", "-m", "why", typed="s3cret")
    told = member.run("saveconfig", str(tmp_path / "x.yaml")).expect(0)
    assert told.err.splitlines()[-1] == "left out, being secret: hidden"
    assert (tmp_path / "x.yaml").read_text() == "{}\n"


def test_a_value_that_no_file_can_hold_is_not_saved(member: Store, tmp_path: Path) -> None:
    """An object would come back as settings of its own; it is shown, but not written."""
    member.do("set", "a", '{"b": 1}', "-m", "why")
    assert json.loads(member.do("showconfig")) == {"a": {"b": 1}}
    assert "the value of a is an object" in member.refuse("saveconfig", str(tmp_path / "x.json"))
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("name", ["none/x.json", "."])
def test_a_file_that_cannot_be_written_is_named(member: Store, tmp_path: Path, name: str) -> None:
    """With the system's reason."""
    assert f"{tmp_path / name} cannot be written" in member.refuse("saveconfig", str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == ["mx1"]
