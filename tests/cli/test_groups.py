"""``clusterconfig renamegroup``, ``deletegroup`` and ``setname``: what they do, show, ask and refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cluster_store_cli import prompts

from tests.cli.stores import Store

MX1 = "mx1.example.com"


def groups(store: Store) -> dict[str, int]:
    """Return each group's name, and how many machines are in it."""
    listed = store.ask("clusterconfig", "list")["groups"]
    return {group["name"]: len(group["machines"]) for group in listed}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody sits at the terminal and gives these answers, once filled in."""
    given: list[str] = []
    monkeypatch.setattr(prompts, "at_terminal", lambda: True)
    monkeypatch.setattr(prompts, "ask", lambda _: given.pop(0))
    return given


def test_a_group_gets_another_name(member: Store) -> None:
    """In any case of letters; the first group too."""
    told = member.run("clusterconfig", "RENAMEGROUP", "PARIS", "Rome", "-m", "moved").expect(0)
    assert told.err.startswith("the group PARIS is now named Rome, event ")
    member.do("clusterconfig", "renamegroup", "main_group", "Nantes")
    assert groups(member) == {"Nantes": 1, "Rome": 0}
    assert "nothing to change" in member.run("clusterconfig", "renamegroup", "Rome", "Rome").expect(0).err
    assert "there is already a group named 'rome'" in member.refuse("clusterconfig", "renamegroup", "Nantes", "rome")
    assert "there is no group named 'Oslo'" in member.refuse("clusterconfig", "renamegroup", "Oslo", "x")


def test_the_cluster_gets_another_name(member: Store) -> None:
    """``list`` shows it; a name that cannot be one is refused."""
    member.do("clusterconfig", "setname", "europe")
    assert member.ask("clusterconfig", "list")["cluster"] == "europe"
    assert "the cluster name is empty" in member.refuse("clusterconfig", "setname", "").replace(
        "a cluster", "the cluster"
    )


def test_a_deleted_group_s_machines_go_to_the_one_that_is_left(member: Store) -> None:
    """What was set there counts for nobody any more; it is told whose values that changes."""
    member.do("clusterconfig", "setgroup", MX1, "paris")
    member.do("set", "smtp.banner", "Bienvenue", "--level", "group:paris", "-m", "why")
    told = member.run("clusterconfig", "deletegroup", "paris").expect(0).err
    assert f"effective values change on {MX1}: smtp.banner\n" in told
    assert f"the group paris is deleted: {MX1} to Main_Group, event " in told
    assert groups(member) == {"Main_Group": 1}
    assert member.run("get", "smtp.banner").status == 1
    assert "Main_Group is the only group" in member.refuse("clusterconfig", "deletegroup", "Main_Group")
    problems = {problem["kind"] for problem in _found(member)["problems"]}
    assert problems == {"settings without effect"}
    member.do("clusterset", "delete", "smtp.", "--from", "group:paris", "-m", "why")
    member.do("clustercheck")


def _found(store: Store) -> Any:
    return json.loads(store.run("clustercheck", "--json").expect(3).out)


def test_a_rehearsed_deletion_shows_whose_values_change_and_changes_nothing(member: Store) -> None:
    """Key by key, for people and for scripts."""
    member.do("clusterconfig", "addgroup", "lyon")
    member.do("clusterconfig", "setgroup", MX1, "paris")
    member.do("set", "a", "1", "--level", "group:paris", "-m", "why")
    member.do("set", "b", "2", "--level", "group:paris", "-m", "why")
    member.do("set", "b", "two", "--level", "group:lyon", "-m", "why")
    before = member.state()
    words = ["clusterconfig", "deletegroup", "paris", "--to", "LYON", "--dry-run"]
    told = member.ask(*words)
    assert (told["name"], told["to"], told["machines"], told["dry_run"]) == ("paris", "lyon", [MX1], True)
    assert told["impact"] == [
        {
            "machines": [MX1],
            "changes": [
                {"key": "a", "old": 1, "new": None, "level": None, "unset": True},
                {"key": "b", "old": 2, "new": "two", "level": "group:lyon", "unset": False},
            ],
        }
    ]
    shown = member.do(*words).splitlines()
    assert shown[0] == f"{MX1}:"
    assert [line.split() for line in shown[1:2] + shown[3:]] == [
        ["key", "now", "then", "from"],
        ["a", "1", "unset"],
        ["b", "2", '"two"', "group:lyon"],
    ]
    assert member.do("clusterconfig", "deletegroup", "lyon", "--to", "paris", "--dry-run").splitlines() == [
        "no machine's effective values change"
    ]
    assert member.state() == before
    assert "say which one with --to: lyon, Main_Group" in member.refuse("clusterconfig", "deletegroup", "paris")
    assert "there is no group named 'rome'" in member.refuse(*words[:3], "--to", "rome", "--dry-run")


def test_somebody_at_a_terminal_is_asked(member: Store, answers: list[str]) -> None:
    """A no changes nothing; --yes asks nothing."""
    answers[:] = ["no"]
    before = groups(member)
    assert "was not confirmed" in member.run("clusterconfig", "deletegroup", "paris").expect(1).err
    assert groups(member) == before
    answers[:] = ["y"]
    member.do("clusterconfig", "deletegroup", "paris")
    member.do("clusterconfig", "addgroup", "lyon")
    member.do("clusterconfig", "deletegroup", "lyon", "--yes")
    assert (answers, groups(member)) == ([], {"Main_Group": 1})
