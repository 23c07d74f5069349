"""Questions of a program that a page shows with their answers, held at a real pseudo-terminal.

A line that begins with ``[DEFAULT]> ``, or holds ``[y/N] ``, is a question, and what follows is what somebody answered.
A password is not shown: it is the line of the file ``password`` in the folder.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pexpect

_QUESTION = re.compile(r"(?:(\[[^]\n]*\]>|[^\n]*\[y/N\]) ?([^\n]*)|(Password of [^\n]*:))", re.MULTILINE)
#: What a terminal obeys, and nobody reads.
_CONTROL = re.compile(r"\x1b(?:\[[0-9;?]*[a-zA-Z]|[=>]|\][^\x07]*\x07)|\r")


class Answer(NamedTuple):
    """What is waited for, and what is typed then; None stands for the password."""

    prompt: str
    typed: str | None


def answers(output: str) -> Iterator[Answer]:
    """Yield the answers that a page shows within an output."""
    for line in output.splitlines():
        match = _QUESTION.fullmatch(line)
        if match:
            yield Answer(match[1] or match[3], None if match[3] else match[2])


def hold(command: str, given: list[Answer], folder: Path, environment: Mapping[str, str], patience_s: float) -> str:
    """Run a command at a terminal, answer as it asks, and return its screen. It must end with exit status 0."""
    program, *words = shlex.split(command)
    child = pexpect.spawn(
        program,
        words,
        cwd=str(folder),
        env={**environment, "TERM": "dumb", "NO_COLOR": "1"},
        encoding="utf-8",
        timeout=patience_s,
        dimensions=(60, 200),
    )
    screen = ""
    try:
        for answer in given:
            child.expect_exact(f"{answer.prompt} ")
            screen += f"{child.before}{child.after}"
            child.sendline((folder / "password").read_text().strip() if answer.typed is None else answer.typed)
        child.expect(pexpect.EOF)
        screen += f"{child.before}"
    except (pexpect.TIMEOUT, pexpect.EOF):
        raise AssertionError(f"{command}: not asked as the page shows\n{screen}{child.before}") from None
    finally:
        child.close(force=True)
    screen = _CONTROL.sub("", screen)
    assert child.exitstatus == 0, f"exit status {child.exitstatus} from: {command}\n{screen}"
    return screen
