"""The mode: the level that commands are about which name none, and which commands want to be in which mode.

A mode is a level, by its owner's id: whoever renames a group takes nobody out of it, and whoever gives its name to
another one puts nobody there. A shell session has one. Where its owner goes, the session stays where it was, and what
is about that level is refused: what was meant for a few machines must not reach all of them.

A shell begins in the cluster's, unless ``clustermode`` outside a shell chose another: that is kept beside the store.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cluster_store.core.errors import Refused, StoreError
from cluster_store.core.registers import CLUSTER, machine_level
from cluster_store.core.types import GroupId, Level, MachineId

if TYPE_CHECKING:
    from cluster_store.core.cluster import Cluster

#: A guest changes nothing with it but their own password.
_OWN_PASSWORD = ("guest", "passwd")
#: The file beside the store: who -> the level that they chose, as its path, in which names cannot change.
_FILE = "modes.json"
_FILE_BYTES_MAX = 1 << 20
_LEVEL = re.compile(f"{CLUSTER}|(?:group|machine)/.+")


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
    mode: Level
    #: The warning and the offer, to be answered with yes or no; yes where nothing is answered.
    question: str


def place_of(command: str) -> Place:
    """Return where a command, given by its first word, may be given."""
    return _PLACES.get(command.lower(), Place.ANYWHERE)


def switch_for(command: str, mode: Level, cluster: Cluster, me: MachineId, role: str) -> Switch | None:
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
    wanted = CLUSTER if place is Place.CLUSTER_MODE else machine_level(me)
    if mode == wanted:
        return None
    name = "cluster mode" if wanted == CLUSTER else f"the mode of this machine, {owner_of(wanted, cluster)}"
    return Switch(wanted, f"'{command}' is for {place} only, and this is {shown(mode, cluster)}. Switch to {name}?")


def shown(mode: Level, cluster: Cluster) -> str:
    """Return a mode for a sentence: ``cluster mode``, ``the mode of the group paris``, and whether it is gone."""
    owner = owner_of(mode, cluster)
    named = f"the mode of the {_kind(mode)} {owner}" if owner else "cluster mode"
    return named if is_there(mode, cluster) else f"{named}, which is gone"


def owner_of(mode: Level, cluster: Cluster) -> str:
    """Return the name of the group or machine that a mode is of, its last one where that is gone; "" of the cluster."""
    owner = mode.partition("/")[2]
    if not owner or is_there(mode, cluster):
        return cluster.show_level(mode).partition(":")[2]
    if _kind(mode) == "machine":
        return cluster.hostname(MachineId(owner))
    deleted = cluster.deleted_groups.get(GroupId(owner))
    return (deleted.name if deleted is not None else "") or owner


def _kind(mode: Level) -> str:
    return mode.partition("/")[0]


def is_there(mode: Level, cluster: Cluster) -> bool:
    """Say whether there is the cluster, group or machine that a mode is of."""
    kind, _, owner = mode.partition("/")
    alive: Mapping[str, Collection[str]] = {"group": cluster.groups, "machine": cluster.machines}
    return owner in alive[kind] if owner else bool(cluster.name)


def refuse_gone(mode: Level, cluster: Cluster) -> None:
    """Raise Refused where the cluster, group or machine that a mode is of is gone."""
    if not is_there(mode, cluster):
        named = " ".join(filter(None, (_kind(mode), owner_of(mode, cluster))))
        raise Refused(
            f"the {named}, which this session was about, is gone",
            "choose one with 'clustermode'; nothing was done",
        )


def beginning(root: Path, user: str, cluster: Cluster, me: MachineId) -> Level:
    """Return the mode that somebody's shell begins in: without a cluster this machine's."""
    return remembered(root, user) if cluster.name else machine_level(me)


# --- what is remembered ------------------------------------------------------------------------------------


def remembered(root: Path, user: str) -> Level:
    """Return the level that somebody chose for their shells, the cluster's where they never did."""
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
    return {user: level for user, level in known if isinstance(level, str) and _LEVEL.fullmatch(level)}


def checked(text: str, cluster: Cluster) -> Level:
    """Return the level that somebody wants as their mode. Raises Refused and NotFound."""
    level = cluster.level(text)
    owner = level.partition("/")[2]
    if owner in cluster.removed or owner in cluster.deleted_groups:
        raise Refused(f"nobody is at {text} any more", "choose the level of the cluster, a group or a machine")
    return level
