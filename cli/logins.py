"""What a login may reach of this program: every command has its place here, or is for the login host's owner only.

Somebody who logged in has no files on this machine, and runs nothing on it but these commands. Which role may change
what is decided by the daemon, for every request; the role named here only spares questions whose answer would be
refused, and guards what this program reads or does by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cluster_store.core.errors import Refused
from cluster_store.core.roles import ADMINISTRATOR, GUEST, OPERATOR, Caller, require


class Reach(NamedTuple):
    """How far a command reaches for those who log in.

    Attributes:
        role: the least that may run it.
        files: parameters that name files, of which only ``-``, the login's own input or output, is theirs.
        never: parameters that would do something on this machine.
    """

    role: str
    files: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


_READ, _SET, _ALL = Reach(GUEST), Reach(OPERATOR), Reach(ADMINISTRATOR)

REACH: Mapping[str, Reach] = {
    "machine show": _READ,
    "machine set": _ALL,
    "status": _READ,
    "shell": _READ,
    "featurekey": _READ,
    "backup": Reach(ADMINISTRATOR, files=("file",)),
    "clusterconfig create": _ALL,
    "clusterconfig join": _ALL,
    "clusterconfig addgroup": _ALL,
    "clusterconfig setgroup": _ALL,
    "clusterconfig renamegroup": _ALL,
    "clusterconfig deletegroup": _ALL,
    "clusterconfig setname": _ALL,
    "clusterconfig list": _READ,
    "clusterconfig connstatus": _READ,
    "clusterconfig communication": _ALL,
    "clusterconfig disconnect": _ALL,
    "clusterconfig reconnect": _ALL,
    "clusterconfig prepjoin": _ALL,
    "clusterconfig removemachine": _ALL,
    "clustercheck": _READ,
    "clustermode": _READ,
    "clusterset copy": _SET,
    "clusterset move": _SET,
    "clusterset delete": _SET,
    "clustershow": _READ,
    "set": _SET,
    "unset": _SET,
    "add": _SET,
    "remove": _SET,
    "get": _READ,
    "explain": _READ,
    "watch": Reach(GUEST, never=("command",)),
    "showconfig": _READ,
    "saveconfig": Reach(GUEST, files=("file",)),
    "loadconfig": Reach(OPERATOR, files=("file",)),
    "rollbackconfig": _SET,
    "diff": _READ,
    "commit": _SET,
    "confirm": _SET,
    "clearchanges": _SET,
    "userconfig list": _READ,
    "userconfig new": Reach(ADMINISTRATOR, files=("key",)),
    "userconfig edit": Reach(ADMINISTRATOR, files=("key",)),
    "userconfig delete": _ALL,
    # Whose password it may be is decided by the daemon.
    "passwd": _READ,
    "log": _READ,
    "commitdetail": _READ,
    "replay": Reach(GUEST, never=("export",)),
    "verify": _READ,
}
#: Commands that work on this machine's files or processes, whoever asks.
HOST_ONLY = frozenset({"init", "serve", "restore", "repair", "demo", "simulate"})


def check(caller: Caller, command: str, parameters: Mapping[str, Any]) -> None:
    """Raise Refused where a login may not run a command so.

    Args:
        caller: who it is.
        command: its name, that of its family before it.
        parameters: by the names that its function gives them.
    """
    reach = REACH.get(command)
    if reach is None:
        raise Refused(f"'{command}' works on the login host only", "run it there, as the owner of the store")
    require(reach.role, caller, f"'{command}'")
    for name in reach.files:
        given = parameters.get(name)
        for file in given if isinstance(given, list | tuple) else [given]:
            if file is not None and Path(file) != Path("-"):
                raise Refused(
                    f"'{command}' with a file works on the login host only",
                    "give - and send the file, or take it, through the login: ssh ... < FILE",
                )
    for name in reach.never:
        if parameters.get(name):
            raise Refused(f"'{command}' with that option works on the login host only", "leave it out, or run it there")


def refuse_store() -> None:
    """Raise Refused: a login is in one store, that of the machine where it is."""
    raise Refused("--store works on the login host only", "a login is in this machine's store")


def take_terminal() -> None:
    """Be told of interrupts and of the window's size by the terminal that the daemon gave this process."""
    import fcntl
    import termios

    if sys.stdin.isatty():
        fcntl.ioctl(sys.stdin.fileno(), termios.TIOCSCTTY, 0)
