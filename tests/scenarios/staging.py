"""What somebody stages at a machine of a situation, and commits.

> anna: stage set KEY VALUE [at LEVEL]   any other change of a setting too
> anna: draft                            what is staged, and what changed since
> anna: commitdraft [anyway]             all of it, with what stands now accepted or not
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from cluster_store.core import commands, decide_commit
from cluster_store.core.decision import Context
from cluster_store.core.naming import show_path
from cluster_store.core.registers import LaneValue, WriteValue
from cluster_store.core.types import Epoch
from tests.core.agreement import registers_of
from tests.replicas import Machine

_drafts: WeakKeyDictionary[Machine, tuple[commands.Staged, ...]] = WeakKeyDictionary()


async def stage(machine: Machine, command: commands.Command) -> None:
    """Put a command into a machine's draft."""
    draft = _drafts.get(machine, ())
    staged, _ = decide_commit.stage(draft, command, await _context(machine))
    _drafts[machine] = (*draft, staged) if staged is not None else draft


async def draft(machine: Machine) -> list[str]:
    """Return what is staged, and the three values of what changed since."""
    context = await _context(machine)
    found = decide_commit.preview(_drafts.get(machine, ()), context)
    changed = {one.path: one for one in found.changed}
    said = []
    for write in found.event.writes if found.event else ():
        told = f"{show_path(write.path, context.cluster)}: {_text(write.value)}"
        if write.path in changed:
            one = changed[write.path]
            stood, stands = _texts(one.stood), _texts(tuple(lane.value for lane in one.stands))
            told += f", was {stood} when it was staged, is {stands}"
        said.append(told)
    return said or ["nothing"]


async def commit(machine: Machine, *words: str) -> None:
    """Commit a machine's draft."""
    staged = _drafts.get(machine, ())
    if words == ("anyway",):
        staged = decide_commit.preview(staged, await _context(machine)).renewed
    await machine.command(commands.CommitConfig(staged=staged))
    del _drafts[machine]


async def _context(machine: Machine) -> Context:
    return Context(await registers_of(machine), machine.cluster, machine.id, "os:root", machine.fleet.now, Epoch(""))


def _texts(values: tuple[LaneValue, ...]) -> str:
    return " and ".join(map(_text, values)) or "unset"


def _text(value: WriteValue) -> str:
    return value if isinstance(value, str) else "unset"
