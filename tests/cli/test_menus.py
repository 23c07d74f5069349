"""The menus of ``clusterconfig`` and the shell, at a real pseudo-terminal.

What each operation of the menus asks and comes to is in the transcripts: see ``test_golden.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest
from cluster_store_cli import menus, prompts
from cluster_store_cli.questions import Choice, parse

from cluster_store import bootstrap
from cluster_store.adapters.local_client import LOGIN_VARIABLE
from cluster_store.core.roles import GUEST, OPERATOR, Caller
from tests.cli.stores import Store, run
from tests.cli.terminal import Terminal


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Keep the terminals of a test, to be closed at its end."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


@pytest.mark.parametrize("role", [GUEST, OPERATOR])
def test_whoever_may_change_nothing_is_asked_nothing(member: Store, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """They are refused with the reason before any question; the same in and out of a cluster."""
    monkeypatch.setenv("CLUSTER_STORE", str(member.root))
    monkeypatch.setenv(LOGIN_VARIABLE, "a token")
    monkeypatch.setattr(bootstrap, "whoami", lambda _: Caller("eve", role, "key"))
    monkeypatch.setattr(prompts, "at_terminal", lambda: True)
    outcome = run("clusterconfig").expect(1)
    assert outcome.err.startswith(f"eve is a{'n' * (role == OPERATOR)} {role} and may not do 'clusterconfig'")
    assert len(outcome.err.splitlines()) == 2


def test_every_operation_of_the_appliance_is_there() -> None:
    """In its order."""
    assert [name.upper() for name in menus.OPERATIONS] == [
        *("ADDGROUP", "SETGROUP", "RENAMEGROUP", "DELETEGROUP", "REMOVEMACHINE", "SETNAME", "LIST", "CONNSTATUS"),
        *("COMMUNICATION", "DISCONNECT", "RECONNECT", "PREPJOIN"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [("2", ["b"]), ("1-3", ["a", "b", "c"]), ("3, 1", ["c", "a"]), ("B,b", ["b"]), ("a,2-3,", ["a", "b", "c"])],
)
def test_answers_name_choices(text: str, words: Sequence[str]) -> None:
    """By number, by range, by name, each once, in the order given."""
    assert parse(text, [Choice("a", "a one"), Choice("b", "b two"), Choice("c", "c three")]) == words


@pytest.mark.parametrize("word", ["exit", "QUIT", ""])
def test_menus_are_left_by_several_words(member: Store, terminals: list[Terminal], word: str) -> None:
    """A question within an operation leads back; help shows the choices again, and nothing typed reaches a terminal."""
    terminal = Terminal(member, "clusterconfig")
    terminals.append(terminal)
    terminal.answers("Answer with nothing to leave.", "help")
    terminal.answers("Choose the operation you want to perform:", "set\u009b7mgroup")
    terminal.sees("'set\\x9b7mgroup' is none of them. Answer with nothing to leave.")
    terminal.answers("", "setgroup")
    terminal.answers("Which machines are to move?", "help")
    terminal.answers("1. mx1.example.com", word)
    terminal.answers("Nothing was done.", word)
    assert terminal.end() == 0


@pytest.mark.parametrize("text", ["", ",", "0", "4", "3-1", "1-9", "x", "-", "1-", "--1"])
def test_answers_that_name_nothing_are_told(text: str) -> None:
    """The question is asked again."""
    with pytest.raises(ValueError, match=r"\w"):
        parse(text, [Choice("a", "a one"), Choice("b", "b two"), Choice("c", "c three")])


def test_the_shell_works_at_the_level_that_its_prompt_shows(member: Store, terminals: list[Terminal]) -> None:
    """It runs commands, tells what is wrong with a line, completes, and leaves with the last one's status."""
    terminal = Terminal(member, "shell")
    terminals.append(terminal)
    terminal.types("(Cluster americas)> ", "set smtp.banner 'hello there' -m why")
    terminal.types("(Cluster americas)> ", "get smtp.banner")
    terminal.sees('"hello there"')
    terminal.types("(Cluster americas)> ", "set 'open")
    terminal.sees("this line cannot be read")
    terminal.types("(Cluster americas)> ", "shell")
    terminal.sees("this is a shell already")
    terminal.types("(Cluster americas)> ", "get none.such")
    terminal.types("(Cluster americas)> ", "exit")
    assert terminal.end() == 1
    event = json.loads(member.do("log", "--json", "-n", "1"))
    assert "setting/cluster/smtp.banner" in [write["path"] for write in event["writes"]]


def test_the_shell_reads_a_script(member: Store) -> None:
    """Without a terminal, each line of standard input is a command."""
    outcome = member.run("shell", typed="set a 1 -m one\n\n# why not\nget a\nexit\nset a 2 -m two\n").expect(0)
    assert outcome.out == "1\n"
    assert member.run("shell", typed="get none\n").status == 1
    assert member.get("a") == 1


def test_the_shell_offers_the_mode_that_a_command_is_for(member: Store, terminals: list[Terminal]) -> None:
    """A group's mode is what commands are about; what is for the cluster only asks whether to switch."""
    terminal = Terminal(member, "shell")
    terminals.append(terminal)
    terminal.types("(Cluster americas)> ", "clustermode group:paris")
    terminal.types("(Group paris)> ", "set smtp.port 25 -m why")
    terminal.types("(Group paris)> ", "clusterconfig")
    terminal.answers("Switch to cluster mode?", "no")
    terminal.sees("the mode was not switched")
    terminal.types("(Group paris)> ", "clusterconfig")
    terminal.answers("Switch to cluster mode?", "")
    terminal.answers("Choose the operation you want to perform:", "list")
    terminal.answers("Choose the operation you want to perform:", "")
    terminal.types("(Cluster americas)> ", "clustermode machine:mx1.example.com")
    terminal.types("(Machine mx1.example.com)> ", "clusterconfig disconnect mx1.example.com")
    terminal.answers("Switch to cluster mode?", "y")
    terminal.types("(Cluster americas, mx1.example.com is detached)> ", "clustermode group:paris")
    terminal.sees("(Group paris, mx1.example.com is detached)> ")
    assert member.ask("get", "smtp.port", "--level", "group:paris")["value"] == 25
    member.do("clusterconfig", "deletegroup", "paris")
    terminal.types("", "set smtp.port 26 -m why")
    terminal.sees("the group paris, which this session was about, is gone")
    terminal.types("(Group paris, gone, mx1.example.com is detached", "exit")
    assert terminal.end() == 1
