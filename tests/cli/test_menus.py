"""The menus of ``clusterconfig`` and the shell, at a real pseudo-terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence

import pexpect
import pytest
from cluster_store_cli.questions import Choice, parse

from tests.cli.stores import Store

#: What a terminal obeys, and nobody reads.
_CONTROL = re.compile(r"\x1b(?:\[[0-9;?]*[a-zA-Z]|[=>]|\][^\x07]*\x07)|\r")


class Terminal:
    """Somebody at a terminal with one program."""

    def __init__(self, store: Store, *words: str) -> None:
        self.screen = ""
        program = ["-m", "cluster_store_cli", "--store", str(store.root), *words]
        self._child = pexpect.spawn(
            sys.executable,
            program,
            encoding="utf-8",
            timeout=40,
            dimensions=(60, 200),
            env={"TERM": "dumb", "PATH": ""},
        )

    def sees(self, text: str) -> None:
        """Wait until something is shown."""
        self._child.expect_exact(text)
        self.screen += _CONTROL.sub("", f"{self._child.before}{self._child.after}")

    def answers(self, question: str, answer: str = "") -> None:
        """Wait for a question, and answer it when it waits for that."""
        self.sees(question)
        self.sees("]> ")
        self._child.sendline(answer)

    def types(self, prompt: str, line: str) -> None:
        """Wait for a prompt, and type a line."""
        self.sees(prompt)
        self._child.sendline(line)

    def end(self) -> int:
        """Wait until the program ends; return its exit status."""
        self._child.expect(pexpect.EOF)
        self.screen += _CONTROL.sub("", str(self._child.before))
        self._child.close()
        assert "Traceback" not in self.screen
        return int(self._child.exitstatus if self._child.exitstatus is not None else -1)

    def close(self) -> None:
        """Take the terminal away."""
        self._child.close(force=True)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Keep the terminals of a test, to be closed at its end."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def operation(terminals: list[Terminal], store: Store, name: str, *dialogue: tuple[str, str]) -> str:
    """Choose an operation of the menu, answer its questions, leave; return the screen."""
    terminal = Terminal(store, "clusterconfig")
    terminals.append(terminal)
    terminal.answers("Choose the operation you want to perform:", name)
    for question, answer in dialogue:
        terminal.answers(question, answer)
    terminal.answers("Choose the operation you want to perform:")
    assert terminal.end() == 0
    return terminal.screen


def names(store: Store) -> dict[str, list[str]]:
    """Return each group and the first parts of the hostnames in it."""
    groups = store.ask("clusterconfig", "list")["groups"]
    return {group["name"]: [machine["hostname"] for machine in group["machines"]] for group in groups}


def test_a_machine_that_stands_alone_is_offered_the_four_ways(store: Store, terminals: list[Terminal]) -> None:
    """As on the appliance: stand alone, create, join over SSH, join over CCS."""
    terminal = Terminal(store, "clusterconfig")
    terminals.append(terminal)
    terminal.answers("Do you want to join or create a cluster?")
    assert terminal.end() == 0
    assert re.findall(r"(?m)^\d\. .*$", terminal.screen) == [
        "1. No, configure as standalone.",
        "2. Create a new cluster.",
        "3. Join an existing cluster over SSH.",
        "4. Join an existing cluster over CCS.",
    ]
    terminal = Terminal(store, "clusterconfig")
    terminals.append(terminal)
    terminal.answers("Do you want to join or create a cluster?", "2")
    terminal.answers("What is the new cluster to be called?", "americas")
    terminal.answers("How are the machines to reach each other?", "2")
    assert terminal.end() == 0
    assert store.ask("clusterconfig", "communication")["by"] == "ip"
    assert store.ask("status")["cluster"] == "americas"


@pytest.mark.parametrize(("way", "kind"), [("3", "--ssh"), ("4", "--ccs")])
def test_joining_is_led_to_the_command(store: Store, terminals: list[Terminal], way: str, kind: str) -> None:
    """The menu asks for the machine; what can be refused, the command refuses."""
    terminal = Terminal(store, "clusterconfig")
    terminals.append(terminal)
    terminal.answers("Do you want to join or create a cluster?", way)
    terminal.answers("Which machine of the cluster?", "127.0.0.1:9")
    if kind == "--ssh":
        terminal.answers("Which user of the cluster lets this machine in?")
    assert terminal.end() == 1
    assert f"> clusterconfig join 127.0.0.1:9 {kind}" in terminal.screen
    assert "127.0.0.1:9 is unreachable" in terminal.screen


def test_groups_are_added_and_renamed_and_machines_moved(member: Store, terminals: list[Terminal]) -> None:
    """Numbers, names and defaults in brackets all do."""
    hostname = member.ask("status")["hostname"]
    operation(terminals, member, "ADDGROUP", ("Name of the new group:", "Berlin"))
    operation(terminals, member, "setgroup", ("Which machines are to move?", "1"), ("Into which group?", "berlin"))
    assert names(member) == {"Berlin": [hostname], "Main_Group": [], "paris": []}
    operation(terminals, member, "renamegroup", ("Which group is to be renamed?", "1"), ("Its new name:", "Lyon"))
    assert "Lyon" in names(member)
    screen = operation(
        terminals,
        member,
        "deletegroup",
        ("Which group is to be deleted?", "Lyon"),
        ("Which group takes its machines?", ""),
        ("Delete the group", "yes"),
    )
    assert "--dry-run" in screen
    assert names(member) == {"Main_Group": [hostname], "paris": []}


def test_what_is_not_confirmed_is_not_done(member: Store, terminals: list[Terminal]) -> None:
    """An empty answer leaves; so does anything but yes where something is taken away."""
    before = member.ask("status")["digest"]
    for name, question in (("removemachine", "Which machines are to leave"), ("deletegroup", "to be deleted?")):
        assert "Nothing was done." in operation(terminals, member, name, (question, ""))
    screen = operation(terminals, member, "removemachine", ("Which machines are to leave", "1"), ("Remove them?", "n"))
    assert "Nothing was done." in screen
    assert "all machines of the cluster americas: it is dissolved" in screen
    assert member.ask("status")["digest"] == before


def test_operations_may_be_shortened(member: Store, terminals: list[Terminal]) -> None:
    """As long as only one is meant; otherwise those that are meant are named."""
    hostname = member.ask("status")["hostname"]
    terminal = Terminal(member, "clusterconfig")
    terminals.append(terminal)
    terminal.answers("Choose the operation you want to perform:", "d")
    terminal.sees("'d' may be deletegroup or disconnect.")
    terminal.answers("", "li")
    terminal.sees(f"{hostname} (serial number")
    terminal.answers("Choose the operation you want to perform:")
    assert terminal.end() == 0


def test_names_lists_and_links(member: Store, terminals: list[Terminal]) -> None:
    """What only shows something asks nothing; a name has the present one for a default."""
    hostname = member.ask("status")["hostname"]
    operation(terminals, member, "setname", ("Name of the cluster:", "europe"))
    assert member.ask("status")["cluster"] == "europe"
    assert "Name of the cluster:\n[europe]> " in operation(terminals, member, "setname", ("Name of the cluster:", ""))
    assert hostname in operation(terminals, member, "list")
    assert hostname in operation(terminals, member, "connstatus")


def test_detaching_and_communication(member: Store, terminals: list[Terminal]) -> None:
    """Only machines that can be detached, or taken back, are offered."""
    operation(terminals, member, "disconnect", ("Which machines are to be detached?", "1"))
    assert member.ask("status")["detached"]
    operation(terminals, member, "reconnect", ("Which machines are to come back?", "1"))
    assert not member.ask("status")["detached"]
    assert "nothing to choose from" in operation(terminals, member, "reconnect")
    what = "What is to change?"
    operation(terminals, member, "communication", (what, "2"), ("Which service?", "2"))
    operation(terminals, member, "communication", (what, "3"), ("On which machine?", ""), ("Which port?", "2777"))
    operation(terminals, member, "communication", (what, "4"), ("Which machine?", "1"), ("Its address:", "192.0.2.9"))
    told = member.ask("clusterconfig", "communication")
    assert (told["over"], told["machines"][0]["ccs_port"], told["machines"][0]["address"]) == ("ccs", 2777, "192.0.2.9")


def test_announcements(member: Store, terminals: list[Terminal]) -> None:
    """What 'prepjoin print' shows elsewhere is typed in here."""
    key = member.ask("clusterconfig", "prepjoin", "print")["key"]
    announced = key[:-4] + ("AAAA" if key[-4:] != "AAAA" else "BBBB")
    first = "Machines that are to join over CCS"
    operation(
        terminals,
        member,
        "prepjoin",
        (first, "1"),
        ("Its hostname:", "mx9"),
        ("Its serial", "S9"),
        ("Its key:", announced),
    )
    assert [one["hostname"] for one in member.ask("clusterconfig", "prepjoin", "list")] == ["mx9"]
    assert "mx9" in operation(terminals, member, "prepjoin", (first, "4"))
    operation(terminals, member, "prepjoin", (first, "2"), ("Which one?", "mx9"))
    assert member.ask("clusterconfig", "prepjoin", "list") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [("2", ["b"]), ("1-3", ["a", "b", "c"]), ("3, 1", ["c", "a"]), ("B,b", ["b"]), ("a,2-3,", ["a", "b", "c"])],
)
def test_answers_name_choices(text: str, words: Sequence[str]) -> None:
    """By number, by range, by name, each once, in the order given."""
    assert parse(text, [Choice("a", "a one"), Choice("b", "b two"), Choice("c", "c three")]) == words


@pytest.mark.parametrize("text", ["", ",", "0", "4", "3-1", "1-9", "x", "-", "1-", "--1"])
def test_answers_that_name_nothing_are_told(text: str) -> None:
    """The question is asked again."""
    with pytest.raises(ValueError, match=r"\w"):
        parse(text, [Choice("a", "a one"), Choice("b", "b two"), Choice("c", "c three")])


def test_the_shell_works_at_the_level_that_its_prompt_shows(member: Store, terminals: list[Terminal]) -> None:
    """It runs commands, tells what is wrong with a line, completes, and leaves with the last one's status."""
    terminal = Terminal(member, "shell")
    terminals.append(terminal)
    terminal.types("(Cluster americas)> ", "set smtp.banner 'hello there'")
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
    outcome = member.run("shell", typed="set a 1\n\n# why not\nget a\nexit\nset a 2\n").expect(0)
    assert outcome.out == "1\n"
    assert member.run("shell", typed="get none\n").status == 1
    assert member.get("a") == 1


def test_the_shell_offers_the_mode_that_a_command_is_for(member: Store, terminals: list[Terminal]) -> None:
    """A group's mode is what commands are about; what is for the cluster only asks whether to switch."""
    terminal = Terminal(member, "shell")
    terminals.append(terminal)
    terminal.types("(Cluster americas)> ", "clustermode group:paris")
    terminal.types("(Group paris)> ", "set smtp.port 25")
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
    terminal.types("(Cluster americas, mx1.example.com is detached)> ", "exit")
    assert terminal.end() == 0
    assert member.ask("get", "smtp.port", "--level", "group:paris")["value"] == 25
