"""Pages that show a terminal, run as they stand: every command of a ``console`` block, in one shell, in order.

A line that begins with ``$ `` or ``NAME$ `` is a command, lines that begin with ``> `` continue it, and what follows is
its output; a line ``...`` stands for any lines. ``NAME$`` means that ``$CLUSTER_STORE`` is the folder of that name.

What differs from run to run (ids, fingerprints, times, ports) is compared by its form. The first time a page shows one,
it is bound to what really came; from then on the page's one stands for that, in outputs and in commands. So two digests
that are equal on the page must be equal, and two that differ must differ.

A command that only looks is repeated until its output is as written: changes take a moment to travel. Of one that ends
with ``&`` the output is waited for. Every command must end with exit status 0. One whose output shows questions with
their answers is run at a terminal of its own, apart from the shell, and answered so.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import ndiff
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import dialogue
from tests.end_to_end.forked_programs import ForkedPrograms
from tests.waiting import wait_until

#: How long a command may take, or a change to arrive, on a busy host; seconds.
PATIENCE_S = 40.0

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"(\w*)\$ (.*)")
_LOOKING = re.compile(
    r"(?:\S+ )?(?:clusterconfig )?"
    r"(?:get|status|list|connstatus|clustercheck|explain|log|showconfig|verify|communication$)\b"
)
#: Forms that are never bound: two times or counts may be equal, or not.
_UNBOUND = ("time", "count")
#: Name -> form of what differs from run to run.
FORMS = {
    "key": r"\bAAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}",
    "fingerprint": r"SHA256:[A-Za-z0-9+/]{43}",
    "time": r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?|\d{8}T\d{6}Z",
    "serial": r"\b[0-9A-F]{12}\b",
    "id": r"\b[0-9a-f]{10,64}\b",
    "port": r"\b20\d{3}\b",
    "user": r"\bos:[\w.-]*\w",
    # A machine's registers are spread over documents by its id, among other things.
    "documents": r"\b\d+(?= documents)",
    # What a simulation comes to is the same on every run, and another one after any change of the program. What a
    # machine knew of another one at their last contact depends on what was on its way just then.
    "count": r"(?<=, events )\d+|(?<=, conflicts )\d+|(?<=, steps )\d+|(?<=~)\d+",
}
_VOLATILE = re.compile("|".join(f"(?P<{name}>{form})" for name, form in FORMS.items()))


@dataclass(frozen=True)
class Step:
    """One command of a page, and its output."""

    machine: str
    command: str
    output: str


def steps(page: str) -> Iterator[Step]:
    """Yield the commands of a page's ``console`` blocks."""
    for block in _BLOCK.findall(page):
        machine, command, output = "", "", list[str]()
        for line in block.splitlines():
            prompt = _PROMPT.fullmatch(line)
            if prompt:
                if command:
                    yield Step(machine, command, _bare(output))
                machine, command, output = prompt[1], prompt[2], []
            elif line.startswith("> ") and not output:
                command += "\n" + line.removeprefix("> ")
            else:
                assert command, f"a block begins with output: {line}"
                output.append(line)
        assert command, "a block without a command"
        yield Step(machine, command, _bare(output))


def _bare(lines: list[str]) -> str:
    """Return lines without what depends on the width of other cells in a column."""
    return "".join(re.sub(r"  +", "  ", re.sub("─+", "─", line)).rstrip() + "\n" for line in lines)


@dataclass
class Bindings:
    """What a page shows -> what it stands for in this run."""

    bound: dict[str, str] = field(default_factory=dict)

    def bind(self, shown: str, real: str) -> None:
        """Let something that a page shows stand for something; nothing else may."""
        assert real not in self.bound.values(), f"the page says {shown}, which is {real}, what it calls otherwise too"
        self.bound[shown] = real

    def real(self, command: str) -> str:
        """Return a command with what stands for something replaced by it."""
        return _VOLATILE.sub(lambda match: self.bound.get(match[0], match[0]), command)

    def take(self, expected: str, output: str) -> bool:
        """Say whether an output is as expected, and bind what it is the first to show."""
        fresh: list[str] = []
        pattern = "".join(
            r"(?:.*\n)*?" if line == "...\n" else self._pattern(line, fresh) for line in expected.splitlines(True)
        )
        match = re.fullmatch(pattern, output)
        if match is not None:
            for shown, real in zip(fresh, match.groups(), strict=True):
                self.bind(shown, real)
        return match is not None

    def _pattern(self, line: str, fresh: list[str]) -> str:
        pattern, end = "", 0
        for match in _VOLATILE.finditer(line):
            pattern += re.escape(line[end : match.start()])
            end = match.end()
            shown, form = match[0], match.lastgroup
            assert form is not None
            if form in _UNBOUND:
                pattern += f"(?:{FORMS[form]})"
            elif shown in self.bound:
                pattern += re.escape(self.bound[shown])
            elif shown in fresh:
                pattern += f"\\{fresh.index(shown) + 1}"
            else:
                fresh.append(shown)
                pattern += f"({FORMS[form]})"
        return pattern + re.escape(line[end:])


class Failed(AssertionError):  # noqa: N818 - named after what happened, as in the rest of the project
    """A command ended with another exit status than 0."""


class Shell:
    """A shell in a folder, in which the programs of this installation are found; whatever it started ends with it."""

    def __init__(self, folder: Path) -> None:
        """Start it."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._folder = folder
        self._environment = {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8"}
        self._programs = ForkedPrograms(folder / ".programs") if os.environ.get("CLUSTER_STORE_REAL") != "1" else None
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=self._environment | ({"PATH": f"{folder / '.programs'}:{path}"} if self._programs else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._came = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._count = 0

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, and all that it started."""
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.communicate(timeout=PATIENCE_S)
        self._reader.join(PATIENCE_S)
        if self._programs is not None:
            self._programs.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
            self._came.set()

    def run(self, page: str, bindings: Bindings) -> None:
        """Run a page's commands, and compare what they print with the page."""
        for step in steps(page):
            self._run_step(step, bindings)

    def _run_step(self, step: Step, bindings: Bindings) -> None:
        command = bindings.real(step.command)
        output = ""

        def as_written() -> bool:
            nonlocal output
            output = self._execute(step.machine, command)
            return bindings.take(step.output, output)

        def by_now() -> bool:
            # A key that has not arrived yet is not set, which is an exit status of its own.
            with suppress(Failed):
                return as_written()
            return False

        def said_by_now() -> bool:
            nonlocal output
            output = self._said()
            return bindings.take(step.output, output)

        questions = list(dialogue.answers(bindings.real(step.output)))
        if questions:
            output = self._hold(step.machine, command, questions)
            passed = bindings.take(step.output, output)
        elif _LOOKING.match(command):
            passed = _within(by_now)
        elif command.endswith("&"):
            self._execute(step.machine, command)
            passed = _within(said_by_now)
        else:
            passed = as_written()
        difference = "".join(ndiff(step.output.splitlines(True), output.splitlines(True)))
        assert passed, f"what the page says and what came differ after: {command}\n{difference}"

    def _hold(self, machine: str, command: str, questions: list[dialogue.Answer]) -> str:
        """Run a command at a terminal and return its screen."""
        environment = {**self._environment, "CLUSTER_STORE": machine}
        return _bare(dialogue.hold(command, questions, self._folder, environment, PATIENCE_S).splitlines())

    def _execute(self, machine: str, command: str) -> str:
        """Run a command to its end and return what it printed; one in the background may not have printed all."""
        assert self._process.stdin is not None
        self._count += 1
        self._lines.clear()
        end = f"--- {self._count} ended with "
        where = f"export CLUSTER_STORE={machine}\n" if machine else ""
        self._process.stdin.write(f"{where}{{ {command}\n}} </dev/null\necho '{end}'$?\n")
        self._process.stdin.flush()
        wait_until(
            lambda: any(line.startswith(end) for line in self._lines), PATIENCE_S, what=command, changed=self._came
        )
        status = next(line for line in self._lines if line.startswith(end)).removeprefix(end).strip()
        if status != "0":
            raise Failed(f"exit status {status} from: {command}\n{self._said()}")
        return self._said()

    def _said(self) -> str:
        return _bare([line for line in list(self._lines) if not line.startswith("--- ")])


def _within(condition: Callable[[], bool]) -> bool:
    """Say whether a condition comes to hold in time."""
    try:
        return wait_until(condition, PATIENCE_S)
    except AssertionError:
        return False
