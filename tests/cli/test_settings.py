"""``set``, ``unset``, ``add``, ``remove`` and ``get``: values come back exactly, from the level that counts."""

from __future__ import annotations

import json

import pytest
from cluster_store_cli import lookup
from cluster_store_cli.program import perform

from tests.cli.stores import Store, run

#: As typed -> as JSON has it, and as -r prints it.
EXACTLY = {
    "hello": ('"hello"', "hello"),
    "1.10": ('"1.10"', "1.10"),
    "007": ('"007"', "007"),
    "1.5": ("1.5", "1.5"),
    "123456789012345678901234567890": ("123456789012345678901234567890",) * 2,
    "é": ('"é"', "é"),
    '" both ends "': ('" both ends "', " both ends "),
    " both ends ": ('" both ends "', " both ends "),
    "": ('""', ""),
    "true": ("true", "true"),
    "null": ("null", "null"),
    '{"b": [1, 2.5, "x"], "a": {}}': ('{"b":[1,2.5,"x"],"a":{}}',) * 2,
    r'"tab\tand\u0000"': (r'"tab\tand\u0000"', "tab\tand\0"),
}


@pytest.mark.parametrize(("typed", "text", "raw"), [(typed, *forms) for typed, forms in EXACTLY.items()])
def test_a_value_comes_back_as_it_was_given(store: Store, typed: str, text: str, raw: str) -> None:
    """As JSON, without a string's quotes, and within a JSON document: nothing is rounded, respelled or lost."""
    store.do("set", "key", typed, "-m", "why")
    assert store.do("get", "key") == text + "\n"
    assert store.do("get", "key", "-r") == raw + "\n"
    assert store.do("get", "key", "--json") == f'{{"key":"key","value":{text},"level":"machine:mx1.example.com"}}\n'


@pytest.mark.parametrize(
    "words",
    [
        ["get", "plain"],
        ["get", "plain", "-r"],
        ["get", "-r", "plain"],
        ["get", "plain", "--json"],
        ["--json", "get", "plain"],
        ["get", "--json", "plain", "-r"],
        ["get", "unset"],
        ["get", "unset", "--json"],
        ["get", "unset", "--default", "-5"],
        ["get", "unset", "--default", "x y", "-r"],
        ["get", "unset", "--default", "{", "--json"],
        ["get", "plain", "--default", "x"],
        ["get", "plain", "--machine", "mx1.example.com"],
        ["get", "plain", "--machine", "MX1.EXAMPLE.COM", "--json"],
        ["get", "plain", "--machine", "mx2"],
        ["get", "plain", "--level", "cluster"],
        ["get", "plain", "--level", "group:paris"],
        ["get", "plain", "--level", "planet"],
        ["get", "hosts"],
        ["get", "hosts", "--json"],
        ["get", "hidden", "-r"],
        ["get", "hidden", "--json"],
        ["get", "a..b"],
        ["get", "plain", "--machine", "mx1", "--level", "cluster"],
        ["get", "plain", "more"],
        ["get"],
        ["get", ""],
        ["get", "plain", "--default"],
        ["get", "plain", "--json=yes"],
        ["--json"],
    ],
    ids=" ".join,
)
def test_the_short_way_answers_as_the_usual_way(member: Store, words: list[str]) -> None:
    """Whatever is asked, and whether or not it is plain enough for the short way: the same words, the same status."""
    member.do("set", "plain", "value", "-m", "why")
    member.do("add", "hosts", "b", "a", "-m", "why")
    member.do("set", "hidden", "--secret", "--password-stdin", "-m", "why", typed="s3cret\n")
    words = ["--store", str(member.root), *words]
    usual = run(call=lambda: _guarded(words))
    asked = run(*words)
    assert (asked.status, asked.out, asked.err) == (usual.status, usual.out, usual.err)


def _guarded(words: list[str]) -> int:
    from cluster_store_cli.failures import guarded  # noqa: PLC0415 - beside what it guards

    return guarded(lambda: perform(words, "cluster-store"))


def test_plain_arguments_go_the_short_way() -> None:
    """What scripts ask by the hundred is understood without typer."""
    for words in (["get", "key"], ["--store", "x", "--json", "get", "key", "-r"], ["get", "k", "--level", "cluster"]):
        assert lookup.quick(words) is not None
    for words in (["set", "key"], ["get", "key", "--help"], ["get", "--store", "x", "key"], ["--store"], []):
        assert lookup.quick(words) is None


def test_the_most_specific_level_counts(member: Store) -> None:
    """The machine's own value, else its group's, else the cluster's, key by key."""
    for level, value in (("cluster", 1), ("group:Main_Group", 2), ("machine:mx1.example.com", 3)):
        member.do("set", "key", str(value), "--level", level, "-m", "why")
        assert member.ask("get", "key") == {"key": "key", "value": value, "level": level}
    assert member.get("key", "--level", "CLUSTER") == 1
    member.do("unset", "key", "--level", "machine:mx1.example.com", "-m", "why")
    assert member.get("key") == 2
    member.do("clusterconfig", "setgroup", "mx1.example.com", "paris")
    assert member.get("key") == 1


def test_what_was_done_is_told_with_its_level_and_event(member: Store) -> None:
    """On standard error, also where JSON is asked for; standard output stays for what was asked."""
    told = member.run("set", "key", "1", "-m", "because").expect(0)
    assert told.out == ""
    assert told.err.startswith("key: set at cluster, event ")
    again = member.run("set", "key", "1", "--json", "-m", "why").expect(0)
    assert again.err == "key: nothing to change at cluster\n"
    assert json.loads(again.out) == {"key": "key", "event": None, "changed": False, "level": "cluster", "writes": 0}


def test_a_set_takes_and_gives_elements(member: Store) -> None:
    """Elements of all levels add up; one that is removed below stays above."""
    member.do("add", "hosts", "a", "b", "1", "-m", "why")
    member.do("add", "hosts", "c", "--level", "group:Main_Group", "-m", "why")
    assert member.get("hosts") == ["a", "b", "c", 1]
    member.do("remove", "hosts", "a", "--level", "machine:mx1.example.com", "-m", "why")
    assert member.get("hosts") == ["b", "c", 1]
    assert member.get("hosts", "--level", "cluster") == ["a", "b", 1]
    member.do("set", "hosts", '["z"]', "--level", "cluster", "-m", "why")
    assert member.get("hosts", "--level", "cluster") == ["z"]


def test_a_secret_is_shown_to_its_owner_only(member: Store) -> None:
    """``get`` prints it; files, logs, errors and what is told of the change do not."""
    told = member.run("set", "db.password", "--secret", "--password-stdin", "-m", "x", typed="two\nlines\n").expect(0)
    assert member.do("get", "db.password", "-r") == "two\nlines\n"
    assert member.get("db.password") == "two\nlines"
    shown = member.run("showconfig").expect(0)
    assert shown.err == "left out, being secret: db.password\n"
    assert "lines" not in told.out + told.err + shown.out + shown.err
    member.do("set", "db.password", "--secret", "--password-stdin", "-m", "why", typed='"quoted"')
    assert member.get("db.password") == '"quoted"'


def test_the_default_level_is_the_machine_while_it_is_alone(store: Store) -> None:
    """There is no cluster yet whose level it could be."""
    assert "at machine:mx1.example.com" in store.run("set", "key", "1", "-m", "why").expect(0).err
    store.do("clusterconfig", "create", "americas")
    assert store.ask("get", "key")["level"] == "cluster"
