"""Decisions about settings: plain values, sets, whole files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cluster_store.core import commands, settings
from cluster_store.core.decision import Context, Decision, replace, says, stays, write_secret
from cluster_store.core.errors import NotFound, Refused
from cluster_store.core.events import Event
from cluster_store.core.registers import (
    CLUSTER,
    Registers,
    Secret,
    Secrets,
    Write,
    element_path,
    kind_path,
    machine_level,
    setting_path,
)
from cluster_store.core.types import Level, MachineId
from cluster_store.core.values import check_key


def level_of(command: commands.SettingCommand, keys: Sequence[str], context: Context) -> Level:
    """Return the level to work on; refuse a default that a more specific value would hide from this machine."""
    cluster = context.cluster
    if command.level is not None:
        return cluster.level(command.level)
    if not cluster.name:
        return machine_level(context.me)
    option = "--from" if isinstance(command, commands.LevelCommand) else "--level"
    for level in cluster.levels_for(context.me)[:-1]:
        for key in keys:
            if settings.is_kept(context.registers, level, key):
                shown = cluster.show_level(level)
                raise Refused(
                    f"{key} is set at {shown} for this machine, which hides the cluster's value here",
                    f"say which level you mean: {option} {shown} or {option} cluster",
                )
    return CLUSTER


def set_setting(command: commands.SetSetting, context: Context) -> Decision:
    """Give a key a value. Raises Refused and its kin."""
    key = check_key(command.key)
    level = level_of(command, [key], context)
    writes, secrets = assign(context, level, key, command.value, command.salt, secret=command.secret)
    return _settings_decision("SettingSet", writes, secrets, level, context)


def load_config(command: commands.LoadConfig, context: Context) -> Decision:
    """Give many keys their values, as one event. Raises Refused and its kin."""
    if not command.settings:
        raise Refused(f"{command.source} has no settings", "give a file with at least one")
    keys = [check_key(key) for key in command.settings]
    level = level_of(command, keys, context)
    writes: list[Write] = []
    secrets: Secrets = {}
    for key, value in sorted(command.settings.items()):
        some, beside = assign(context, level, key, value, command.salt, secret=False)
        writes += some
        secrets |= beside
    params = {"source": command.source, "keys": len(keys)}
    return _settings_decision("ConfigLoaded", writes, secrets, level, context, params)


def assign(
    context: Context, level: Level, key: str, value: str, salt: bytes, *, secret: bool
) -> tuple[list[Write], Secrets]:
    """Return the writes that give a key a value; none where it has that value already."""
    registers = context.registers
    if settings.is_set(registers, key):
        if secret:
            raise Refused(f"{key} is a set of values, which cannot be secret", "use another key for the secret")
        return _assign_set(context, level, key, value), {}
    path = setting_path(level, key)
    lanes = registers.standing(path)
    if secret or any(isinstance(lane.value, Secret) for lane in lanes):
        if len(lanes) == 1 and lanes[0].text == value and stays(context, path):
            return [], {}
        write, secrets = write_secret(path, value, salt, context)
        return [write], secrets
    if len(lanes) == 1 and lanes[0].value == value and stays(context, path):
        return [], {}
    return [replace(registers, path, value)], {}


def _assign_set(context: Context, level: Level, key: str, value: str) -> list[Write]:
    try:
        wanted = msgspec.json.decode(value, type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        raise Refused(
            f"{key} is a set of values and cannot become {value[:60]}",
            "give a JSON array, or use 'add' and 'remove'",
        ) from error
    registers = context.registers
    elements = sorted({bytes(element).decode() for element in wanted})
    own = settings.own_elements(registers, level, key)
    paths = {element_path(level, key, element): own.get(element, (False, None))[0] for element in elements}
    gone = [path for path in settings.element_paths(registers, level, key) if path not in paths]
    return [
        *(
            replace(registers, path, settings.PRESENT)
            for path, is_there in paths.items()
            if not is_there or not stays(context, path)
        ),
        *(replace(registers, path, False) for path in gone),
    ]


def unset_setting(command: commands.UnsetSetting, context: Context) -> Decision:
    """Take a key's value away at a level. Raises Refused and its kin."""
    key = check_key(command.key)
    level = level_of(command, [key], context)
    writes = blank(context.registers, level, key)
    if not writes:
        raise NotFound(
            f"{key} is not set at {context.cluster.show_level(level)}",
            f"'explain {key}' shows where its value comes from",
        )
    return _settings_decision("SettingUnset", writes, {}, level, context)


def blank(registers: Registers, level: Level, key: str) -> list[Write]:
    """Return the writes by which a level says nothing of a key any more; none where it says nothing."""
    if settings.is_set(registers, key):
        return [replace(registers, path, False) for path in settings.element_paths(registers, level, key)]
    if any(lane.value is not None for lane in registers.standing(setting_path(level, key))):
        return [replace(registers, setting_path(level, key), None)]
    return []


def add_elements(command: commands.AddElements, context: Context) -> Decision:
    """Add elements to a set, and make the key one if it is nothing yet. Raises Refused and its kin."""
    key = check_key(command.key)
    level = _level_of_set(command, context)
    registers = context.registers
    writes: list[Write] = []
    if not settings.is_set(registers, key):
        for other in {level: None, **dict.fromkeys(context.cluster.levels_for(context.me))}:
            if settings.own_value(registers, other, key):
                raise Refused(
                    f"{key} has a plain value at {context.cluster.show_level(other)}, so nothing can be added to it",
                    f"'unset {key}' first, or use 'set'",
                )
        writes.append(replace(registers, kind_path(key), settings.SET_KIND))
    for element in dict.fromkeys(command.elements):
        path = element_path(level, key, element)
        if not says(registers, path, settings.PRESENT) or not stays(context, path):
            writes.append(replace(registers, path, settings.PRESENT))
    return _settings_decision("ElementsAdded", writes, {}, level, context)


def remove_elements(command: commands.RemoveElements, context: Context) -> Decision:
    """Remove elements from a set at a level, or knock out what it inherits. Raises Refused and its kin."""
    key = check_key(command.key)
    level = _level_of_set(command, context)
    registers = context.registers
    if not settings.is_set(registers, key):
        raise Refused(f"{key} is not a set of values", f"'unset {key}' takes a plain value away")
    own = settings.own_elements(registers, level, key)
    inherited = _inherited_elements(context, level, key)
    writes: list[Write] = []
    for element in dict.fromkeys(command.elements):
        path = element_path(level, key, element)
        if element in inherited:
            if not says(registers, path, settings.KNOCKED_OUT) or not stays(context, path):
                writes.append(replace(registers, path, settings.KNOCKED_OUT))
        elif own.get(element, (False, None))[0] or not stays(context, path):
            writes.append(replace(registers, path, False))
        else:
            raise NotFound(
                f"{element} is not in {key} at {context.cluster.show_level(level)}",
                f"'get {key}' shows its elements",
            )
    return _settings_decision("ElementsRemoved", writes, {}, level, context)


def _level_of_set(command: commands.SettingCommand, context: Context) -> Level:
    # Elements of all levels add up, so a value at a more specific level hides nothing.
    if command.level is None:
        return CLUSTER if context.cluster.name else machine_level(context.me)
    return context.cluster.level(command.level)


def _inherited_elements(context: Context, level: Level, key: str) -> set[str]:
    kind, _, owner = level.partition("/")
    if kind == "machine":
        above = context.cluster.levels_for(MachineId(owner))[1:]
    else:
        above = [CLUSTER] if kind == "group" else []
    value = settings.effective_set(context.registers, above, key)
    return (
        {bytes(raw).decode() for raw in msgspec.json.decode(str(value.value), type=list[msgspec.Raw])}
        if value
        else set()
    )


def _settings_decision(
    kind: str,
    writes: Sequence[Write],
    secrets: Secrets,
    level: Level,
    context: Context,
    params: dict[str, Any] | None = None,
) -> Decision:
    result = {"level": context.cluster.show_level(level), "writes": len(writes)}
    if not writes:
        return Decision(None, result)
    return Decision(Event(kind, tuple(writes), params or {}, secrets), result)
