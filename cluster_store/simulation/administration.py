"""What people ask about machines, groups, users and the cluster itself, with few names, so that they meet."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from random import Random

from cluster_store.core import commands
from cluster_store.core.cluster import ADMIN, ROLES
from cluster_store.core.commands import Command
from cluster_store.simulation.fleet import Fleet
from cluster_store.simulation.host import Host

#: What the blob of an OpenSSH ed25519 key begins with.
_KEY_HEAD = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"
_USERS = ("carla", "dieter", "Carla")
_NEWCOMERS = ("newcomer", "latecomer")
_CLUSTERS = ("ships", "fleet")


def _key(dice: Random) -> str:
    return f"ssh-ed25519 {b64encode(_KEY_HEAD + bytes([dice.randint(1, 3)]) * 32).decode()}"


def _hash(dice: Random) -> str:
    return f"$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ${dice.randint(1, 9)}"


def _machine(fleet: Fleet, dice: Random) -> str:
    return dice.choice(fleet.hosts).machine


def _group(fleet: Fleet, dice: Random) -> str:
    return dice.choice((fleet.words.home, *fleet.words.groups))


# --- groups ---


def _add_group(fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.AddGroup(name=dice.choice(fleet.words.groups))


def _rename_group(fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.RenameGroup(group=_group(fleet, dice), name=dice.choice(fleet.words.groups))


def _delete_group(fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.DeleteGroup(group=_group(fleet, dice), to=dice.choice(("", _group(fleet, dice))))


def _move(fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.MoveMachines(machines=(_machine(fleet, dice),), group=_group(fleet, dice))


# --- machines ---


def _detach(fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.DetachMachines(machines=(_machine(fleet, dice),))


def _reconnect(fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.ReconnectMachines(machines=(_machine(fleet, dice),))


def _change_machine(_fleet: Fleet, host: Host, dice: Random) -> Command:
    return commands.ChangeMachine(hostname=f"{host.name}-{dice.randint(1, 3)}")


def _begin_epoch(_fleet: Fleet, _host: Host, _dice: Random) -> Command:
    return commands.BeginEpoch(reason="repaired")


def _announce(_fleet: Fleet, _host: Host, dice: Random) -> Command:
    hostname = dice.choice(_NEWCOMERS)
    return commands.AnnounceMachine(hostname=hostname, serial=f"SERIAL-{hostname}", key=_key(dice))


def _withdraw(_fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.WithdrawAnnouncement(hostname=dice.choice(_NEWCOMERS))


def remove_machines(fleet: Fleet, _host: Host, dice: Random) -> Command:
    """Remove one machine, or two at once, but leave two that stay: of fewer nothing could be demanded."""
    gone = fleet.removed
    staying = sorted({host.machine for host in fleet.hosts if host.machine not in gone and host.joined})
    machines = dice.sample(staying, min(dice.choice((1, 1, 2)), max(0, len(staying) - 2)))
    return commands.RemoveMachines(machines=tuple(machines))


# --- the cluster ---


def _name_cluster(_fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.SetClusterName(name=dice.choice(_CLUSTERS))


def _communicate(fleet: Fleet, _host: Host, dice: Random) -> Command:
    machine = dice.choice((None, _machine(fleet, dice)))
    return commands.ChangeCommunication(
        over=dice.choice((None, "ssh", "ccs")), port=dice.choice((None, 22, 2222, 2200)), machine=machine
    )


# --- people ---


def _add_user(_fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.AddUser(
        name=dice.choice(_USERS),
        role=dice.choice(ROLES),
        password=_hash(dice),
        keys=dice.choice(((), (_key(dice),))),
        salt=dice.randbytes(16),
    )


def _change_user(_fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.ChangeUser(
        user=dice.choice(_USERS),
        rename=dice.choice((None, None, *_USERS)),
        role=dice.choice((None, *ROLES)),
        add_keys=dice.choice(((), (_key(dice),))),
        salt=dice.randbytes(16),
    )


def _delete_user(_fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.DeleteUser(user=dice.choice(_USERS), salt=dice.randbytes(16))


def _change_password(_fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.ChangePassword(user=dice.choice((ADMIN, *_USERS)), password=_hash(dice), salt=dice.randbytes(16))


#: How a command is drawn, and how often compared with the others.
KINDS: tuple[tuple[Callable[[Fleet, Host, Random], Command], int], ...] = (
    (_add_group, 4),
    (_rename_group, 2),
    (_delete_group, 2),
    (_move, 6),
    (_detach, 4),
    (_reconnect, 5),
    (_change_machine, 2),
    (_begin_epoch, 1),
    (_announce, 1),
    (_withdraw, 1),
    (_name_cluster, 1),
    (_communicate, 2),
    (_add_user, 3),
    (_change_user, 3),
    (_delete_user, 1),
    (_change_password, 3),
)
