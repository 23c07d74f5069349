"""What people ask for: every kind of change there is, on few names, so that they meet."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from cluster_store.core import commands
from cluster_store.core.cluster import ADMIN
from cluster_store.core.commands import Command
from cluster_store.simulation.clock import Pause
from cluster_store.simulation.fleet import Fleet, Host

PLAIN_KEYS = ("smtp.banner", "smtp.port", "relay.host", "timezone")
SET_KEYS = ("relay.domains", "allow.networks")
#: Used as a secret mostly, as a plain value now and then.
SECRET_KEY = "relay.password"  # noqa: S105 - the name of a setting
VALUES = ('"a"', '"b"', "25", "[1,2]", "null", "true")
ELEMENTS = ('"x.org"', '"y.org"', '"z.org"', "7")
#: How often documents are saved, compared with how often somebody asks for something.
_TIDY_SHARE = 0.2
GROUPS = ("Paris", "Berlin", "paris", "Lyon")


async def work(fleet: Fleet, dice: Random) -> None:
    """Ask for changes, as many as the options say, of whichever machines run."""
    left = fleet.options.events
    while left > 0:
        await Pause(round(dice.expovariate(1 / fleet.options.event_ms)))
        members = fleet.members
        if not members:
            continue
        host = dice.choice(members)
        for _ in range(min(left, dice.randint(1, fleet.options.burst))):
            left -= 1
            assert host.process is not None
            host.process.submit(draw_command(fleet, host, dice))
        if dice.random() < _TIDY_SHARE and host.process is not None:
            host.process.tidy()


def draw_command(fleet: Fleet, host: Host, dice: Random) -> Command:
    """Return something that a person may ask of a machine; it may well be refused."""
    kinds, weights = zip(*KINDS, strict=True)
    make: Callable[[Fleet, Host, Random], Command] = dice.choices(kinds, weights)[0]
    return make(fleet, host, dice)


def _level(fleet: Fleet, host: Host, dice: Random) -> str | None:
    return dice.choice(
        (
            None,
            "cluster",
            "cluster",
            f"machine:{host.name}",
            f"machine:{_machine(fleet, dice)}",
            "group:Main_Group",
            f"group:{dice.choice(GROUPS)}",
        )
    )


def _machine(fleet: Fleet, dice: Random) -> str:
    return dice.choice(fleet.hosts).machine


def _set(fleet: Fleet, host: Host, dice: Random) -> Command:
    secret = dice.random() < 0.2  # noqa: PLR2004
    key = SECRET_KEY if secret else dice.choice((*PLAIN_KEYS, *PLAIN_KEYS, SECRET_KEY, *SET_KEYS))
    return commands.SetSetting(
        key=key,
        value=dice.choice(VALUES),
        secret=secret,
        level=_level(fleet, host, dice),
        salt=dice.randbytes(16),
    )


def _unset(fleet: Fleet, host: Host, dice: Random) -> Command:
    key = dice.choice((*PLAIN_KEYS, *SET_KEYS, SECRET_KEY))
    return commands.UnsetSetting(key=key, level=_level(fleet, host, dice))


def _add(fleet: Fleet, host: Host, dice: Random) -> Command:
    key = dice.choice((*SET_KEYS, *SET_KEYS, *SET_KEYS, *PLAIN_KEYS))
    elements = tuple(dice.sample(ELEMENTS, dice.randint(1, 2)))
    return commands.AddElements(key=key, elements=elements, level=_level(fleet, host, dice))


def _remove(fleet: Fleet, host: Host, dice: Random) -> Command:
    elements = (dice.choice(ELEMENTS),)
    return commands.RemoveElements(key=dice.choice(SET_KEYS), elements=elements, level=_level(fleet, host, dice))


def _load(fleet: Fleet, host: Host, dice: Random) -> Command:
    settings = {key: dice.choice(VALUES) for key in dice.sample(PLAIN_KEYS, dice.randint(1, 3))}
    level = _level(fleet, host, dice)
    return commands.LoadConfig(settings=settings, source="file", level=level, salt=dice.randbytes(16))


def _add_group(_fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.AddGroup(name=dice.choice(GROUPS))


def _move(fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.MoveMachines(machines=(_machine(fleet, dice),), group=dice.choice(("Main_Group", *GROUPS)))


def _detach(fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.DetachMachines(machines=(_machine(fleet, dice),))


def _reconnect(fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.ReconnectMachines(machines=(_machine(fleet, dice),))


def _rename(_fleet: Fleet, host: Host, dice: Random) -> Command:
    return commands.ChangeMachine(hostname=f"{host.name}-{dice.randint(1, 3)}")


def _password(_fleet: Fleet, _host: Host, dice: Random) -> Command:
    return commands.ChangePassword(user=ADMIN, password=f"hash {dice.randint(1, 9)}", salt=dice.randbytes(16))


def _epoch(_fleet: Fleet, _host: Host, _dice: Random) -> Command:
    return commands.BeginEpoch(reason="repaired")


#: How a command is drawn, and how often compared with the others.
KINDS: tuple[tuple[Callable[[Fleet, Host, Random], Command], int], ...] = (
    (_set, 30),
    (_unset, 6),
    (_add, 12),
    (_remove, 6),
    (_load, 4),
    (_add_group, 4),
    (_move, 6),
    (_detach, 4),
    (_reconnect, 5),
    (_rename, 2),
    (_password, 3),
    (_epoch, 1),
)
