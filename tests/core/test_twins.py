"""Stores that were copied back or run twice: nothing is lost, everybody converges, the machine begins a new epoch."""

from __future__ import annotations

from copy import deepcopy

import pytest

from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.core.effects import Send, Twin
from cluster_store.core.errors import Refused
from cluster_store.core.state import Draft
from cluster_store.core.twins import statement
from cluster_store.core.types import Epoch
from tests.core.agreement import agree, log_of, values
from tests.replicas import Fleet, Machine, restored


async def changes(machine: Machine, count: int, prefix: str) -> None:
    """Set as many keys."""
    for number in range(count):
        await machine.set(f"{prefix}{number}", f'"{prefix}"')


async def copy_of(fleet: Fleet, machine: Machine, log: MemoryLog | None = None) -> Machine:
    """Return a twin: the same identity with a copy of the store, as it is or as it was."""
    log = log or deepcopy(log_of(machine))
    twin = Machine(fleet, machine.identity, log, await restored(machine.identity, log, fleet.fresh(8).hex()))
    fleet.machines.append(twin)
    return twin


def epochs(machine: Machine, writer: Machine) -> int:
    """Return how many epochs of a writer a machine knows."""
    return len({line.epoch for line in machine.state.lines.values() if line.machine == writer.id})


@pytest.mark.parametrize("lost", [1, 5, 40])
async def test_a_restored_copy_that_writes_nothing_gets_its_own_records_back(lost: int) -> None:
    """What it had forgotten comes from its peer; its next change begins a new epoch, and it says why."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    backup = deepcopy(log_of(bert))
    await changes(bert, lost, "lost")
    await fleet.pump()
    await fleet.restart(bert, backup)
    await fleet.connect(anna, bert)
    await fleet.pump()
    await agree(anna, bert)
    assert bert.state.own is None
    assert any("brought back records" in notice for notice in bert.notices)
    await bert.set("after", "1")
    await fleet.pump()
    await agree(anna, bert)
    assert epochs(anna, bert) == 2
    assert await values(anna, "lost0") == ['"lost"']


@pytest.mark.parametrize(("lost", "written"), [(10, 1), (10, 10), (1, 10), (10, 11), (9, 40), (40, 9)])
async def test_a_restored_copy_that_writes_on_loses_nothing(lost: int, written: int) -> None:
    """Both branches stay, whichever is longer; one session is enough to exchange them."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await changes(bert, 3, "before")
    await fleet.pump()
    backup = deepcopy(log_of(bert))
    await changes(bert, lost, "lost")
    await fleet.pump()
    await fleet.restart(bert, backup)
    await changes(bert, written, "again")
    await fleet.connect(anna, bert)
    await fleet.pump()
    await agree(anna, bert)
    assert bert.state.own is None
    lines = [line for line in anna.state.lines.values() if line.machine == bert.id]
    assert sorted(line.forked_at for line in lines) == [0, 4]
    await bert.set("after", "1")
    await fleet.pump()
    await agree(anna, bert)
    for key in ("before0", "lost0", "again0", "after"):
        assert len(await values(anna, key)) == 1


async def test_a_restored_copy_meets_a_cluster_that_is_spread_out() -> None:
    """One peer knows what was lost, another one does not; the branches meet wherever they meet."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    backup = deepcopy(log_of(bert))
    await fleet.cut(anna, cleo)
    await fleet.cut(bert, cleo)
    await changes(bert, 10, "lost")
    await fleet.pump()
    await fleet.restart(bert, backup)
    await changes(bert, 3, "again")
    await fleet.connect(bert, cleo)
    await fleet.pump()
    await agree(bert, cleo)
    await fleet.connect(cleo, anna)
    await fleet.pump()
    await agree(anna, bert, cleo)


async def test_what_was_written_after_a_branch_is_not_lost_with_it() -> None:
    """Cleo wrote on top of a branch that has to be held back until the peer has told what it knows.

    Bert's restored store is behind Anna's copy of his feed. Cleo's changes, which came after his second branch, go
    out in the same session and must not be taken for delivered before that branch is.
    """
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    backup = deepcopy(log_of(bert))
    for peer in (anna, bert):
        await fleet.cut(cleo, peer)
    await changes(bert, 10, "lost")
    await fleet.pump()
    await fleet.restart(bert, backup)
    await changes(bert, 2, "again")
    await fleet.connect(bert, cleo)
    await fleet.pump()
    await changes(cleo, 5, "cleo")
    await fleet.connect(cleo, anna)
    await fleet.pump()
    await agree(anna, cleo)


async def test_branches_on_both_sides_and_much_to_send_need_one_session() -> None:
    """Each side holds back a branch of the other's feed while it sends more than fits in the window."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    cleo, dora = await fleet.join("cleo", anna), await fleet.join("dora", anna)
    for one in (cleo, dora):
        await fleet.connect(one, bert)
    await fleet.pump()
    backups = {machine: deepcopy(log_of(machine)) for machine in (cleo, dora)}
    await fleet.cut(anna, bert)
    # Anna sees the long branch of Cleo and the short one of Dora, Bert the other way round.
    for machine, long, short in ((cleo, anna, bert), (dora, bert, anna)):
        await fleet.cut(machine, anna)
        await fleet.cut(machine, bert)
        await fleet.connect(machine, long)
        await changes(machine, 20, "long")
        await fleet.pump()
        await fleet.restart(machine, backups[machine])
        await changes(machine, 3, "short")
        await fleet.connect(machine, short)
        await fleet.pump()
        await fleet.cut(machine, short)
    for machine in (anna, bert):
        await changes(machine, 80, machine.name)
    await fleet.connect(anna, bert)
    await fleet.pump()
    await agree(anna, bert)


async def test_a_store_that_runs_twice_converges_with_everybody() -> None:
    """Two processes with one identity, linked to different peers: all that both write is everywhere."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    await fleet.cut(bert, cleo)
    twin = await copy_of(fleet, bert)
    await fleet.connect(twin, cleo)
    for number in range(5):
        await changes(bert, 1, f"bert{number}")
        await changes(twin, 1, f"twin{number}")
        await fleet.pump()
    await agree(anna, bert, cleo, twin)
    assert any("runs twice" in notice for notice in (*bert.notices, *twin.notices))
    # Once both have seen each other's records they write in epochs of their own, which are no forks.
    forks = [line for line in anna.state.lines.values() if line.parent is not None]
    assert len(forks) == 1


async def test_twins_that_meet_each_other_converge() -> None:
    """Even on a link between the two."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    twin = await copy_of(fleet, bert)
    await changes(bert, 3, "bert")
    await changes(twin, 5, "twin")
    await fleet.connect(bert, twin)
    await fleet.pump()
    await agree(anna, bert, twin)


async def test_a_copy_of_a_copy_branches_again() -> None:
    """A backup that is restored three times leaves four branches, all of them kept."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    backup = deepcopy(log_of(bert))
    for life in range(4):
        await fleet.restart(bert, deepcopy(backup))
        await changes(bert, life + 1, f"life{life}.")
        await fleet.connect(anna, bert)
        await fleet.pump()
        await agree(anna, bert)
    lines = [line for line in anna.state.lines.values() if line.machine == bert.id]
    assert len(lines) == 4
    assert len({line.actor for line in lines}) == 4
    for life in range(4):
        assert await values(anna, f"life{life}.0") == [f'"life{life}."']


async def test_a_branch_of_a_branch_is_told_apart() -> None:
    """A store restored to the middle of its second branch begins a third one there."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    for peer in (anna, cleo):
        await fleet.cut(bert, peer)
    first = deepcopy(log_of(bert))
    await changes(bert, 6, "one")
    await fleet.connect(bert, anna)
    await fleet.pump()
    await fleet.restart(bert, first)
    await changes(bert, 2, "two")
    second = deepcopy(log_of(bert))
    await changes(bert, 2, "two.b")
    await fleet.connect(bert, cleo)
    await fleet.pump()
    await fleet.cut(bert, cleo)
    await fleet.restart(bert, second)
    await changes(bert, 9, "three")
    await fleet.connect(bert, anna)
    await fleet.pump()
    await fleet.connect(anna, cleo)
    await fleet.pump()
    await agree(anna, bert, cleo)
    assert sum(line.machine == bert.id for line in cleo.state.lines.values()) == 3


async def test_a_founder_can_be_restored_too() -> None:
    """The machine that began the cluster is one like the others."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    backup = deepcopy(log_of(anna))
    await changes(anna, 3, "lost")
    await fleet.pump()
    await fleet.restart(anna, backup)
    await changes(anna, 3, "again")
    await fleet.connect(anna, bert)
    await fleet.pump()
    await changes(anna, 1, "after")
    await fleet.pump()
    await agree(anna, bert)
    assert epochs(bert, anna) == 2


async def alternate(fleet: Fleet, peer: Machine, *instances: Machine, rounds: int = 4) -> None:
    """Let instances of one machine speak to a peer in turn, as they do when each takes the other's link."""
    for _ in range(rounds):
        for one in instances:
            for other in instances:
                await fleet.cut(other, peer)
            await fleet.connect(one, peer)
            await fleet.pump()


@pytest.mark.parametrize("written", [0, 1])
async def test_of_a_clone_the_younger_takes_no_changes(written: int) -> None:
    """A copy that was started while the first goes on is told so; the first one goes on, and nothing is lost."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await changes(bert, 2, "before")
    log = deepcopy(log_of(bert))
    log.own = None
    clone = await copy_of(fleet, bert, log)
    await changes(clone, written, "clone")
    await alternate(fleet, anna, bert, clone)
    assert clone.replica.twins.is_younger
    assert not bert.replica.twins.is_younger
    assert bert.replica.twins.seen is not None
    assert list(anna.replica.twins.peers) == [bert.id]
    assert [notice for notice in clone.notices if "this one is the younger" in notice] == clone.notices[-1:]
    with pytest.raises(Refused, match="takes no changes"):
        await clone.set("late", "1")
    await bert.set("on", "1")
    await alternate(fleet, anna, bert, clone, rounds=1)
    await agree(anna, bert, clone)
    assert bert.state.own is not None
    await fleet.restart(clone)
    await clone.set("alone", "1")


async def test_copies_that_nothing_tells_apart_settle_who_goes_on() -> None:
    """Where both go on in one epoch, one of the two takes no changes, and just one."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await changes(bert, 2, "before")
    clone = await copy_of(fleet, bert)
    await changes(bert, 1, "bert")
    await alternate(fleet, anna, clone, bert)
    younger = [one for one in (bert, clone) if one.replica.twins.is_younger]
    assert len(younger) == 1
    await agree(anna, bert, clone)


async def test_restarts_are_no_clones() -> None:
    """A machine that starts again and again, some of its links still open, is never taken for two."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    for _ in range(12):
        await fleet.connect(bert, anna)
        await fleet.connect(anna, bert)
        await fleet.pump()
        await fleet.restart(bert)
    assert not anna.replica.twins.peers
    assert bert.replica.twins.seen is None
    await bert.set("after", "1")


async def test_a_process_that_died_and_is_heard_late_is_no_clone() -> None:
    """One hello of an instance that is gone, heard after its successor's, proves nothing."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    successor = await copy_of(fleet, bert)
    for speaker in (successor, bert, successor, successor):
        await fleet.cut(successor, anna)
        await fleet.cut(bert, anna)
        await fleet.connect(speaker, anna)
        await fleet.pump()
    assert not anna.replica.twins.peers


async def test_a_peer_that_calls_a_machine_its_own_twin_is_not_believed() -> None:
    """An instance is never its own twin."""
    fleet = Fleet()
    (anna,) = await fleet.fleet_of("anna")
    twins = anna.replica.twins
    assert twins.told(1, Twin(twins.instance, Epoch("")), Epoch(""), fleet.now, Draft(anna.state)) == []
    assert twins.seen is None


@pytest.mark.parametrize("signer", ["bert", "anna of another run", "nobody"])
async def test_a_peer_s_word_alone_stops_nobody(signer: str) -> None:
    """Another instance is believed to be alive only where it has signed so, and named this one."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    twins = anna.replica.twins
    elder = next(line.epoch for line in anna.state.lines.values() if line.machine == anna.id)
    beside = twins.instance if signer != "anna of another run" else "0" * 16
    sign = bert.identity.sign if signer == "bert" else anna.identity.sign
    proof = sign(statement(anna.id, "f" * 16, elder, beside)) if signer != "nobody" else b""
    other = Twin("f" * 16, elder, proof)
    (answer,) = twins.told(1, other, Epoch(""), fleet.now, Draft(anna.state))
    assert isinstance(answer, Send)
    assert twins.seen is None
    honest = anna.identity.sign(statement(anna.id, "f" * 16, elder, twins.instance))
    twins.told(1, Twin("f" * 16, elder, honest), Epoch(""), fleet.now, Draft(anna.state))
    assert twins.is_younger
    await bert.set("on", "1")
