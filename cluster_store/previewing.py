"""What a machine loses and gains by joining a cluster, key by key, and the file that keeps what it had.

Before the join a member tells what the machine would do there, and the machine compares it with what it does now.
Nothing of it is believed later: the join itself is a sync like any other.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec

from cluster_store.core.cluster import Cluster
from cluster_store.core.errors import StoreError
from cluster_store.core.history import SECRET
from cluster_store.core.limits import FRAME_BYTES_MAX
from cluster_store.core.naming import show_level
from cluster_store.core.registers import CLUSTER, Registers, group_level, machine_level
from cluster_store.core.settings import Value, effective_settings
from cluster_store.core.state import Draft
from cluster_store.core.types import GroupId, Level, MachineId
from cluster_store.formats import write_config
from cluster_store.node import Node

#: Values that a member tells before a join: they must fit into one answer, and nobody reads more.
_TOLD_BYTES_MAX = FRAME_BYTES_MAX // 4
#: JSON text in the place of a secret's.
_SECRET = f'"{SECRET}"'


class Told(msgspec.Struct, frozen=True):
    """A setting as a joiner would have it: JSON text, or None for a secret, and the level that gives it."""

    value: str | None
    level: str


class Offer(msgspec.Struct, frozen=True):
    """What a member tells a machine that rehearses a join."""

    settings: dict[str, Told]
    #: Name -> role.
    users: dict[str, str]
    #: Settings that were too many to tell.
    left_out: int = 0


def levels_of(joiner: MachineId, group: GroupId) -> list[Level]:
    """Return the levels that a machine would inherit from."""
    return [machine_level(joiner), group_level(group), CLUSTER]


def offer(registers: Registers, cluster: Cluster, joiner: MachineId, group: GroupId) -> Offer:
    """Return what a machine would do in a group.

    Args:
        registers: with the scopes of ``levels_of`` the joiner.
        cluster: the read model of these registers.
        joiner: the machine's id.
        group: the group that it would be in.
    """
    settings: dict[str, Told] = {}
    found = effective_settings(registers, levels_of(joiner, group))
    size = 0
    for key, value in found.items():
        text = value.value if isinstance(value.value, str) else None
        size += len(key) + len(text or "")
        if size > _TOLD_BYTES_MAX:
            break
        settings[key] = Told(text, show_level(value.level, cluster))
    users = {user.name: user.role for user in cluster.users.values()}
    return Offer(settings, users, len(found) - len(settings))


def differences(offered: Offer, registers: Registers, cluster: Cluster, me: MachineId) -> dict[str, Any]:
    """Return what this machine would lose and gain, for people and scripts.

    ``settings``: for each key that changes ``old`` and ``new``, JSON text or None for none, and ``level``, the one that
    would give it. ``users``: names that are ``lost``, ``gained`` and ``replaced``. ``kept``: what stays.
    """
    own = effective_settings(registers, cluster.levels_for(me))
    changes = [
        {
            "key": key,
            "old": _own_text(own.get(key)),
            "new": _told_text(offered.settings.get(key)),
            "level": offered.settings[key].level if key in offered.settings else None,
        }
        for key in sorted({**own, **offered.settings})
        if not _same(own.get(key), offered.settings.get(key))
    ]
    names = {user.name for user in cluster.users.values()}
    machine = cluster.machines[me]
    return {
        "settings": changes,
        "left_out": offered.left_out,
        "users": {
            "lost": sorted(names - offered.users.keys()),
            "gained": sorted(offered.users.keys() - names),
            "replaced": sorted(offered.users.keys() & names),
        },
        "kept": {
            "hostname": machine.hostname,
            "serial": machine.serial,
            "interfaces": dict(machine.interfaces),
            "ssh_port": machine.ssh_port,
            "ccs_port": machine.ccs_port,
        },
    }


def _same(own: Value | None, told: Told | None) -> bool:
    # Secrets are not told, so nobody knows whether two are the same.
    return own is not None and told is not None and told.value is not None and own.value == told.value


def _own_text(own: Value | None) -> str | None:
    if own is None:
        return None
    return own.value if isinstance(own.value, str) else _SECRET


def _told_text(told: Told | None) -> str | None:
    if told is None:
        return None
    return told.value if told.value is not None else _SECRET


async def preview(node: Node, offered: Offer | None) -> dict[str, Any] | None:
    """Return what a node's machine would lose and gain, as ``differences``; None where the member did not tell."""
    if offered is None:
        return None
    state, cluster = node.replica.state, node.replica.cluster
    await node.load(set(cluster.levels_for(state.me)))
    return differences(offered, Draft(state), cluster, state.me)


async def save_settings(node: Node, path: Path) -> list[str]:
    """Save what a node's machine does as a configuration file; return the keys of the secrets that are left out.

    Args:
        node: the machine's.
        path: of a file that is not there yet. Only its owner can read it.

    Raises:
        StoreError: it cannot be written; then there is none.
    """
    state, cluster = node.replica.state, node.replica.cluster
    levels = cluster.levels_for(state.me)
    await node.load(set(levels))
    found = effective_settings(Draft(state), levels)
    settings = {key: value.value for key, value in found.items() if isinstance(value.value, str)}
    await asyncio.to_thread(_write, path, write_config(settings, "json", exact=False))
    return sorted(found.keys() - settings.keys())


def _write(path: Path, text: str) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - a descriptor
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path} cannot be written: {error.strerror}", "see to the disk, then join again")
