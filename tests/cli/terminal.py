"""Somebody at a real pseudo-terminal with one program, which is forked and not started anew: see ``forks.py``."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
from collections.abc import Iterable

import pexpect
from pexpect.fdpexpect import fdspawn

from tests.cli.stores import Store
from tests.end_to_end.forks import How, forks

#: What is typed as a line of its own, and what a terminal makes of it.
KEYS = {"^C": "\x03", "^D": "\x04"}
#: How long anything may take on a busy host, seconds.
_PATIENCE_S = 60.0
#: ... and when an interrupt is tried again.
_AGAIN_S = 2.0
_ROWS, _COLUMNS = 60, 200
#: What a terminal obeys, and nobody reads.
_CONTROL = re.compile(r"\x1b(?:\[[0-9;?]*[a-zA-Z]|[=>]|\][^\x07]*\x07)|\r")
#: How a question ends, behind which the program waits; behind that of a password nothing is seen.
_SECRET = r"(?:[Pp]assword of [^\r\n:]*|The same again)[^\r\n]*: "
_SHELL = r"\((?:Cluster|Group|Machine) [^)\r\n]*\)>"
_PROMPT = rf"(?:\[[^\]\r\n]*\]>|\[y/N\]|{_SHELL})"
_ASKING = re.compile(rf"(?:{_PROMPT} |{_SECRET})$")
#: What is typed before the shell reads it, the terminal shows, and then the shell does.
_TWICE = re.compile(rf"^({_SHELL} )(.+)\n\2$", re.MULTILINE)
_QUESTION = re.compile(rf"(?:.*?{_PROMPT} ?|(?P<secret>{_SECRET.rstrip()}))(?P<answer>.*)")


class Terminal:
    """A program at a terminal.

    Attributes:
        screen: what was shown so far, what was typed in it.
    """

    def __init__(self, store: Store, *words: str, kind: str = "dumb") -> None:
        """Start a command on a store. On a dumb terminal the shell draws nothing; only others say how wide they are."""
        self.screen = ""
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        with os.fdopen(theirs, "r+b", buffering=0) as terminal:
            program = ["--store", str(store.root), *words]
            how = How(terminal=True, environment={"TERM": kind, "NO_COLOR": "1"})
            self._process = forks().start(program, how, terminal, terminal, terminal)
        self._child = fdspawn(ours, encoding="utf-8", timeout=_PATIENCE_S)

    def sees(self, text: str) -> None:
        """Wait until something is shown."""
        self._child.expect_exact(text)
        self._show(f"{self._child.before}{self._child.after}")

    def answers(self, question: str, answer: str = "") -> None:
        """Wait for a question, and answer it when it waits for that."""
        self.sees(question)
        self.sees("]> ")
        self._child.sendline(answer)

    def types(self, prompt: str, line: str) -> None:
        """Wait for a prompt, and type a line."""
        self.sees(prompt)
        self._child.sendline(line)

    def converse(self, answers: Iterable[str]) -> int:
        """Answer question after question until the program ends; return its exit status.

        Where it asks for more than there are answers, the terminal is closed.
        """
        left = iter(answers)
        while self._asks():
            answer = next(left, "^D")
            if answer == "^C":
                self._interrupt()
                break
            self._child.send(KEYS.get(answer, f"{answer}\n"))
            if answer == "^D":
                # A terminal shows the other one.
                self.screen += answer
        assert not list(left), f"it ended before all was answered\n{self.screen}{self._child.before}"
        return self._ended()

    def _interrupt(self) -> None:
        """Interrupt the program until it ends: what comes just before it begins to read goes unnoticed."""
        for _ in range(round(_PATIENCE_S / _AGAIN_S)):
            self._child.send(KEYS["^C"])
            if self._child.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=_AGAIN_S) == 0:
                return
        raise AssertionError(f"it is not interrupted\n{self.screen}{self._child.before!r}")

    def _asks(self) -> bool:
        """Wait for a question; say whether one came before the end."""
        try:
            asked = self._child.expect([_ASKING, pexpect.EOF]) == 0
        except pexpect.TIMEOUT:
            raise AssertionError(f"neither a question nor the end\n{self.screen}{self._child.before!r}") from None
        if asked:
            self._show(f"{self._child.before}{self._child.after}")
        return asked

    def end(self) -> int:
        """Wait until the program ends; return its exit status."""
        self._child.expect(pexpect.EOF)
        return self._ended()

    def close(self) -> None:
        """Take the terminal away."""
        self._process.kill()
        self._process.wait(_PATIENCE_S)
        self._child.close()

    def _show(self, text: str) -> None:
        self.screen += _CONTROL.sub("", text)

    def _ended(self) -> int:
        self._show(re.sub(r"(?:\^C)+", "^C", str(self._child.before)))
        self.screen = _TWICE.sub(r"\1\2", self.screen)
        self._child.close()
        assert "Traceback" not in self.screen, self.screen
        return self._process.wait(_PATIENCE_S)


def answers_on(screen: Iterable[str], password: str) -> list[str]:
    """Return what was typed on a screen, by its lines; a password, which is not seen, is the one given."""
    found = (_QUESTION.fullmatch(line) for line in screen)
    return [password if match["secret"] else match["answer"] for match in found if match]
