"""Situations as text: lines that begin with ``> `` say what happens, the lines behind one what it came to.

    > fleet anna bert          machines that form one cluster, all linked
    > cut anna bert            > meet anna bert          > heal (everybody meets)
    > anna: set KEY VALUE [at LEVEL]       unset KEY [at LEVEL]       set! (a secret)
    > anna: add KEY ELEMENT [at LEVEL]     remove KEY ELEMENT [at LEVEL]
    > anna: addgroup NAME      move MACHINE GROUP      detach MACHINE      reconnect MACHINE
    > anna: admit NAME         a machine that is not linked to anybody yet
    > backup bert              > restore bert            > restart bert         > twin bert as NAME
    > full disk bert           its next append fails
    > show KEY                 its value on every machine, who wrote it, and what stands beside it
    > groups                   > epochs bert             > compare

Messages are delivered after every line. What a line causes without being asked, refusals, notices and closed links,
is recorded behind it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Awaitable, Callable, Iterable
from copy import deepcopy

from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.core import commands
from cluster_store.core.causality import vector
from cluster_store.core.cluster import read
from cluster_store.core.digest import digest, lanes_digest
from cluster_store.core.errors import ClusterStoreError, StoreFull
from cluster_store.core.registers import Lane, rank
from cluster_store.core.settings import effective, own_elements
from cluster_store.core.types import Path, RecordId
from tests.core.agreement import log_of, registers_of
from tests.core.builders import finished
from tests.replicas import Fleet, Machine, restored

_ORDER = re.compile(r"(?P<name>\S+): (?P<words>.+)")


class Theatre:
    """The machines of one situation."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.machines: dict[str, Machine] = {}
        self.backups: dict[str, MemoryLog] = {}

    async def perform(self, line: str) -> list[str]:
        """Carry out one line; return what is to be recorded behind it."""
        order = _ORDER.fullmatch(line)
        if order is not None:
            said = await self._order(self.machines[order["name"]], shlex.split(order["words"], posix=False))
        else:
            word, *rest = line.split()
            said = list(await _SCENES[word](self, rest) or ())
        await self.fleet.pump()
        return [*said, *self._unasked()]

    # --- what a machine is told to do -------------------------------------------------------------------

    async def _order(self, machine: Machine, words: list[str]) -> list[str]:
        level = None
        if len(words) > 2 and words[-2] == "at":
            level = words[-1]
            words = words[:-2]
        verb, *rest = words
        try:
            if verb in ("set", "set!"):
                await machine.set(rest[0], rest[1], level, secret=verb == "set!")
            else:
                await machine.command(self._command(verb, rest, level))
        except ClusterStoreError as error:
            return [f"refused: {error.message}"]
        return []

    def _command(self, verb: str, rest: list[str], level: str | None) -> commands.Command:
        if verb == "unset":
            return commands.UnsetSetting(key=rest[0], level=level)
        if verb == "add":
            return commands.AddElements(key=rest[0], elements=tuple(rest[1:]), level=level)
        if verb == "remove":
            return commands.RemoveElements(key=rest[0], elements=tuple(rest[1:]), level=level)
        if verb == "addgroup":
            return commands.AddGroup(name=rest[0])
        if verb == "move":
            return commands.MoveMachines(machines=(rest[0],), group=rest[1])
        if verb == "detach":
            return commands.DetachMachines(machines=tuple(rest))
        if verb == "reconnect":
            return commands.ReconnectMachines(machines=tuple(rest))
        assert verb == "admit", verb
        return commands.AdmitMachine(card=self.machines[rest[0]].card, group="Main_Group")

    # --- what happens to machines -----------------------------------------------------------------------

    async def found(self, names: list[str]) -> None:
        """Make a cluster of machines."""
        self.machines |= zip(names, await self.fleet.fleet_of(*names), strict=True)

    async def arrive(self, names: list[str]) -> None:
        """Let a machine be there that is about to join."""
        (name,) = names
        member = next(iter(self.machines.values()))
        self.machines[name] = await self.fleet.start(name, member.state.cluster)

    async def begin(self, names: list[str]) -> None:
        """Let a machine that was let in begin its feed."""
        await self.machines[names[0]].command(commands.BeginEpoch(reason="joined"))

    async def cut(self, names: list[str]) -> None:
        """Cut two machines apart."""
        await self.fleet.cut(self.machines[names[0]], self.machines[names[1]])

    async def meet(self, names: Iterable[str]) -> None:
        """Link two machines that are not linked."""
        one, other = (self.machines[name] for name in names)
        if not any(peer is other for peer, _ in one.links.values()):
            await self.fleet.connect(one, other)

    async def heal(self, _: list[str]) -> None:
        """Link everybody."""
        names = list(self.machines)
        for index, name in enumerate(names):
            for other in names[index + 1 :]:
                await self.meet((name, other))

    async def back_up(self, names: list[str]) -> None:
        """Keep a copy of a store."""
        self.backups[names[0]] = deepcopy(log_of(self.machines[names[0]]))

    async def restore(self, names: list[str]) -> None:
        """Put the copy back."""
        await self.fleet.restart(self.machines[names[0]], deepcopy(self.backups[names[0]]))

    async def restart(self, names: list[str]) -> None:
        """Stop a machine and start it again."""
        await self.fleet.restart(self.machines[names[0]])

    async def double(self, names: list[str]) -> None:
        """Start a copy of a machine beside it, under another name here."""
        machine, _, name = names
        original = self.machines[machine]
        log = deepcopy(log_of(original))
        replica = await restored(original.identity, log, self.fleet.fresh(8).hex())
        twin = self.machines[name] = Machine(self.fleet, original.identity, log, replica)
        self.fleet.machines.append(twin)

    async def fill_disk(self, names: list[str]) -> None:
        """Let the next append of a machine fail."""
        log_of(self.machines[names[-1]]).failure = StoreFull("the disk is full", "make room")

    # --- what is to be seen -------------------------------------------------------------------------------

    async def show(self, keys: list[str]) -> list[str]:
        """Tell a key's value on every machine."""
        return self._grouped({name: await self._shown(machine, keys[0]) for name, machine in self.machines.items()})

    async def _shown(self, machine: Machine, key: str) -> str:
        registers = await registers_of(machine)
        levels = machine.cluster.levels_for(machine.id)
        found = effective(registers, levels, key)
        if found is None:
            parts = ["unset"]
        else:
            parts = [f"{_text(found.lane, found.value)} at {machine.cluster.show_level(found.level)}"]
        if found is not None and not any(own_elements(registers, level, key) for level in levels):
            parts[0] += f" by {self._writer(found.lane.id)}"
        for level in levels:
            for lane in sorted(registers.standing(Path(f"setting/{level}/{key}")), key=rank, reverse=True):
                if found is None or lane.id != found.lane.id:
                    where = "beside it" if found is None or level == found.level else "under it"
                    told = f"{_text(lane)} at {machine.cluster.show_level(level)} by {self._writer(lane.id)}"
                    parts.append(f"{where} {told}")
        return "; ".join(parts)

    async def groups(self, _: list[str]) -> list[str]:
        """Tell which machines are in which groups."""

        def members(machine: Machine) -> str:
            cluster = read(finished(registers_of(machine)))
            return ", ".join(
                f"{group.name} ({' '.join(member.hostname for member in cluster.members_of(group.id))})"
                for group in cluster.groups.values()
            )

        return self._grouped({name: members(machine) for name, machine in self.machines.items()})

    async def epochs(self, names: list[str]) -> list[str]:
        """Tell how often a machine began anew, and how often its feed branched."""
        writer = self.machines[names[0]].id

        def lives(machine: Machine) -> str:
            lines = [line for line in machine.state.lines.values() if line.machine == writer]
            branches = sum(line.parent is not None for line in lines)
            return f"{len({line.epoch for line in lines})} epochs, {branches} branches"

        return self._grouped({name: lives(machine) for name, machine in self.machines.items()})

    async def compare(self, _: list[str]) -> list[str]:
        """Tell who agrees on everything."""
        views: dict[str, list[str]] = {}
        for name, machine in self.machines.items():
            registers = await registers_of(machine)
            view = (digest(machine.cluster, registers), lanes_digest(registers), vector(machine.state.lines.values()))
            views.setdefault(repr(view), []).append(name)
        together = [" ".join(names) for names in views.values()]
        return [f"{together[0]}: agree"] if len(views) == 1 else [f"apart: {', '.join(together)}"]

    # --- words --------------------------------------------------------------------------------------------

    @staticmethod
    def _grouped(said: dict[str, str]) -> list[str]:
        """Return one line for machines that say the same."""
        who: dict[str, list[str]] = {}
        for name, text in said.items():
            who.setdefault(text, []).append(name)
        return [f"{' '.join(names)}: {text}" for text, names in who.items()]

    def _writer(self, record: RecordId) -> str:
        """Return the name of the machine that wrote a record."""
        for machine in self.machines.values():
            for added in log_of(machine).records:
                if added.record.id == record:
                    return machine.cluster.hostname(added.record.envelope.machine)
        raise AssertionError(record)

    def _unasked(self) -> list[str]:
        """Return what machines noticed, and which links they closed, since the last line."""
        said = []
        for name, machine in self.machines.items():
            news = [f"{name} notices: {text}" for text in machine.notices]
            news += [f"{name} closes a link: {close.reason}" for close in machine.closed]
            machine.notices.clear()
            machine.closed.clear()
            said += news
        return said


def _text(lane: Lane, value: object = None) -> str:
    """Return what a lane says, a secret by its text."""
    if lane.text is not None:
        return f"secret {lane.text}"
    return str(value if value is not None else lane.value or "unset")


_Scene = Callable[[Theatre, list[str]], Awaitable[list[str] | None]]
_SCENES: dict[str, _Scene] = {
    "fleet": Theatre.found,
    "arrive": Theatre.arrive,
    "begin": Theatre.begin,
    "cut": Theatre.cut,
    "meet": Theatre.meet,
    "heal": Theatre.heal,
    "backup": Theatre.back_up,
    "restore": Theatre.restore,
    "restart": Theatre.restart,
    "twin": Theatre.double,
    "full": Theatre.fill_disk,
    "show": Theatre.show,
    "groups": Theatre.groups,
    "epochs": Theatre.epochs,
    "compare": Theatre.compare,
}


def play(text: str) -> str:
    """Play a situation; return its text with what it comes to now."""
    theatre, told = Theatre(), []
    for line in text.splitlines():
        if line.startswith("> "):
            told += [line, *finished(theatre.perform(line.removeprefix("> ")))]
        elif not line or line.startswith("#"):
            told.append(line)
    return "\n".join(told) + "\n"
