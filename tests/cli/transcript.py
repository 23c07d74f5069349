"""Transcripts: commands of the program and all that comes of them, as files that are played again and compared.

In a transcript, ``$ COMMAND`` is run with nobody at a terminal, and ``$ COMMAND < LINE`` types a line into it. Behind
it stand its standard output, each line behind ``| ``, its standard error behind ``! ``, and its exit status where that
is not 0. ``% COMMAND`` is run at a real pseudo-terminal: behind it stands the screen, also behind ``| ``, and what
somebody typed there are the ends of the lines that ask. ``^C`` and ``^D`` are these keys. ``$ serve &`` runs a daemon
to the end, and waits until it has heard what the others know.

A name before ``$`` or ``%`` is another machine of the stage, or somebody who is logged in to the first one. What
differs from run to run has a name: those of the stage, as ``$MX1``, also stand for it in commands; ``ID``, ``SERIAL``,
``TIME``, ``KEY``, ``PORT``, ``USER`` and ``CLOCK`` only in what is shown. Where the list of operations is shown again,
``- ...`` stands for it. Lines that begin with ``#`` say what it is about.

With ``CLUSTER_STORE_REWRITE=1`` in the environment, what comes of the commands now is written into the files. To write
another dialogue, begin it with lines ``| []> ANSWER`` alone.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cli.stores import Outcome, Store
from tests.cli.terminal import Terminal, answers_on

_COMMAND = re.compile(r"(?P<who>\w*)(?P<how>[$%]) (?P<words>.+?)(?: < (?P<typed>.*))?")
#: What differs from run to run -> what stands for it.
_PASSING = {
    r"\b(?:[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{10})\b": "ID",
    r"\b[0-9A-F]{12}\b": "SERIAL",
    r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?|\b\d{8}T\d{6}Z(?:-\d+)?": "TIME",
    r"\bssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}": "KEY",
    r"\b(?:2\d|3[01])\d{3}\b": "PORT",
    r"\bos:[\w.-]*\w": "os:USER",
    r"[+-]\d+\.\d s\b": "CLOCK",
}

#: The list of operations in a menu.
_MENU = re.compile(r"(?:\| - [A-Z]+ - .*\n){12}")

#: Runs a command for somebody who is logged in.
Login = Callable[..., Outcome]


def _nobody(name: str) -> None:
    raise AssertionError(f"there is no daemon for {name} on this stage")


@dataclass
class Stage:
    """What a transcript is played on.

    Attributes:
        machines: their stores, by name; the first is meant where none is named.
        names: what stands in a transcript -> what it stands for in this run.
        logins: who is logged in to the first machine.
        serve: runs a machine's daemon to the end of the transcript.
    """

    machines: Mapping[str, Store]
    names: Mapping[str, str] = field(default_factory=dict)
    logins: Mapping[str, Login] = field(default_factory=dict)
    serve: Callable[[str], None] = _nobody

    def real(self, text: str) -> str:
        """Return a text of a transcript as it is in this run."""
        for name in sorted(self.names, key=len, reverse=True):
            text = text.replace(name, self.names[name])
        return text

    def masked(self, text: str) -> str:
        """Return a text of this run as it is in a transcript."""
        for name, real in sorted(self.names.items(), key=lambda named: -len(named[1])):
            text = text.replace(real, name)
        for pattern, name in _PASSING.items():
            text = re.sub(pattern, name, text)
        return text


#: Makes a stage in a folder, for as long as it is played on.
Setting = Callable[[Path], AbstractContextManager[Stage]]


def play(text: str, stage: Stage) -> str:
    """Run a transcript's commands; return it with what comes of them now."""
    told = []
    for line, behind in _steps(text):
        told.append(line)
        command = _COMMAND.fullmatch(line)
        if command is None:
            continue
        words = [stage.real(word) for word in shlex.split(command["words"])]
        if words == ["serve", "&"]:
            stage.serve(command["who"])
            continue
        if command["how"] == "%":
            shown, status = _at_terminal(stage, command["who"], words, behind)
        else:
            shown, status = _without(stage, command["who"], words, stage.real(command["typed"] or ""))
        told += _settled([stage.masked(one).rstrip() for one in shown])
        told += [f"exit status {status}"] * bool(status)
    return _menu_once("\n".join(told) + "\n")


def _menu_once(text: str) -> str:
    """Return a transcript in which the list of operations stands once, though it is shown before each of them."""
    shown = set[str]()

    def leave_out(match: re.Match[str]) -> str:
        known = match[0] in shown
        shown.add(match[0])
        return "| - ...\n" if known else match[0]

    return _MENU.sub(leave_out, text)


def _settled(lines: list[str]) -> list[str]:
    """Return what was shown without what depends on the width of a user's name, where there is one in a table."""
    if not all(any(text in line for line in lines) for text in ("os:USER", "──")):
        return lines
    return [re.sub(r" {3,}", "   ", re.sub(r"─{2,}", "──", line)) for line in lines]


def _steps(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield commands, comments and empty lines, each with the lines behind it that show what came of it."""
    steps: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith(("|", "!", "exit status ")):
            steps[-1][1].append(line)
        else:
            steps.append((line, []))
    yield from steps


def _without(stage: Stage, who: str, words: Sequence[str], typed: str) -> tuple[list[str], int]:
    run = stage.logins[who] if who in stage.logins else _store(stage, who).run
    outcome = run(*words, typed=f"{typed}\n" if typed else "")
    streams = ("|", outcome.out), ("!", outcome.err)
    return [f"{mark} {line}" for mark, text in streams for line in text.splitlines()], outcome.status


def _at_terminal(stage: Stage, who: str, words: Sequence[str], behind: Sequence[str]) -> tuple[list[str], int]:
    screen = (line.removeprefix("| ") for line in behind)
    answers = [stage.real(answer) for answer in answers_on(screen, stage.names.get("$PASSWORD", ""))]
    terminal = Terminal(_store(stage, who), *words, kind="dumb" if words == ["shell"] else "xterm")
    try:
        status = terminal.converse(answers)
    finally:
        terminal.close()
    return [f"| {line}" for line in terminal.screen.splitlines()], status


def _store(stage: Stage, who: str) -> Store:
    return stage.machines[who] if who else next(iter(stage.machines.values()))


def comes_to_what_it_did(file: Path, stage: Stage) -> None:
    """Play a transcript and insist that it comes to what is recorded, or record it anew."""
    recorded = file.read_text(encoding="utf-8")
    told = play(recorded, stage)
    if os.environ.get("CLUSTER_STORE_REWRITE") == "1":
        file.write_text(told, encoding="utf-8")
    else:
        assert told == recorded
