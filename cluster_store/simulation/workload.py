"""What people ask for: every kind of change there is, on few names, so that they meet."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random

import msgspec

from cluster_store.core import commands, decide_commit
from cluster_store.core.commands import Command
from cluster_store.core.conflicts import conflicts
from cluster_store.core.decision import Context
from cluster_store.core.errors import ClusterStoreError
from cluster_store.core.registers import Secret
from cluster_store.core.rules import read
from cluster_store.core.types import Epoch, Path
from cluster_store.simulation import administration
from cluster_store.simulation.clock import Pause
from cluster_store.simulation.fleet import Fleet
from cluster_store.simulation.host import Host

#: How often documents are saved, compared with how often somebody asks for something.
_TIDY_SHARE = 0.2
#: How long a change may last that goes back by itself, milliseconds: what a run, and what follows it, has time for.
WINDOWS_MS = (300, 2000, 5000)


async def work(fleet: Fleet, dice: Random) -> None:
    """Ask for changes, as many as the options say, of whichever machines run."""
    asked = 0
    while asked < fleet.options.events:
        await Pause(round(dice.expovariate(1 / fleet.options.event_ms)))
        members = fleet.members
        if not members:
            continue
        host = dice.choice(members)
        for _ in range(min(fleet.options.events - asked, dice.randint(1, fleet.options.burst))):
            asked += 1
            assert host.process is not None
            draw = administration.remove_machines if asked in fleet.options.removals_at else draw_command
            host.process.submit(draw(fleet, host, dice))
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
            f"group:{fleet.words.home}",
            f"group:{dice.choice(fleet.words.groups)}",
        )
    )


def _machine(fleet: Fleet, dice: Random) -> str:
    return dice.choice(fleet.hosts).machine


def _set(fleet: Fleet, host: Host, dice: Random) -> Command:
    words = fleet.words
    secret = dice.random() < 0.2  # noqa: PLR2004
    common = (*words.plain_keys, *words.plain_keys, words.secret_key, *words.set_keys)
    key = words.secret_key if secret else dice.choice(common)
    return commands.SetSetting(
        key=key,
        value=dice.choice(words.values_of(key)),
        secret=secret,
        level=_level(fleet, host, dice),
        salt=dice.randbytes(16),
    )


def _unset(fleet: Fleet, host: Host, dice: Random) -> Command:
    key = dice.choice((*fleet.words.plain_keys, *fleet.words.set_keys, fleet.words.secret_key))
    return commands.UnsetSetting(key=key, level=_level(fleet, host, dice))


def _add(fleet: Fleet, host: Host, dice: Random) -> Command:
    words = fleet.words
    key = dice.choice((*words.set_keys, *words.set_keys, *words.set_keys, *words.plain_keys))
    elements = tuple(dice.sample(words.elements, dice.randint(1, 2)))
    return commands.AddElements(key=key, elements=elements, level=_level(fleet, host, dice))


def _remove(fleet: Fleet, host: Host, dice: Random) -> Command:
    elements = (dice.choice(fleet.words.elements),)
    key = dice.choice(fleet.words.set_keys)
    return commands.RemoveElements(key=key, elements=elements, level=_level(fleet, host, dice))


def _load(fleet: Fleet, host: Host, dice: Random) -> Command:
    words = fleet.words
    keys = dice.sample(words.plain_keys, dice.randint(1, 3))
    settings = {key: dice.choice(words.values_of(key)) for key in keys}
    level = _level(fleet, host, dice)
    return commands.LoadConfig(settings=settings, source="file", level=level, salt=dice.randbytes(16))


def _copy(fleet: Fleet, host: Host, dice: Random) -> Command:
    level, target = _level(fleet, host, dice), _level(fleet, host, dice)
    return commands.CopySettings(keys=_keys(fleet, dice), level=level, target=target, salt=dice.randbytes(16))


def _move(fleet: Fleet, host: Host, dice: Random) -> Command:
    level, target = _level(fleet, host, dice), _level(fleet, host, dice)
    return commands.MoveSettings(keys=_keys(fleet, dice), level=level, target=target, salt=dice.randbytes(16))


def _delete(fleet: Fleet, host: Host, dice: Random) -> Command:
    return commands.DeleteSettings(keys=_keys(fleet, dice), level=_level(fleet, host, dice))


def _commit(fleet: Fleet, host: Host, dice: Random) -> Command:
    """Commit what was staged on what stood a moment ago, or would have been refused to be."""
    registers = host.log.disk
    context = Context(registers, read(registers), host.machine, "os:root", 0, Epoch(""))
    staged: list[commands.Staged] = []
    for draw in dice.choices((_set, _set, _unset, _add, _remove, _load, _copy, _move, _delete), k=dice.randint(1, 4)):
        with suppress(ClusterStoreError):
            one, _ = decide_commit.stage(staged, draw(fleet, host, dice), context)
            staged += [one] if one is not None else []
    return commands.CommitConfig(staged=tuple(staged), confirm_within=dice.choice((None, None, *WINDOWS_MS)))


def _try(fleet: Fleet, host: Host, dice: Random) -> Command:
    """Change something for a while."""
    drawn = dice.choice((_set, _set, _unset, _add, _remove, _load))(fleet, host, dice)
    return msgspec.structs.replace(drawn, lasts=dice.choice(WINDOWS_MS))


def _confirm(_fleet: Fleet, host: Host, dice: Random) -> Command:
    """Confirm one of the changes that would go back by themselves, if there is any."""
    disk = host.log.disk
    events = list(dict.fromkeys(timer.event for timer in read(disk).timers.standing))
    chosen = tuple(dice.sample(events, min(1, len(events))))
    records = [disk.records[disk.positions[event] - 1].record for event in chosen]
    paths = tuple(write.path for record in records for write in record.envelope.writes)
    return commands.ConfirmConfig(events=chosen, paths=paths, salt=dice.randbytes(16))


def _roll_back(fleet: Fleet, host: Host, dice: Random) -> Command:
    """Let a setting have another value in the place of all that stand now, as if it had been so before."""
    standing = [(path, lanes) for path, lanes in host.log.disk.under("setting/") if lanes]
    restorations = []
    for path, lanes in dice.sample(standing, min(1, len(standing))):
        ids = tuple(lane.id for lane in lanes)
        value = dice.choice((None, dice.choice(fleet.words.values_of(""))))
        secret = value is not None and any(isinstance(lane.value, Secret) for lane in lanes)
        salt = dice.randbytes(16) if secret else b""
        restorations.append(commands.Restoration(path=path, value=value, replaced=ids, standing=ids, salt=salt))
    return commands.RollBackConfig(events=("0" * 64,), restorations=tuple(restorations))


def _settle(_fleet: Fleet, host: Host, dice: Random) -> Command:
    """Settle a conflict of any kind, and note that what shows of a clone was looked into."""
    noted = commands.Acknowledgement(machine=host.machine, signs=("looked into",))
    settlements = _settlements(host, dice, lambda _: True)
    return commands.SettleConflicts(
        settlements=settlements, acknowledged=dice.choice(((), (noted,))), salt=dice.randbytes(16)
    )


def _settle_settings(_fleet: Fleet, host: Host, dice: Random) -> Command:
    settlements = _settlements(host, dice, lambda path: path.startswith("setting/"))
    return commands.SettleSettings(settlements=settlements, salt=dice.randbytes(16))


def _settlements(host: Host, dice: Random, wanted: Callable[[Path], bool]) -> tuple[commands.Settlement, ...]:
    """Return how one of the conflicts that stand is settled, nothing where there is none."""
    standing = [conflict for conflict in conflicts(host.log.disk) if wanted(conflict.path)]
    settlements = []
    for conflict in dice.sample(standing, min(1, len(standing))):
        ids = tuple(lane.id for lane in host.log.disk.standing(conflict.path))
        settlements.append(commands.Settlement(path=conflict.path, event=dice.choice(("", *ids)), standing=ids))
    return tuple(settlements)


def _keys(fleet: Fleet, dice: Random) -> tuple[str, ...]:
    """Return one key, or all that begin like it."""
    key = dice.choice((*fleet.words.plain_keys, *fleet.words.set_keys, fleet.words.secret_key))
    return (dice.choice((key, key[: key.find(".") + 1] or key)),)


#: How a command is drawn, and how often compared with the others.
KINDS: tuple[tuple[Callable[[Fleet, Host, Random], Command], int], ...] = (
    (_set, 30),
    (_unset, 6),
    (_add, 12),
    (_remove, 6),
    (_load, 4),
    (_copy, 2),
    (_move, 2),
    (_delete, 2),
    (_commit, 3),
    (_try, 3),
    (_confirm, 3),
    (_roll_back, 2),
    (_settle, 2),
    (_settle_settings, 2),
    *administration.KINDS,
)
