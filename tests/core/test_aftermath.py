"""What a removed machine did unknown to whoever removed it, against a naive search; and what undoes it, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from hypothesis import given, settings

from cluster_store.core import commands
from cluster_store.core.aftermath import Known, aftermath_since, aftermaths
from cluster_store.core.conflicts import Problem
from cluster_store.core.redress import findings
from cluster_store.core.state import Appended
from cluster_store.core.types import MachineId, Path, RecordId
from tests.core.agreement import known_to, log_of, registers_of
from tests.core.builders import Store, finished
from tests.core.histories import History, Step, step_lists
from tests.core.test_past import closure_of, stored
from tests.core.test_rollback import registers_in
from tests.replicas import Fleet, Machine

#: So that removals meet what the removed went on to do.
_ACTIONS = ("remove", "remove", "set", "set", "admit", "admit", "meet", "meet", "user", "copy", "epoch", "void")


def known_in(store: Store) -> Known:
    """Return all that is asked of a store."""
    return known_to(store.log, store.state, registers_in(store.log.lanes), {})


def known_of(machine: Machine) -> Known:
    """Return all that is asked of a machine's store."""
    return known_to(log_of(machine), machine.state, finished(registers_of(machine)), machine.replica.reached)


def admissions(log: Sequence[Appended]) -> list[tuple[RecordId, MachineId, MachineId]]:
    """Return each record that let a machine in, its author and the machine."""
    return [
        (added.record.id, added.record.envelope.machine, MachineId(write.path.split("/")[1]))
        for added in log
        for write in added.record.envelope.writes
        if not added.void and write.path.startswith("machine/") and write.path.endswith("/key")
    ]


def naive_let_in(log: Sequence[Appended], doubtful: set[RecordId]) -> set[MachineId]:
    """Return the machines that no chain of other records leads to from the founder."""
    told = admissions(log)
    trusted = {log[0].record.envelope.machine}
    for _ in told:
        trusted |= {machine for record, author, machine in told if author in trusted and record not in doubtful}
    return {machine for *_, machine in told} - trusted


def naive(known: Known, log: list[Appended], machine: MachineId) -> tuple[set[RecordId], set[MachineId]] | None:
    """Return what is in question of a machine, and who may not have heard; None where it left by itself alone."""
    authors = {added.record.id: added.record.envelope.machine for added in log}
    removals = {lane.id for lane in known.registers.standing(Path(f"machine/{machine}/removed"))}
    others = {removal for removal in removals if authors[removal] != machine}
    if not others:
        return None
    counting = {added.record.id for added in log if not added.void}
    doubtful = {
        record
        for record in counting
        if authors[record] == machine and any(record not in closure_of(log, {removal}) for removal in others)
    }
    if any(record in doubtful for record, *_ in admissions(log)):
        doubtful |= {record for record in counting if authors[record] in naive_let_in(log, doubtful) - {machine}}
    heard = {authors[record] for record in authors if closure_of(log, {record}) & removals}
    return doubtful, set(known.cluster.machines) - heard - {known.me}


@settings(max_examples=30)
@given(step_lists(_ACTIONS))
def test_what_is_in_question_is_what_a_naive_search_finds(steps: list[Step]) -> None:
    """What a removal had not seen, what those wrote whom only that let in, and who has not shown that it heard."""
    store = stored(History().play(steps))
    log = store.log.records
    known = known_in(store)
    found = {one.machine: one for one in aftermaths(known)}
    for machine in known.cluster.removed:
        expected = naive(known, log, machine)
        if expected is None:
            assert machine not in found
            continue
        doubtful, unheard = expected
        assert {added.record.id for added in found[machine].events} == doubtful
        assert set(found[machine].unheard) == unheard
        authors = {added.record.id: added.record.envelope.machine for added in log}
        seen = [closure_of(log, {moment}) for moment in found[machine].since]
        own = {record for record in doubtful if authors[record] == machine}
        assert all(any(record not in one for one in seen) for record in own), "the moments say all"


async def test_the_log_is_read_back_only_as_far_as_it_takes() -> None:
    """Who removed a machine knew all of it: nothing before its newest record, or after the removal, is looked at."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await bert.set("b", "1")
    for number in range(30):
        await anna.set("a", str(number))
    await bert.set("b", "2")
    await fleet.pump()
    await anna.command(commands.RemoveMachines(machines=("bert",)))
    for number in range(30):
        await anna.set("a", str(number))
    taken = []

    def newest_first(until: int | None = None) -> Iterator[Appended]:
        for added in reversed(log_of(anna).records[:until]):
            taken.append(added)
            yield added

    known = known_of(anna)
    (found,) = aftermaths(msgspec.structs.replace(known, newest_first=newest_first))
    assert (found.events, found.unheard) == ((), ())
    assert len(taken) == 2


def told(machine: Machine) -> dict[str, list[Problem]]:
    """Return what is to be seen to on a machine, by kind."""
    log = log_of(machine)

    def secret(path: Path, record: RecordId) -> str | None:
        return log.secrets.get(record, {}).get(path, (b"", None))[1]

    found: dict[str, list[Problem]] = {}
    for problem in findings(known_of(machine), secret):
        found.setdefault(problem.kind, []).append(problem)
    return found


async def stolen() -> tuple[Fleet, Sequence[Machine]]:
    """Return a fleet whose last machine is cut off from all, and the third one from the first two."""
    fleet = Fleet()
    machines = await fleet.fleet_of("anna", "bert", "cleo", "dora")
    anna, bert, cleo, dora = machines
    await anna.command(commands.AddUser(name="olga", role="guest", password="$argon2id$1", salt=fleet.fresh(16)))
    await fleet.pump()
    for one, other in ((dora, anna), (dora, bert), (dora, cleo), (cleo, anna), (cleo, bert)):
        await fleet.cut(one, other)
    return fleet, machines


async def test_acknowledgements_and_records_show_who_has_heard() -> None:
    """A member that is linked has heard when it says so, also after the link is gone; another when it has written."""
    fleet, (anna, bert, cleo, _) = await stolen()
    await anna.command(commands.RemoveMachines(machines=("dora",)))
    assert aftermaths(known_of(anna))[0].unheard == (bert.id, cleo.id)
    await fleet.pump()
    assert aftermaths(known_of(anna))[0].unheard == (cleo.id,)
    await fleet.cut(anna, bert)
    assert aftermaths(known_of(anna))[0].unheard == (cleo.id,)
    assert aftermaths(known_of(bert))[0].unheard == (cleo.id,)
    await fleet.connect(bert, cleo)
    await fleet.pump()
    assert aftermaths(known_of(anna))[0].unheard == (cleo.id,)
    await cleo.set("c", "1")
    await fleet.pump()
    await fleet.connect(anna, bert)
    await fleet.pump()
    assert told(anna) == {}


async def test_a_machine_cannot_hide_what_it_did_by_removing_itself() -> None:
    """Its own removal knows all that it wrote; that of the others, who did not, is the one that counts."""
    fleet, (anna, _, cleo, dora) = await stolen()
    await anna.command(commands.RemoveMachines(machines=("dora",)))
    removal = anna.cluster.removed[dora.id].record
    await dora.set("a", "666")
    fleet.now += 1_000_000
    await dora.command(commands.RemoveMachines(machines=("dora",)))
    await fleet.connect(dora, cleo)
    await fleet.pump()
    await fleet.connect(cleo, anna)
    await fleet.pump()
    assert anna.cluster.removed[dora.id].record != removal
    (found,) = aftermaths(known_of(anna))
    assert found.since == (removal,)
    assert found.events[0].record.envelope.writes[0].path == "setting/cluster/a"
    assert "settings of a removed machine" in told(anna)


async def test_what_was_looked_into_is_told_no_more_and_what_comes_later_is() -> None:
    """The newest record that somebody has looked into stands for all before it in its line."""
    fleet, (anna, _, cleo, dora) = await stolen()
    await anna.command(commands.RemoveMachines(machines=("dora",)))
    await dora.set("a", "666")
    await dora.command(commands.AddGroup(name="Tortuga"))
    await fleet.connect(dora, cleo)
    await fleet.pump()
    await dora.set("b", "667")
    await fleet.connect(cleo, anna)
    await fleet.pump()
    found = told(anna)
    (problem,) = found["settings of a removed machine"]
    assert problem.signs == found["other changes by a removed machine"][0].signs
    seen = commands.Acknowledgement(machine=dora.id, signs=problem.signs)
    await anna.command(commands.SettleConflicts(acknowledged=(seen,), salt=fleet.fresh(16)))
    assert told(anna) == {}
    first = aftermath_since(known_of(dora), dora.id, problem.events[0])
    assert [write.path for added in first.events for write in added.record.envelope.writes][-1] == "setting/cluster/b"


async def test_a_thief_cannot_acknowledge_what_it_did_itself() -> None:
    """What records in question say of having been looked into does not count, and is not passed on with what does."""
    fleet, (anna, _, cleo, dora) = await stolen()
    await anna.command(commands.RemoveMachines(machines=("dora",)))
    await dora.set("a", "666")
    own = commands.Acknowledgement(
        machine=dora.id, signs=(anna.cluster.removed[dora.id].record, log_of(dora).records[-1].record.id)
    )
    await dora.command(commands.SettleConflicts(acknowledged=(own,), salt=fleet.fresh(16)))
    await fleet.connect(dora, cleo)
    await fleet.pump()
    await fleet.connect(cleo, anna)
    await fleet.pump()
    (problem,) = told(anna)["settings of a removed machine"]
    assert not {*own.signs} & {*problem.signs}


async def test_everything_has_its_word_and_the_command_that_undoes_it() -> None:
    """Settings, machines, users, announcements, removals, groups: each by a finding of its own kind."""
    fleet, (anna, _, cleo, dora) = await stolen()
    await anna.command(commands.RemoveMachines(machines=("dora",)))
    salt = fleet.fresh(16)
    await dora.set("a", "666")
    await dora.command(commands.ChangeUser(user="olga", role="administrator", password="$argon2id$2", salt=salt))
    await dora.command(commands.AddUser(name="eve", role="operator", password="$argon2id$3", salt=salt))
    await dora.command(commands.RemoveMachines(machines=("bert",)))
    await dora.command(commands.DetachMachines(machines=("anna",)))
    await fleet.connect(dora, cleo)
    await fleet.pump()
    await fleet.connect(cleo, anna)
    await fleet.pump()
    found = told(anna)
    del found["removal not known to all"]
    since = anna.cluster.removed[dora.id].record[:10]
    commands_of = {kind: [problem.commands for problem in problems] for kind, problems in found.items()}
    assert commands_of == {
        "settings of a removed machine": [(f"rollbackconfig --machine dora --since {since}",)],
        "machines removed by a removed machine": [()],
        "users changed by a removed machine": [
            ("userconfig edit olga --role guest", "passwd olga"),
            ("userconfig delete eve",),
        ],
        "other changes by a removed machine": [(f"log --machine dora --since {since}",)],
    }
    (raised, made) = found["users changed by a removed machine"]
    assert raised.text.startswith(
        "dora, unknown to whoever removed it, raised the role of olga from guest to administrator and changed the "
        "password of olga: 'userconfig edit olga --role guest', then 'passwd olga'"
    )
    assert made.text.startswith("dora, unknown to whoever removed it, made the user eve, operator")
