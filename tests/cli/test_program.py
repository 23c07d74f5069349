"""What holds for every command: its help, its options, its exit status, and the one door for errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest
import typer
from cluster_store_cli import failures, program
from cluster_store_cli.catalogue import COMMANDS, FAMILIES, Entry
from cluster_store_cli.main import main

from cluster_store.core.errors import Refused
from tests.cli.stores import Store, run

#: Every command there is, as it is typed, with its place in the catalogue.
EVERY: dict[tuple[str, ...], Entry] = {
    **{(name,): entry for name, entry in COMMANDS.items() if name not in FAMILIES},
    **{(family, name): entry for family, operations in FAMILIES.items() for name, entry in operations.items()},
}


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_a_command_is_described_alike_in_both_helps(words: tuple[str, ...]) -> None:
    """The command's own help begins with the line in the program's, and may go on."""
    entry = EVERY[words]
    function = getattr(import_module(f"cluster_store_cli.{entry.module}"), entry.function)
    assert function.__doc__.splitlines()[0].startswith(entry.help.removesuffix("."))


@pytest.mark.parametrize("words", [(), *EVERY, *((family,) for family in FAMILIES)], ids=" ".join)
def test_help_and_version_are_everywhere(words: tuple[str, ...]) -> None:
    """Both are answered without a store, and whatever else a command requires."""
    assert "--help" in run(*words, "--help").expect(0).out
    assert run(*words, "--version").expect(0).out == f"cluster-store {metadata.version('cluster-store')}\n"


@pytest.mark.parametrize("words", [*EVERY, *((family,) for family in FAMILIES)], ids=" ".join)
def test_what_is_no_text_is_refused_by_every_command(words: tuple[str, ...], store: Store) -> None:
    """Arguments can hold any bytes; nothing that is kept does."""
    before = store.state()
    for given in ("\udcff\udcfe", "caf\udce9"):
        outcome = store.run(*words, given).expect(2)
        assert (outcome.out, len(outcome.err.splitlines())) == ("", 2)
        assert outcome.err.endswith("is not text in UTF-8, and all that a command takes is\nnothing was done\n")
    assert store.state() == before


def test_what_is_no_text_is_refused_in_a_shell(store: Store) -> None:
    """The lines behind it are read."""
    outcome = store.run("shell", typed=b"set a 1 -m \xff\nset b \xe2\x82\xac -m why\nget b\n").expect(0)
    assert outcome.out == '"\u20ac"\n'
    assert "'\\udcff' is not text in UTF-8" in outcome.err


@pytest.mark.parametrize("word", ["interfaceconfig", "sshconfig", "resetconfig", "SETHOSTNAME"])
def test_a_word_of_the_appliance_leads_to_ours(word: str) -> None:
    """Which is a command that there is."""
    told = re.fullmatch(r"there is no command '\w+'; is it (.+)\?\n.*\n", run(word).expect(2).err)
    assert told is not None
    assert tuple(told[1].split()[:2]) in EVERY or tuple(told[1].split()[:1]) in EVERY


def test_clusterconfig_says_what_its_menus_need(store: Store) -> None:
    """Nobody is at a terminal where a command is given over SSH."""
    assert run("clusterconfig").expect(2).err.endswith("Its menus need a terminal: over SSH, 'ssh -t'.\n")


def test_the_help_lists_every_command() -> None:
    """Nothing that can be typed is hidden, here and in the families."""
    listed = run("--help").out
    assert all(re.search(rf"^  {name} ", listed, re.MULTILINE) for name in COMMANDS)
    operations = run("clusterconfig", "--help").out
    assert all(re.search(rf"^  {name} ", operations, re.MULTILINE) for name in FAMILIES["clusterconfig"])


def test_the_help_imports_no_command() -> None:
    """Listing the commands loads none of them, so that it stays quick however many there are."""
    text = "import sys; from cluster_store_cli.main import main; main(['--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    assert "'cluster_store_cli.program'" in modules
    assert not [entry.module for entry in EVERY.values() if f"'cluster_store_cli.{entry.module}'" in modules]


@pytest.mark.parametrize("words", [(), ("clusterconfig",), ("machine",)], ids=" ".join)
def test_a_family_without_an_operation_lists_them(words: tuple[str, ...]) -> None:
    """That is a fault of usage, and it is answered with what there is."""
    outcome = run(*words).expect(2)
    assert outcome.out == ""
    assert "Usage:" in outcome.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["stauts"], "there is no command 'stauts'; is it status?"),
        (["clusterconfig", "conect"], "there is no command 'conect'; is it reconnect"),
        (["--jsno", "status"], "--jsno"),
        (["get", "key", "--lvel", "cluster"], "--lvel"),
        (["get"], "Missing argument 'KEY'"),
        (["get", "key", "more"], "unexpected extra argument"),
        (["get", "key", "--machine", "mx1", "--level", "cluster"], "give one of them"),
        (["set", "key"], "VALUE is missing"),
        (["set", "key", "value", "--secret"], "leave VALUE out"),
        (["set", "key", "value", "--password-stdin"], "add --secret"),
        (["init"], "Missing option '--hostname'"),
        (["init", "--hostname", "mx1", "--interface", "eth0"], "not of the form NAME=ADDRESS"),
        (["init", "--hostname", "mx1", "--interface", "eth0=here"], "'here' is no IP address"),
        (["init", "--hostname", "mx1", "--ssh-port", "65536"], "'--ssh-port': 65536 is too large: at most 65535"),
        (["init", "--hostname", "mx1", "--ssh-port", "ssh"], "'--ssh-port': 'ssh' is not a whole number"),
        (["log", "-n", "-1"], "'-n': -1 is too small: at least 0"),
        (["replay", "--speed", "fast"], "'--speed': 'fast' is not a number"),
        (["userconfig", "new", "anna", "--role", "king"], "'--role': 'king' is not one of 'guest'"),
        (["init", "--hostname", "mx1", "--ssh-port", "5", "--ccs-port", "5"], "cannot serve both"),
        (["init", "--hostname", "mx1", "--listen", "here"], "'here' is no IP address"),
        (["clusterconfig", "join", "mx1"], "--ssh or --ccs"),
        (["clusterconfig", "join", "::1", "--ssh"], "an IPv6 address stands in brackets"),
        (["clusterconfig", "join", "mx1:ssh", "--ssh"], "'ssh' is no port"),
        (["clusterconfig", "setgroup", "mx1"], "at least one machine, and then the group"),
        (["clusterconfig", "create", "americas", "--by", "mail"], "mail"),
        (["showconfig", "--format", "xml"], "xml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_told_in_two_lines(words: list[str], told: str, tmp_path: Path) -> None:
    """What is wrong, and how to see what is right; the exit status is 2."""
    outcome = run("--store", str(tmp_path / "store"), *words).expect(2)
    assert outcome.out == ""
    wrong, hint = outcome.err.splitlines()
    assert told in wrong
    assert hint.endswith("--help' shows how it is used")
    assert not (tmp_path / "store").exists()


def test_json_is_taken_before_and_after_the_command(store: Store) -> None:
    """Wherever the switch stands, one JSON document is printed."""
    after = store.do("machine", "show", "--json")
    assert json.loads(after)["hostname"] == "mx1.example.com"
    assert store.do("--json", "machine", "show") == store.do("machine", "--json", "show") == after


def test_the_store_is_named_by_the_option_else_by_the_environment(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--store wins over $CLUSTER_STORE."""
    monkeypatch.setenv("CLUSTER_STORE", str(store.root))
    assert run("get", "key", "--default", "x").expect(0).out == '"x"\n'
    assert run("--store", str(tmp_path / "none"), "get", "key", "--default", "x").expect(1).out == ""
    monkeypatch.setenv("CLUSTER_STORE", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(tmp_path) in run("status").expect(1).err


def test_operations_are_taken_in_any_case(member: Store) -> None:
    """The appliance's operators type them in capitals."""
    member.do("clusterconfig", "ADDGROUP", "lyon")
    assert [group["name"] for group in member.ask("ClusterConfig", "List")["groups"]] == ["lyon", "Main_Group", "paris"]


def test_clusterconfig_is_a_program_of_its_own(member: Store) -> None:
    """It takes the store as the other program does, and names itself in its messages."""

    def clusterconfig(*words: str) -> int:
        return main(["--store", str(member.root), *words], "clusterconfig")

    assert json.loads(run(call=lambda: clusterconfig("list", "--json")).expect(0).out)["cluster"] == "americas"
    assert "Usage: clusterconfig" in run(call=clusterconfig).expect(2).err
    assert run(call=lambda: clusterconfig("--version")).out.startswith("clusterconfig ")
    assert "'clusterconfig list --help'" in run(call=lambda: clusterconfig("list", "--no")).expect(2).err


def test_a_negative_number_is_a_value(store: Store) -> None:
    """It needs no -- before it, and may stand behind one."""
    store.do("set", "a", "-5", "-m", "-7")
    store.do("set", "-m", "because", "b", "-1.5")
    store.do("set", "c", "-m", "why", "--", "-6")
    store.do("add", "d", "-1", "2", "-3", "-m", "why")
    assert [store.get(key) for key in "abcd"] == [-5, -1.5, -6, [-1, -3, 2]]
    assert "-x" in store.run("set", "a", "-x", "-m", "why").expect(2).err


def test_tables_are_plain_where_nobody_looks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a pipe goes no escape sequence, and no line is cut, however narrow the terminal was."""
    monkeypatch.setenv("COLUMNS", "20")
    shown = store.do("machine", "show")
    assert "\x1b" not in shown
    assert store.ask("machine", "show")["fingerprint"] in shown


# --- the one door --------------------------------------------------------------------------------------


def raising(error: BaseException) -> int:
    """Do the program's work badly."""
    raise error


def test_a_refusal_is_two_lines() -> None:
    """What and why, then what to do, whatever line breaks the words themselves had."""
    outcome = run(call=lambda: failures.guarded(lambda: raising(Refused("no\nsuch thing", "try another"))))
    assert (outcome.status, outcome.out, outcome.err) == (1, "", "no such thing\ntry another\n")


def test_an_interrupt_is_quiet() -> None:
    """Whoever pressed the keys knows why it ended."""
    outcome = run(call=lambda: failures.guarded(lambda: raising(KeyboardInterrupt())))
    assert (outcome.status, outcome.out, outcome.err) == (130, "", "")


def test_a_bug_is_one_sentence_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator sees no traceback, and whoever mends it does."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    outcome = run(call=lambda: failures.guarded(lambda: raising(ZeroDivisionError("by zero"))))
    what, hint = outcome.expect(1).err.splitlines()
    assert what == "ZeroDivisionError: by zero"
    (file,) = tmp_path.iterdir()
    assert hint == f"this is a bug; please report it with {file}"
    assert "in raising" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_a_bug_is_told_even_where_no_file_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk does not turn the sentence into a traceback."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    outcome = run(call=lambda: failures.guarded(lambda: raising(ZeroDivisionError("by zero"))))
    assert outcome.expect(1).err.splitlines()[1] == "this is a bug; its traceback could not be kept anywhere"


def test_a_reader_that_has_enough_is_no_error(store: Store) -> None:
    """A pipe that closes early ends the program without a word."""
    for number in range(3):
        store.do("set", f"key{number}", '"' + 50_000 * "x" + '"', "-m", "why")
    command = [sys.executable, "-m", "cluster_store_cli", "--store", str(store.root), "showconfig"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == failures.NOBODY_READS


def test_typer_gets_no_say_in_errors() -> None:
    """An end of input where an answer was expected is a refusal like any other."""

    def abort() -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(program, "_group", lambda _: Aborting())
            return program.perform([], "cluster-store")

    assert run(call=abort).expect(1).err == "there was no answer\nnothing was done\n"


class Aborting:
    """A command at whose question the input ends."""

    def make_context(self, *_: object, **__: object) -> int:
        """Run it."""
        raise typer.Abort
