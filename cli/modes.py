"""The mode: the level that commands are about which name none, and which commands want to be in which mode.

A mode is a level as an operator writes it. A shell session has one; the one that somebody chose last is remembered
beside the store, for each person, and their next shell begins in it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cluster_store.core.errors import Refused, StoreError

if TYPE_CHECKING:
    from cluster_store.core.cluster import Cluster
    from cluster_store.core.types import Level, MachineId

CLUSTER = "cluster"
#: A guest changes nothing with it but their own password.
_OWN_PASSWORD = ("guest", "passwd")
#: The file beside the store: who -> the level that they chose, as its path, in which names cannot change.
_FILE = "modes.json"
_FILE_BYTES_MAX = 1 << 20


class Place(StrEnum):
    """Where a command may be given."""

    ANYWHERE = "anywhere"
    #: It is about the cluster as a whole.
    CLUSTER_MODE = "cluster mode"
    #: It is about what a machine says of itself, and each machine says that of itself only.
    MACHINE_MODE = "machine mode"
    #: It touches files of the machine that somebody is logged in to.
    LOGIN_HOST = "the login host"


_PLACES: Mapping[str, Place] = {
    **dict.fromkeys(("clusterconfig", "clustercheck", "userconfig", "passwd"), Place.CLUSTER_MODE),
    **dict.fromkeys(("machine", "featurekey"), Place.MACHINE_MODE),
    **dict.fromkeys(("saveconfig", "loadconfig", "backup", "restore", "repair"), Place.LOGIN_HOST),
}


class Switch(NamedTuple):
    """What to do before a command that is not for the mode somebody is in."""

    #: The mode that it is for.
    mode: str
    #: The warning and the offer, to be answered with yes or no; yes where nothing is answered.
    question: str


def place_of(command: str) -> Place:
    """Return where a command, given by its first word, may be given."""
    return _PLACES.get(command.lower(), Place.ANYWHERE)


def switch_for(command: str, mode: str, cluster: Cluster, me: MachineId, role: str) -> Switch | None:
    """Return the switch that a command needs; None where it may be given in this mode.

    Args:
        command: its first word.
        mode: the session's.
        cluster: the cluster as it is.
        me: the machine that somebody is logged in to.
        role: theirs.
    """
    place = place_of(command)
    if not cluster.name or place is Place.ANYWHERE or (role, command.lower()) == _OWN_PASSWORD:
        return None
    here = _of_machine(cluster, me)
    wanted = CLUSTER if place is Place.CLUSTER_MODE else here
    if mode.casefold() == wanted.casefold():
        return None
    name = "cluster mode" if wanted == CLUSTER else f"the mode of this machine, {here.partition(':')[2]}"
    return Switch(wanted, f"'{command}' is for {place} only, and this is {shown(mode)}. Switch to {name}?")


def shown(mode: str) -> str:
    """Return a mode for a sentence: ``cluster mode``, ``the mode of the group paris``."""
    kind, _, owner = mode.partition(":")
    return f"the mode of the {kind} {owner}" if owner else f"{kind} mode"


def _of_machine(cluster: Cluster, me: MachineId) -> str:
    from cluster_store.core.naming import show_level
    from cluster_store.core.registers import machine_level

    return show_level(machine_level(me), cluster)


def mode_of(level: Level, cluster: Cluster, me: MachineId) -> str:
    """Return the mode of a level: where its owner is gone, and where there is no cluster, what there is instead."""
    from cluster_store.core.naming import show_level

    if not cluster.name:
        return _of_machine(cluster, me)
    kind, _, owner = level.partition("/")
    alive: Mapping[str, Collection[str]] = {"group": cluster.groups, "machine": cluster.machines}
    return show_level(level, cluster) if owner in alive.get(kind, ()) else CLUSTER


# --- what is remembered ------------------------------------------------------------------------------------


def remembered(root: Path, user: str) -> Level:
    """Return the level that somebody chose last, the cluster's where they never did."""
    from cluster_store.core.types import Level

    return Level(_chosen(root).get(user, CLUSTER))


def remember(root: Path, user: str, level: Level) -> None:
    """Keep the level that somebody chose. Raises StoreError where it cannot be written."""
    path = root / _FILE
    fresh = path.with_suffix(f".new-{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fresh.touch(0o600)
        fresh.write_text(json.dumps({**_chosen(root), user: level}, indent=1) + "\n", encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}", "run this as the store's owner") from error


def _chosen(root: Path) -> dict[str, str]:
    """Return what is in the file; nothing where it is none of ours, because it says nothing that matters."""
    path = root / _FILE
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    known = found.items() if isinstance(found, dict) else ()
    return {user: level for user, level in known if isinstance(level, str)}


def checked(text: str, cluster: Cluster) -> Level:
    """Return the level that somebody wants as their mode. Raises Refused and NotFound."""
    level = cluster.level(text)
    owner = level.partition("/")[2]
    if owner in cluster.removed or owner in cluster.deleted_groups:
        raise Refused(f"nobody is at {text} any more", "choose the level of the cluster, a group or a machine")
    return level
