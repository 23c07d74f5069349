"""The process behind a login: what it is given, how it is spoken with, and every way in which it ends."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster_store.adapters import login_process
from cluster_store.ports import Terminal
from tests.waiting import wait_until_async

ROOT = Path("/var/lib/the store")


class Person:
    """Somebody who types, and keeps what is shown; implements ``ports.Conversation``."""

    def __init__(self, command: str | None = "", terminal: Terminal | None = None) -> None:
        self.user, self.auth = "gus", "key"
        self.command, self.terminal = command, terminal
        self.gone = asyncio.Event()
        self.shown = b""
        self.errors = b""
        self.end: tuple[int, str] | None = None
        self.tell: Callable[[Terminal], None] = lambda _: None
        self._typed: asyncio.Queue[bytes] = asyncio.Queue()

    def types(self, *pieces: bytes) -> None:
        """Type something; an empty piece is the end."""
        for piece in pieces:
            self._typed.put_nowait(piece)

    def on_resize(self, tell: Callable[[Terminal], None]) -> None:
        self.tell = tell

    async def read(self) -> bytes:
        return await self._typed.get()

    async def write(self, data: bytes, *, error: bool = False) -> None:
        if error:
            self.errors += data
        else:
            self.shown += data

    def finish(self, status: int, notice: str = "") -> None:
        self.end = self.end or (status, notice)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a script in the place of the command line."""
    return lambda script: monkeypatch.setattr(login_process, "_PROGRAM", ("-c", script))


def runs(process: int) -> bool:
    """Say whether a process is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


async def serve(person: Person, ended: asyncio.Event | None = None) -> tuple[int, str]:
    """Serve somebody to the end; return how it ended."""
    async with asyncio.timeout(60):
        await login_process.serve(ROOT, person, "a token", ended or asyncio.Event())
    assert person.end is not None
    return person.end


async def test_words_go_to_the_program_as_they_are(program: Callable[[str], None]) -> None:
    """Quotes hold words together as in a shell, and nothing else of a shell's is done with them."""
    program("import sys; print(sys.argv[1:])")
    person = Person("cluster-store set a.b 'x y' $HOME `id` ; rm *")
    assert await serve(person) == (0, "")
    assert person.shown == b"['set', 'a.b', 'x y', '$HOME', '`id`', ';', 'rm', '*']\n"


async def test_without_a_command_it_is_the_shell(program: Callable[[str], None]) -> None:
    """This product's, whatever the person typed it for."""
    program("import sys; print(sys.argv[1:])")
    person = Person(None)
    await serve(person)
    assert person.shown == b"['shell']\n"


@pytest.mark.parametrize("command", ["get 'a", "get a\0b"])
async def test_a_line_that_is_no_words_is_a_wrong_use(command: str) -> None:
    """Nothing is started for it."""
    status, notice = await serve(Person(command))
    assert status == 2
    assert "cannot be split into words" in notice


async def test_the_environment_is_made_anew(program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The store, the token, the kind of terminal, and what Python itself needs."""
    monkeypatch.setenv("AN_OPERATORS_SECRET", "1")
    program("import json, os; print(json.dumps(dict(os.environ)))")
    person = Person(terminal=Terminal("xterm\nX=1", 80, 24))
    person.types(b"")
    await serve(person)
    told = json.loads(person.shown)
    assert (told["CLUSTER_STORE"], told["CLUSTER_STORE_LOGIN"]) == (str(ROOT), "a token")
    assert told["TERM"] == "dumb"
    assert "AN_OPERATORS_SECRET" not in told


async def test_typing_output_errors_and_status_are_passed_on(program: Callable[[str], None]) -> None:
    """Each on its own way."""
    program("import sys; print(sys.stdin.read().upper(), end=''); print('oh', file=sys.stderr); sys.exit(3)")
    person = Person()
    person.types(b"hello ", b"there", b"")
    assert await serve(person) == (3, "")
    assert (person.shown, person.errors) == (b"HELLO THERE", b"oh\n")


async def test_an_end_by_a_signal_has_a_status(program: Callable[[str], None]) -> None:
    """As a shell reports it."""
    program("import os; os.kill(os.getpid(), 15)")
    assert await serve(Person()) == (128 + 15, "")


async def test_a_terminal_has_a_size_that_changes(program: Callable[[str], None]) -> None:
    """The program sees it at once, and again when the window has another one."""
    program("import os; print(tuple(os.get_terminal_size())); input(); print(tuple(os.get_terminal_size()))")
    person = Person(terminal=Terminal("xterm", 80, 24))
    serving = asyncio.create_task(serve(person))
    await wait_until_async(lambda: b"(80, 24)" in person.shown, 30)
    person.tell(Terminal("xterm", 132, 50))
    person.types(b"\n")
    assert await serving == (0, "")
    assert b"(132, 50)" in person.shown


async def test_the_end_of_typing_ends_a_terminals_input(program: Callable[[str], None]) -> None:
    """As the key for it does."""
    program("import sys; print(repr(sys.stdin.read()))")
    person = Person(terminal=Terminal("xterm", 80, 24))
    person.types(b"a line\n", b"")
    assert await serve(person) == (0, "")
    assert b"'a line\\n'" in person.shown


@pytest.mark.parametrize("stubborn", [False, True], ids=["goes", "stays"])
@pytest.mark.parametrize("why", ["gone", "ended"])
async def test_the_process_ends_with_the_person_and_with_the_login(
    program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, why: str, *, stubborn: bool
) -> None:
    """It is told as when a terminal is unplugged; one that does not heed that is killed."""
    monkeypatch.setattr(login_process, "_GRACE_S", 0.2 if stubborn else 30.0)
    ignore = "signal.signal(signal.SIGHUP, signal.SIG_IGN); " if stubborn else ""
    program(f"import os, signal, time; {ignore}print(os.getpid(), flush=True); time.sleep(600)")
    person, ended = Person(), asyncio.Event()
    serving = asyncio.create_task(serve(person, ended))
    await wait_until_async(lambda: person.shown.endswith(b"\n"), 30)
    (person.gone if why == "gone" else ended).set()
    status, notice = await serving
    assert status == 1
    assert notice == ("" if why == "gone" else "your user was changed or removed, so this login ends")
    assert not runs(int(person.shown))


async def test_a_login_of_which_nothing_is_heard_ends(
    program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither typing nor output for long: whoever it was has gone away from the keyboard."""
    monkeypatch.setattr(login_process, "LOGIN_IDLE_S", 0.3)
    program("import time; time.sleep(600)")
    status, notice = await serve(Person())
    assert status == 1
    assert "nothing happened for" in notice


async def test_a_listener_that_closes_leaves_no_process(program: Callable[[str], None]) -> None:
    """A cancelled login takes its process with it."""
    program("import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    person = Person()
    serving = asyncio.create_task(serve(person))
    await wait_until_async(lambda: person.shown.endswith(b"\n"), 30)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not runs(int(person.shown))
