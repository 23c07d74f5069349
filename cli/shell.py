"""``shell``: a prompt for many commands, at a level that stays until it is changed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from cluster_store.core.errors import ClusterStoreError, Refused
from cluster_store.core.naming import counted
from cluster_store.core.registers import CLUSTER, machine_level
from cluster_store.core.roles import ADMINISTRATOR

from . import modes, prompts, questions
from .catalogue import COMMANDS, FAMILIES, SECTIONS
from .failures import DONE, USAGE, complain, guarded
from .session import Session, note, say

if TYPE_CHECKING:
    from cluster_store.core.cluster import Cluster
    from cluster_store.core.types import Level, MachineId

#: Words of the shell itself, and what they do.
_OWN = {"help": "Show the commands, or what one of them takes.", "exit": "Leave."}
_LEAVING = ("exit", "quit", "logout")


def shell(context: typer.Context) -> int:
    """Give one command after another, at a prompt.

    The prompt shows the mode: the level that a command is about which names none. 'clustermode' changes it. Where
    nobody sits at a terminal, commands are read from standard input, one a line. The exit status is the last one's.
    """
    session: Session = context.obj
    cluster, me = _look(session)
    session.mode = modes.beginning(session.root, session.user, cluster, me)
    if cluster.name and session.mode != CLUSTER:
        chosen = f"which 'clustermode' chose for {session.user} on this machine"
        note(f"this shell begins in {modes.shown(session.mode, cluster)}, {chosen}")
    status = DONE
    for line in _typed(session) if prompts.at_terminal() else _given():
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            complain(f"this line cannot be read: {error}", "close what was opened, or put a backslash before it")
            status = USAGE
            continue
        if words and words[0].lower() in _LEAVING:
            break
        if words:
            status = guarded(_command(session, words))
    _remind(session)
    return status


def _remind(session: Session) -> None:
    """Say what is left staged, if anything is."""
    try:
        staged = session.staged
    except ClusterStoreError:
        # Whoever leaves because their login has ended is told that already.
        return
    if staged:
        note(f"left staged: {counted(staged, 'change')}; 'commit' makes it live, 'diff' shows it")


def _command(session: Session, words: list[str]) -> Callable[[], int]:
    from .program import perform

    name = words[0].lower()
    if name == "help":
        return lambda: _help(words[1:], session)
    if name == "shell":
        return _refuse_nested

    def run() -> int:
        _switch(session, name)
        inner = session.again()
        try:
            return perform(words, "cluster-store", inner)
        finally:
            session.mode = inner.mode

    return run


def _refuse_nested() -> int:
    raise Refused("this is a shell already", "'exit' leaves it")


def _switch(session: Session, name: str) -> None:
    """Offer to switch to the mode that a command is for. Raises Refused where that is not wanted."""
    cluster, me = _look(session)
    login = session.login
    role = login.role if login is not None else ADMINISTRATOR
    switch = modes.switch_for(name, session.mode or CLUSTER, cluster, me, role)
    if switch is None or not prompts.at_terminal():
        return
    try:
        agreed = questions.confirm(switch.question, default=True)
    except questions.Left:
        agreed = False
    if not agreed:
        raise Refused("the mode was not switched", "nothing was done")
    session.mode = switch.mode


def _help(words: list[str], session: Session) -> int:
    from .program import perform

    if words:
        return perform([*words, "--help"], "cluster-store", session.again())
    for title, entries in SECTIONS.items():
        say(f"{title}:")
        for name, entry in entries.items():
            say(f"  {name:14} {entry.help}")
    say("This shell:")
    for name, what in _OWN.items():
        say(f"  {name:14} {what}")
    return DONE


# --- what the prompt shows -------------------------------------------------------------------------------


def _look(session: Session) -> tuple[Cluster, MachineId]:
    """Return the cluster and this machine as they are now. Raises StoreError where there is no store."""
    with session.read() as store:
        return store.cluster(), store.me


class Inbox:
    """How much waits for somebody: looked for in the whole store, so only when something has been written."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._records = -1
        self._told: tuple[str, ...] = ()

    def told(self, session: Session) -> tuple[str, ...]:
        """Return the conflicts and the problems, counted."""
        from .clustercheck import inbox_of

        with session.read() as store, store.snapshot():
            if store.count != self._records:
                found = inbox_of(store)
                counts = {"conflict": len(found.conflicts), "problem": len(found.problems)}
                self._told = tuple(counted(count, what) for what, count in counts.items() if count)
                self._records = store.count
        return self._told


def prompt_of(cluster: Cluster, me: MachineId, mode: Level | None, inbox: Sequence[str] = (), staged: int = 0) -> str:
    """Return the prompt: the mode, if this machine is detached, and what is open, staged or unconfirmed."""
    mode = mode or (CLUSTER if cluster.name else machine_level(me))
    machine = cluster.machine_or_removed(me)
    name = machine.hostname if machine else me
    waiting = sum(timer.waits_for_a_person for timer in cluster.timers.standing)
    drafted = (f", {staged} staged" if staged else "") + (f", {waiting} to confirm" if waiting else "")
    gone = "" if modes.is_there(mode, cluster) else ", gone"
    if not cluster.name and not gone:
        return f"{name}{drafted}> "
    owner = modes.owner_of(mode, cluster) or cluster.name
    shown = " ".join(filter(None, (mode.partition("/")[0].capitalize(), owner)))
    which = "" if mode == machine_level(me) else f"{name} is "
    detached = f", {which}detached" if machine is not None and machine.detached else ""
    told = "".join(f", {one}" for one in inbox)
    return f"({shown}{gone}{detached}{told}{drafted})> "


def _given() -> Iterator[str]:
    """Yield the lines of standard input. Bytes that are no text become what no command takes."""
    for line in sys.stdin.buffer:
        yield line.decode(errors="surrogateescape")


def _typed(session: Session) -> Iterator[str]:
    """Yield the lines that somebody types, with history, editing and completion."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import InMemoryHistory

    asking: PromptSession[str] = PromptSession(history=InMemoryHistory())
    inbox = Inbox()
    note("'help' shows the commands, 'exit' leaves; the tab key completes.")
    while True:
        try:
            cluster, me = _look(session)
            prompt = prompt_of(cluster, me, session.mode, inbox.told(session), session.staged)
            completer = WordCompleter(_words(session, cluster), sentence=False, ignore_case=True, WORD=True)
        except ClusterStoreError as error:
            complain(error.message, error.hint)
            prompt, completer = "> ", WordCompleter([*COMMANDS, *_OWN])
        try:
            yield asking.prompt(prompt, completer=completer, complete_while_typing=False)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _words(session: Session, cluster: Cluster) -> list[str]:
    """Return all that can be completed: commands and operations, machines, groups, levels and keys."""
    from cluster_store.core.settings import keys_under

    machines = [machine.hostname for machine in cluster.machines.values()]
    groups = [group.name for group in cluster.groups.values()]
    levels = ["cluster", *(f"group:{name}" for name in groups), *(f"machine:{name}" for name in machines)]
    operations = [name for family in FAMILIES.values() for name in family]
    with session.read() as store:
        keys = keys_under(store, cluster.levels_for(store.me))
    return [*COMMANDS, *operations, *_OWN, *machines, *groups, *levels, *keys]
