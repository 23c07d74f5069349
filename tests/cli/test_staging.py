"""Drafts, as an operator has them: on disk, private, damaged, saved with the store; the stories are transcripts."""

from __future__ import annotations

import asyncio
import json
import re
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cluster_store_cli import shell
from cluster_store_cli.session import Session

from cluster_store import bootstrap
from cluster_store.adapters.drafts import Drafts
from cluster_store.core import commands
from cluster_store.core.errors import ClusterStoreError, OverLimit, StoreCorrupt, StoreError
from tests.cli.stores import Store
from tests.cli.test_history_commands import Replica, events
from tests.collisions import stored_collision

SALT = b"0123456789abcdef"


@pytest.fixture
def mx1(tmp_path: Path) -> Store:
    """The store of a machine that was cut off from another one, with a conflict about smtp.banner."""
    asyncio.run(stored_collision(tmp_path))
    return Replica(tmp_path / "mx1")


def file_of(store: Store) -> Path:
    """Return the only draft beside a store."""
    (path,) = (store.root / "drafts").glob("*.json")
    return path


# --- on disk -------------------------------------------------------------------------------------------


def test_a_draft_is_its_owners_alone(store: Store) -> None:
    """Nobody else can read the file, in which secrets are; nothing that is shown has them."""
    store.do("set", "relay.password", "--secret", "--password-stdin", typed="geheim\n")
    path = file_of(store)
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    assert "geheim" in path.read_text()
    shown = [store.run(*words) for words in (("diff",), ("diff", "--json"), ("clearchanges", "--json"))]
    assert all("geheim" not in one.out + one.err and "(secret)" in one.out for one in shown)


def test_only_what_differs_is_staged(store: Store) -> None:
    """What is so already, live or with what is staged, takes no room."""
    store.do("set", "a", "1", "-m", "why")
    assert store.ask("set", "a", "1")["staged"] is False
    assert store.ask("set", "a", "2")["staged"] is True
    assert store.ask("set", "a", "2")["staged"] is False
    assert store.ask("status")["staged"] == 1
    assert [one["kind"] for one in events(store)][-1] == "SettingSet"


def test_a_damaged_draft_is_set_aside(store: Store) -> None:
    """It is told once, what is left of it is kept, and the next change is staged as ever."""
    store.do("set", "a", "1")
    path = file_of(store)
    path.write_bytes(path.read_bytes()[:-9])
    told = store.run("commit").expect(1).err
    assert told.startswith(f"the draft {path} was damaged (")
    (aside,) = path.parent.glob("*.damaged-*")
    assert str(aside) in told
    assert store.run("diff").expect(0).out == "nothing is staged\n"
    path.write_text("nor this")
    store.run("diff").expect(1)
    assert len(list(path.parent.glob("*.damaged-*"))) == 2
    store.do("set", "a", "1")
    store.do("commit")
    assert store.get("a") == 1


@pytest.mark.parametrize("words", [("status",), ("shell",)])
def test_a_damaged_draft_stops_nobody_who_only_looks(store: Store, words: tuple[str, ...]) -> None:
    """They are told beside the answer."""
    store.do("set", "a", "1")
    file_of(store).write_text("{}")
    outcome = store.run(*words).expect(0)
    assert "was damaged" in outcome.err
    assert list((store.root / "drafts").glob("*.damaged-*"))


def test_somebody_elses_file_is_no_draft(store: Store) -> None:
    """A file under another one's name was put there by hand."""
    store.do("set", "a", "1")
    path = file_of(store)
    path.rename(path.with_name("bob.json"))
    with pytest.raises(StoreCorrupt, match="another one's"):
        Drafts(path.parent).load("bob")


def test_a_draft_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be beyond it is refused, and what was there stays."""
    drafts = Drafts(tmp_path / "drafts")
    drafts.save("../os:a%", [])
    monkeypatch.setattr("cluster_store.adapters.drafts.DRAFT_BYTES_MAX", 99)
    command = commands.SetSetting(key="a" * 99, value="1", level="cluster", salt=SALT)
    with pytest.raises(OverLimit, match="limit is 99"):
        drafts.save("../os:a%", [commands.Staged(command, ())])
    assert drafts.load("../os:a%").staged == ()
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path / "drafts"]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A store whose folder is gone, for one."""
    drafts = Drafts(tmp_path / "none" / "drafts")
    with pytest.raises(StoreError, match="cannot be written"):
        drafts.save("alice", [])


# --- between the event and the end -----------------------------------------------------------------------


def test_a_commit_that_was_cut_short_is_not_made_twice(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process ends when the event is there and the draft too, the next commit only clears the draft."""
    store.do("set", "a", "1")
    store.do("unset", "a")
    store.do("set", "a", "2")
    store.do("add", "hosts", "x")

    def ends(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Drafts, "drop", ends)
        store.run("commit", "-m", "once")
    assert store.get("a") == 2
    assert store.ask("status")["staged"] == 4
    before = store.state()
    assert store.run("diff").out == "all that is staged is so already\n"
    outcome = store.run("commit", "-m", "twice").expect(0)
    assert outcome.err == "all that was staged is so already; nothing is staged any more\n"
    assert store.state() == before
    assert store.ask("status")["staged"] == 0


def test_what_another_session_stages_meanwhile_is_not_committed_unseen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever commits has looked at all of it."""
    store.do("set", "a", "1")
    real = bootstrap.commit

    def later(*arguments: Any) -> dict[str, Any]:
        store.do("set", "b", "1")
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(bootstrap, "commit", later)
        assert store.run("commit").expect(1).err.startswith("the draft was changed meanwhile, by another session\n")
    assert store.ask("status")["staged"] == 2
    store.do("commit")
    assert store.get("b") == 1


def test_only_a_draft_can_be_committed(store: Store) -> None:
    """Neither operation takes another command than it is for."""
    name = msgspec.to_builtins(commands.AddGroup(name="rome"))
    for operation, arguments in (("stage", name), ("commit", {"command": name, "revision": ""})):
        with pytest.raises(ClusterStoreError, match="only"):
            bootstrap.execute(store.root, operation, arguments)


# --- kept with the store ---------------------------------------------------------------------------------


def test_drafts_are_in_a_backup(store: Store, tmp_path: Path) -> None:
    """A restored store has them; those of a store that it takes the place of are kept with that one."""
    store.do("set", "a", "1")
    store.do("backup", str(tmp_path / "mx1.tar"))
    other = Store(tmp_path / "other")
    other.do("restore", str(tmp_path / "mx1.tar"))
    assert other.ask("diff")["changes"][0]["new"] == 1
    other.do("set", "b", "1")
    other.do("restore", str(tmp_path / "mx1.tar"), "--force")
    assert [one["key"] for one in other.ask("diff")["changes"]] == ["a"]
    (former,) = other.root.glob("former-*")
    assert json.loads(next((former / "drafts").glob("*.json")).read_bytes())["staged"][1]["command"]["key"] == "b"
    other.do("commit")
    assert other.get("a") == 1


def test_a_draft_outlives_a_repair(store: Store) -> None:
    """It is about settings, and these are compared when it is committed."""
    store.do("set", "a", "1")
    (store.root / "cluster.db-shm").unlink(missing_ok=True)
    store.run("repair")
    store.do("commit")
    assert store.get("a") == 1


# --- shown -----------------------------------------------------------------------------------------------


def test_the_blast_radius_names_conflicts_and_silent_machines(mx1: Store) -> None:
    """A conflict that the change settles, one that it leaves, and a machine whose last record is old."""
    loading = ("loadconfig", "-", "--format", "json", "--dry-run", "--level")
    shown = mx1.run(*loading, "cluster", typed='{"smtp.banner": "new"}').expect(0).out
    assert "in conflict: cluster:smtp.banner is " in shown
    assert "; this settles it" in shown
    assert re.search(r"^not heard of lately: mx2 \(last \d+ days ago\)$", shown, re.MULTILINE)
    told = mx1.ask(*loading, "machine:mx2", typed='{"smtp.banner": "new"}')
    assert [(one["path"], one["settled"]) for one in told["conflicts"]] == [("cluster:smtp.banner", False)]
    assert [(one["machine"], one["last_contact"], one["last_record"][:4]) for one in told["unheard"]] == [
        ("mx2", None, "2023")
    ]
    assert told["impact"][0]["machines"] == ["mx2"]


def test_the_prompt_shows_what_is_staged(member: Store) -> None:
    """Behind the conflicts, in a cluster and out of one; whoever leaves is reminded."""
    with Session(str(member.root)).read() as reader:
        cluster, me = reader.cluster(), reader.me
    assert shell.prompt_of(cluster, me, None, ["1 conflict"], 2) == "(Cluster americas, 1 conflict, 2 staged)> "
    alone = msgspec.structs.replace(cluster, name="")
    assert shell.prompt_of(alone, me, None, staged=1) == "mx1.example.com, 1 staged> "
    told = member.run("shell", typed="set a 1\nset b 2\nexit\n").expect(0).err
    assert told.endswith("left staged: 2 changes; 'commit' makes it live, 'diff' shows it\n")
    assert "left staged" not in member.run("shell", typed="commit\n").expect(0).err
