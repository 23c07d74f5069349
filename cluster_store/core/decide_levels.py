"""Decisions about what a level keeps: copied to another level, moved there, or deleted, as one event each.

A copy says what its source says, word for word: a set's elements with those that it knocks out, a secret as a secret,
under a salt of its own so that nobody can see from the log that the two are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cluster_store.core import commands, settings
from cluster_store.core.decide_settings import assign, blank, level_of
from cluster_store.core.decision import Context, Decision, replace, require_cluster, says, stays
from cluster_store.core.errors import NotFound, Refused
from cluster_store.core.events import Event
from cluster_store.core.registers import CLUSTER, Registers, Secret, Secrets, Write, element_path
from cluster_store.core.types import Level
from cluster_store.core.values import check_key


def copy_settings(command: commands.CopySettings, context: Context) -> Decision:
    """Let another level say the same of some keys. Raises Refused and NotFound."""
    return _transfer(command, context, "SettingsCopied", lambda *_: [])


def move_settings(command: commands.MoveSettings, context: Context) -> Decision:
    """Let another level say it, and this one no more. Raises Refused and NotFound."""
    return _transfer(command, context, "SettingsMoved", blank)


def delete_settings(command: commands.DeleteSettings, context: Context) -> Decision:
    """Let a level say nothing of some keys any more. Raises Refused and NotFound."""
    level = level_of(command, [key for key in command.keys if not key.endswith(".")], context)
    keys = _keys(command.keys, level, context)
    writes = [write for key in keys for write in blank(context.registers, level, key)]
    told = {"keys": keys, "from": context.cluster.show_level(level)}
    return Decision(Event("SettingsDeleted", tuple(writes), _params(told)), told)


def _transfer(
    command: commands.CopySettings | commands.MoveSettings,
    context: Context,
    kind: str,
    leave: Callable[[Registers, Level, str], Sequence[Write]],
) -> Decision:
    """Return the event that lets another level say what one says; ``leave`` returns what is written where it was."""
    require_cluster(context)
    cluster, registers = context.cluster, context.registers
    source = CLUSTER if command.level is None else cluster.level(command.level)
    target = CLUSTER if command.target is None else cluster.level(command.target)
    told: dict[str, Any] = {"from": cluster.show_level(source), "to": cluster.show_level(target)}
    if source == target:
        raise Refused(
            f"{told['from']} is where they are to come from and to go to", "name two levels, with --from and --to"
        )
    refuse_gone(target, told["to"], context)
    keys = _keys(command.keys, source, context)
    writes: list[Write] = []
    secrets: Secrets = {}
    for key in keys:
        some, beside = _same(context, source, target, key, command.salt)
        writes += [*some, *leave(registers, source, key)]
        secrets |= beside
    told["keys"] = keys
    if not writes:
        return Decision(None, told)
    return Decision(Event(kind, tuple(writes), _params(told), secrets), told)


def refuse_gone(level: Level, shown: str, context: Context) -> None:
    """Refuse to put anything where nobody reads it."""
    owner = level.partition("/")[2]
    if owner in context.cluster.deleted_groups or owner in context.cluster.removed:
        raise Refused(f"{shown} is no level of anybody any more", "name another level")


def _keys(given: Sequence[str], level: Level, context: Context) -> list[str]:
    """Return the keys that were meant, each once, sorted. Raises NotFound where the level says nothing of one."""
    if not given:
        raise Refused("no key was named", "name at least one, or all under one, as in 'smtp.'")
    keys: set[str] = set()
    for text in given:
        if text.endswith(".") and check_key(text[:-1]):
            kept = settings.keys_under(context.registers, [level], text)
            found = [key for key in kept if settings.is_kept(context.registers, level, key)]
        else:
            found = [text] if settings.is_kept(context.registers, level, check_key(text)) else []
        if not found:
            what = f"nothing under {text}" if text.endswith(".") else text
            negation = "" if text.endswith(".") else " not"
            raise NotFound(
                f"{what} is{negation} set at {context.cluster.show_level(level)}",
                f"'clustershow {text}' shows at which levels it is",
            )
        keys.update(found)
    return sorted(keys)


def _same(context: Context, source: Level, target: Level, key: str, salt: bytes) -> tuple[list[Write], Secrets]:
    """Return the writes by which a level says of a key what another one says."""
    registers = context.registers
    if settings.is_set(registers, key):
        return _same_elements(context, source, target, key), {}
    lane = settings.own_value(registers, source, key)
    assert lane is not None
    if not isinstance(lane.value, Secret):
        return assign(context, target, key, str(lane.value), salt, secret=False)
    if lane.text is None:
        raise Refused(
            f"the value of the secret {key} is not on this machine", "do it on the one where it was set, or set it anew"
        )
    return assign(context, target, key, lane.text, salt, secret=True)


def _same_elements(context: Context, source: Level, target: Level, key: str) -> list[Write]:
    registers = context.registers
    wanted = {
        element: settings.PRESENT if present else settings.KNOCKED_OUT
        for element, (present, _) in settings.own_elements(registers, source, key).items()
        # The cluster inherits nothing that could be knocked out.
        if present or target != CLUSTER
    }
    said = {element_path(target, key, element): value for element, value in sorted(wanted.items())}
    gone = [path for path in settings.element_paths(registers, target, key) if path not in said]
    return [
        *(
            replace(registers, path, value)
            for path, value in said.items()
            if not says(registers, path, value) or not stays(context, path)
        ),
        *(replace(registers, path, False) for path in gone),
    ]


def _params(told: dict[str, Any]) -> dict[str, Any]:
    """Return what the event says of itself: how many keys, for the writes name them."""
    return {**told, "keys": len(told["keys"])}
