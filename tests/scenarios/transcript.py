"""Situations as text: lines that begin with ``> `` say what happens, the lines behind one what it came to.

    > fleet anna bert          machines that form one cluster, all linked
    > cut anna bert            > meet anna bert          > heal (everybody meets)
    > anna: set KEY VALUE [at LEVEL]       unset KEY [at LEVEL]       set! (a secret)
    > anna: add KEY ELEMENT [at LEVEL]     remove KEY ELEMENT [at LEVEL]
    > anna: copykey KEY LEVEL LEVEL        movekey KEY LEVEL LEVEL         deletekey KEY LEVEL
    > anna: addgroup NAME      renamegroup NAME NEW    deletegroup NAME [NAME]     setname NAME
    > anna: move MACHINE GROUP      detach MACHINE      reconnect MACHINE      upgrade VERSION
    > anna: removemachine MACHINE...      communication FIELD=VALUE...
    > anna: adduser NAME ROLE  changeuser NAME ROLE    rename NAME NEW   passwd NAME WORD   deleteuser NAME
    > anna: admit NAME [FIELD=VALUE]...    a machine that is not linked to anybody yet, which says that of itself
    > backup bert              > restore bert            > restart bert         > twin bert as NAME
    > full disk bert           its next append fails
    > check                    what clustercheck tells on every machine
    > show KEY                 its value on every machine, who wrote it, and what stands beside it
    > anna: stage SET...       and what becomes of it: see staging.py
    > wait, pending            and all that goes back by itself: see timing.py
    > inbox                    what is open: see taking_back.py, also for rollback, redress, settle, acknowledge
    > groups                   > users                  > epochs bert             > compare
    > reach                    how each machine would dial every one

Messages are delivered after every line. What a line causes without being asked, refusals, notices and closed links,
is recorded behind it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Awaitable, Callable, Iterable
from copy import deepcopy

import msgspec

from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.core import commands
from cluster_store.core.causality import vector
from cluster_store.core.cluster import ADMIN, Cluster
from cluster_store.core.conflicts import conflicts, problems
from cluster_store.core.digest import digest, lanes_digest
from cluster_store.core.errors import ClusterStoreError, StoreFull
from cluster_store.core.naming import show_path
from cluster_store.core.registers import Lane, rank
from cluster_store.core.rules import read
from cluster_store.core.settings import effective, own_elements
from cluster_store.core.types import Path, RecordId
from cluster_store.dialing import address_of
from tests.core.agreement import log_of, registers_of
from tests.core.builders import finished
from tests.replicas import Fleet, Machine, restored
from tests.scenarios import staging, taking_back, timing

_HASH = "$argon2id$"
_ORDER = re.compile(r"(?P<name>\S+): (?P<words>.+)")


class Theatre:
    """The machines of one situation."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.machines: dict[str, Machine] = {}
        self.backups: dict[str, MemoryLog] = {}
        self.moments: dict[str, int] = {}

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
        lasts = None
        if len(words) > 2 and words[-2] == "for":
            lasts = timing.milliseconds(words[-1])
            words = words[:-2]
        verb, *rest = words
        try:
            if verb in _DEEDS:
                return await _DEEDS[verb](machine, *rest) or []
            if verb == "stage":
                await staging.stage(machine, self._command(rest[0], rest[1:], level, lasts))
            else:
                await machine.command(self._command(verb, rest, level, lasts))
        except ClusterStoreError as error:
            return [f"refused: {error.message}"]
        return []

    def _command(self, verb: str, rest: list[str], level: str | None, lasts: int | None) -> commands.Command:
        if verb in ("set", "set!"):
            key, value = rest
            salt = self.fleet.fresh(16)
            return commands.SetSetting(key=key, value=value, level=level, secret=verb == "set!", lasts=lasts, salt=salt)
        if verb == "unset":
            return commands.UnsetSetting(key=rest[0], level=level, lasts=lasts)
        if verb == "add":
            return commands.AddElements(key=rest[0], elements=tuple(rest[1:]), level=level, lasts=lasts)
        if verb == "remove":
            return commands.RemoveElements(key=rest[0], elements=tuple(rest[1:]), level=level, lasts=lasts)
        if verb in _PLAIN_COMMANDS:
            return _PLAIN_COMMANDS[verb](*rest)
        if verb == "communication":
            facts = dict(word.split("=") for word in rest)
            return msgspec.convert(facts, commands.ChangeCommunication, strict=False)
        if verb.endswith("key"):
            return self._about_level(verb, *rest)
        if verb.endswith("user") or verb in ("rename", "passwd"):
            return self._about_user(verb, *rest)
        assert verb == "admit", verb
        card = self.machines[rest[0]].card
        for field, _, value in (word.partition("=") for word in rest[1:]):
            given = dict.fromkeys(value.split(","), "192.0.2.9") if field == "interfaces" else value
            card = msgspec.structs.replace(card, **{field: given})
        return commands.AdmitMachine(card=card, group="Main_Group")

    def _about_level(self, verb: str, key: str, level: str, target: str = "") -> commands.Command:
        if verb == "deletekey":
            return commands.DeleteSettings(keys=(key,), level=level)
        kind = commands.CopySettings if verb == "copykey" else commands.MoveSettings
        return kind(keys=(key,), level=level, target=target, salt=self.fleet.fresh(16))

    def _about_user(self, verb: str, name: str, word: str = "") -> commands.Command:
        salt = self.fleet.fresh(16)
        match verb:
            case "adduser":
                return commands.AddUser(name=name, role=word, password=_hash("first"), salt=salt)
            case "changeuser":
                return commands.ChangeUser(user=name, role=word, salt=salt)
            case "rename":
                return commands.ChangeUser(user=name, rename=word, salt=salt)
            case "passwd":
                return commands.ChangePassword(user=name, password=_hash(word), salt=salt)
        assert verb == "deleteuser", verb
        return commands.DeleteUser(user=name, salt=salt)

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
            path = Path(f"setting/{level}/{key}")
            lanes = registers.standing(path)
            for lane in sorted(lanes, key=rank, reverse=True):
                if found is None or lane.id != found.lane.id:
                    where = "beside it" if found is None or level == found.level else "under it"
                    where = "covered" if lane.id in machine.cluster.timers.covered(path, lanes) else where
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

    async def reach(self, _: list[str]) -> list[str]:
        """Tell where and over what each machine would dial every one."""

        def places(cluster: Cluster) -> str:
            dialled = (address_of(machine, cluster) for machine in cluster.machines.values())
            return f"over {cluster.over} {' '.join(f'{place.host}:{place.port}' for place in dialled)}"

        return self._grouped({name: places(machine.cluster) for name, machine in self.machines.items()})

    async def users(self, _: list[str]) -> list[str]:
        """Tell who may log in on which machine, and what an operator is told of it."""
        said = {name: await self._people(machine) for name, machine in self.machines.items()}
        return self._grouped(said)

    @staticmethod
    async def _people(machine: Machine) -> str:
        registers = await registers_of(machine)
        cluster = read(registers)
        told = [
            f"{user.name} ({user.role}, {user.password.removeprefix(_HASH)})"
            for user in cluster.users.values()
            if user.id != ADMIN
        ]
        told += [f"conflict: {one.path}" for one in conflicts(registers) if one.kind == "user"]
        told += [one.text for one in problems(cluster, registers, [], []) if one.kind == "users with one name"]
        return "; ".join(told) or "only admin"

    async def check(self, _: list[str]) -> list[str]:
        """Tell what an operator is told on each machine."""
        said: dict[str, list[str]] = {}
        for name, machine in self.machines.items():
            registers = await registers_of(machine)
            cluster = read(registers)
            told = [
                f"conflict: {show_path(one.path, cluster)} = {' or '.join(_text(lane) for lane in one.lanes)}"
                for one in conflicts(registers)
            ]
            told += [f"{one.kind}: {one.text}" for one in problems(cluster, registers, [], [])]
            for text in told or ["nothing"]:
                said.setdefault(text, []).append(name)
        return [f"{' '.join(names)}: {text}" for text, names in said.items()]

    async def mark(self, words: list[str]) -> None:
        """Give this moment a name; whatever comes is later."""
        self.moments[words[0]] = self.fleet.now
        self.fleet.now += 1

    async def recall(self, words: list[str]) -> list[str]:
        """Tell what a key was then, as every machine's log tells it."""
        when, key, *known_by = words
        knower = self.machines[known_by[0]] if known_by else None
        told = {
            name: taking_back.recalled(machine, self.moments[when], key, knower)
            for name, machine in self.machines.items()
        }
        return self._grouped(told)

    async def wait(self, words: list[str]) -> list[str]:
        """Let time go by, and machines that run take back what is over."""
        self.fleet.now += timing.milliseconds(words[0])
        running = [self.machines[name] for name in words[1:]] or [*self.machines.values()]
        return [text for machine in running for text in await timing.take_back(machine)]

    async def pending(self, _: list[str]) -> list[str]:
        """Tell what goes back by itself, as every machine knows it."""
        return self._grouped({name: timing.pending_on(machine) for name, machine in self.machines.items()})

    async def inbox(self, names: list[str]) -> list[str]:
        """Tell what is open on each machine, or on some."""
        said: dict[str, list[str]] = {}
        for name in names or self.machines:
            for text in await taking_back.open_on(self.machines[name]) or ["nothing is open"]:
                said.setdefault(text, []).append(name)
        return [f"{' '.join(names)}: {text}" for text, names in said.items()]

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


def _hash(word: str) -> str:
    """Return what stands for the hash of a password."""
    return _HASH + word


#: What a machine does for which no command is enough.
_DEEDS: dict[str, Callable[..., Awaitable[list[str] | None]]] = {
    "draft": staging.draft,
    "commitdraft": staging.commit,
    "commit": timing.commit,
    "confirm": timing.confirm,
    "rollback": taking_back.roll_back,
    "redress": taking_back.redress,
    "settle": taking_back.settle,
    "acknowledge": taking_back.acknowledge,
}
#: Verbs that take names and nothing else.
_PLAIN_COMMANDS: dict[str, Callable[..., commands.Command]] = {
    "move": lambda machine, group: commands.MoveMachines(machines=(machine,), group=group),
    "detach": lambda *names: commands.DetachMachines(machines=names),
    "reconnect": lambda *names: commands.ReconnectMachines(machines=names),
    "removemachine": lambda *names: commands.RemoveMachines(machines=names),
    "upgrade": lambda version: commands.ChangeMachine(version=version),
    "addgroup": lambda name: commands.AddGroup(name=name),
    "renamegroup": lambda name, new: commands.RenameGroup(group=name, name=new),
    "deletegroup": lambda name, to="": commands.DeleteGroup(group=name, to=to),
    "setname": lambda name: commands.SetClusterName(name=name),
}

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
    "reach": Theatre.reach,
    "epochs": Theatre.epochs,
    "wait": Theatre.wait,
    "pending": Theatre.pending,
    "inbox": Theatre.inbox,
    "mark": Theatre.mark,
    "recall": Theatre.recall,
    "check": Theatre.check,
    "users": Theatre.users,
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
