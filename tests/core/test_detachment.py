"""Detaching is about links: who may hear what, how a detached machine learns of it, and how both sides come back."""

from __future__ import annotations

from copy import deepcopy

from cluster_store.core import commands
from cluster_store.core.effects import Ack, CaughtUp, Hello, LinkDown, Records, Send, Standing
from cluster_store.core.types import Epoch, RecordId
from tests.core.agreement import agree, log_of, values
from tests.core.builders import beginning, following, identity, sealed, write
from tests.core.desk import card
from tests.core.driving import Driver, founder, setting
from tests.replicas import Fleet, Machine


async def detach(by: Machine, which: Machine) -> None:
    """Detach a machine."""
    await by.command(commands.DetachMachines(machines=(which.name,)))


async def reconnect(by: Machine, which: Machine) -> None:
    """Take a machine back."""
    await by.command(commands.ReconnectMachines(machines=(which.name,)))


def linked(one: Machine, other: Machine) -> bool:
    """Say whether a link between two machines is up."""
    return any(peer is other for peer, _ in one.links.values())


async def test_a_detached_machine_learns_that_it_is_and_loses_its_links() -> None:
    """The member that detaches delivers the record; then nobody talks to the machine, and the rest goes on."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    await detach(anna, cleo)
    await fleet.pump()
    assert cleo.cluster.machines[cleo.id].detached
    assert not cleo.links
    assert linked(anna, bert)
    assert ("detached", "detached") in [(close.state, close.reason) for close in (*anna.closed, *cleo.closed)]
    await agree(anna, bert, cleo)


async def test_nothing_passes_while_a_machine_is_detached() -> None:
    """A link that comes up is closed again without a record on it, whoever dials."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    await detach(anna, cleo)
    await fleet.pump()
    await anna.set("a", "1")
    await cleo.set("c", "1")
    for one, other in ((anna, cleo), (cleo, bert)):
        await fleet.connect(one, other)
        await fleet.pump()
        assert not linked(one, other)
    assert await values(cleo, "a") == []
    assert await values(bert, "a") == ["1"]
    assert await values(bert, "c") == []


async def test_both_sides_change_all_levels_and_come_back() -> None:
    """After a reconnect on the cluster's side everything is on both, collisions included."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    await detach(anna, cleo)
    await fleet.pump()
    for machine in (anna, cleo):
        for level in ("cluster", "group:Main_Group", "machine:cleo"):
            await machine.set("banner", f'"{machine.name} {level}"', level)
        await machine.command(commands.AddElements(key="relay", elements=(f'"{machine.name}"',)))
    await reconnect(anna, cleo)
    await fleet.connect(anna, cleo)
    await fleet.pump()
    await agree(anna, bert, cleo)
    assert cleo.cluster.machines[cleo.id].detached is None
    for level in ("cluster", "group/main_group", f"machine/{cleo.id}"):
        assert len(await values(bert, "banner", level)) == 2
    assert linked(anna, cleo)


async def test_a_detached_machine_may_take_itself_back() -> None:
    """The reconnect is written on its own side; the cluster believes it at the next link."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    await detach(anna, cleo)
    await fleet.pump()
    await cleo.set("c", "1")
    await anna.set("a", "1")
    await reconnect(cleo, cleo)
    await fleet.connect(bert, cleo)
    await fleet.pump()
    await agree(anna, bert, cleo)
    assert all(machine.cluster.machines[cleo.id].detached is None for machine in (anna, bert, cleo))


async def test_a_machine_that_was_cut_off_hears_of_its_detachment_later() -> None:
    """It gets the record and what it came after, then the link closes; what it wrote meanwhile stays its own."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    for peer in (anna, bert):
        await fleet.cut(cleo, peer)
    await anna.set("before", "1")
    await detach(anna, cleo)
    await anna.set("after", "1")
    await cleo.set("c", "1")
    await fleet.pump()
    await fleet.connect(bert, cleo)
    await fleet.pump()
    assert cleo.cluster.machines[cleo.id].detached
    assert not linked(bert, cleo)
    assert (await values(cleo, "before"), await values(cleo, "after")) == (["1"], [])
    assert await values(bert, "c") == []
    await reconnect(cleo, cleo)
    await fleet.connect(cleo, bert)
    await fleet.pump()
    await agree(anna, bert, cleo)


async def test_a_cluster_that_was_told_by_a_detached_machine_of_the_others_learns_of_it() -> None:
    """Where only the detached side knows, it is the one that delivers."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    for peer in (anna, bert):
        await fleet.cut(cleo, peer)
    await detach(cleo, cleo)
    await cleo.set("after", "1")
    await anna.set("a", "1")
    await fleet.connect(anna, cleo)
    await fleet.pump()
    assert anna.cluster.machines[cleo.id].detached
    assert bert.cluster.machines[cleo.id].detached
    assert (await values(anna, "after"), await values(cleo, "a")) == ([], [])
    assert not linked(anna, cleo)
    await reconnect(bert, cleo)
    await fleet.pump()
    await fleet.connect(anna, cleo)
    await fleet.pump()
    await agree(anna, bert, cleo)


async def test_a_detachment_of_long_ago_does_not_end_the_link_that_brings_it() -> None:
    """A machine that takes in a long log meets it many batches before the reconnect; the peer is not detached."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await detach(bert, anna)
    for number in range(30):
        await bert.set(f"between{number}", "1")
    await reconnect(bert, anna)
    await fleet.connect(anna, bert)
    await fleet.pump()
    cleo = await fleet.join("cleo", through=anna)
    assert cleo.closed == []
    await agree(anna, bert, cleo)


async def test_detached_and_taken_back_while_cut_off_costs_nothing() -> None:
    """The machine never notices anything but two records."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await fleet.cut(anna, bert)
    await detach(anna, bert)
    await reconnect(anna, bert)
    await bert.set("b", "1")
    await fleet.connect(anna, bert)
    await fleet.pump()
    await agree(anna, bert)
    assert linked(anna, bert)


async def test_both_sides_detach_each_other() -> None:
    """Each side's record has to reach the other, or one of them would never know; one reconnect each heals it."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await fleet.cut(anna, bert)
    await detach(anna, bert)
    await detach(bert, anna)
    await fleet.connect(anna, bert)
    await fleet.pump()
    assert not linked(anna, bert)
    await reconnect(anna, bert)
    if anna.cluster.machines[anna.id].detached:
        await reconnect(anna, anna)
    for machine in (anna, bert):
        if bert.cluster.machines[machine.id].detached:
            await reconnect(bert, machine)
    for _ in range(3):
        await fleet.connect(anna, bert)
        await fleet.pump()
    await agree(anna, bert)
    assert not any(machine.detached for machine in anna.cluster.machines.values())


async def test_both_sides_detach_each_other_over_a_link_that_is_up() -> None:
    """Each is told by the other, and neither waits for ever: the link ends, and a reconnect brings all of it."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await detach(anna, bert)
    await detach(bert, anna)
    await fleet.pump()
    assert not linked(anna, bert)
    await fleet.connect(anna, bert)
    await fleet.pump()
    for machine in (anna, bert):
        for named in (anna, bert):
            if machine.cluster.machines[named.id].detached:
                await reconnect(machine, named)
    for _ in range(3):
        await fleet.connect(anna, bert)
        await fleet.pump()
    await agree(anna, bert)
    assert not any(machine.detached for machine in anna.cluster.machines.values())


async def test_a_reconnect_in_the_middle_of_a_delivery_leaves_nothing_out() -> None:
    """A peer that was to get the log up to its detachment only gets the rest, once that is over."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await fleet.cut(anna, bert)
    await detach(anna, bert)
    for number in range(5):
        await anna.set(f"after{number}", "1")
    await fleet.connect(anna, bert)
    await anna.receive_one()  # Bert's hello: the delivery is under way
    await reconnect(anna, bert)
    await fleet.pump()
    if not linked(anna, bert):
        await fleet.connect(anna, bert)
        await fleet.pump()
    await agree(anna, bert)


async def test_the_records_of_a_detached_machine_are_taken_from_others() -> None:
    """Bert heard of Cleo's change before he heard of her detachment, and passes it on."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    await fleet.cut(anna, bert)
    await fleet.cut(anna, cleo)
    await detach(anna, cleo)
    await cleo.set("c", "1")
    await fleet.pump()
    await fleet.connect(anna, bert)
    await fleet.pump()
    assert await values(anna, "c") == ["1"]
    await agree(anna, bert, cleo)
    assert not linked(bert, cleo)


async def test_a_detached_machine_that_restarts_is_still_detached() -> None:
    """It stands in its log, and its hello says so."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await detach(anna, bert)
    await fleet.pump()
    for machine in (anna, bert):
        await fleet.restart(machine)
    await anna.set("a", "1")
    await fleet.connect(anna, bert)
    await fleet.pump()
    assert not linked(anna, bert)
    assert await values(bert, "a") == []
    await reconnect(bert, bert)
    await fleet.connect(anna, bert)
    await fleet.pump()
    await agree(anna, bert)


async def test_a_restored_machine_that_forgot_its_detachment_is_told_again() -> None:
    """Its backup is from before; the cluster delivers once more."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    backup = deepcopy(log_of(bert))
    await detach(anna, bert)
    await fleet.pump()
    await fleet.restart(bert, backup)
    await bert.set("b", "1")
    await fleet.connect(anna, bert)
    await fleet.pump()
    assert bert.cluster.machines[bert.id].detached
    assert await values(anna, "b") == []
    await reconnect(anna, bert)
    await fleet.connect(anna, bert)
    await fleet.pump()
    await agree(anna, bert)


# --- message by message ---------------------------------------------------------------------------------

BERT = identity("bert")


def detached_bert() -> Driver:
    """Return a machine that detached Bert, who is a member, and then wrote on."""
    driver = founder()
    driver.do(commands.AdmitMachine(card=card("bert")))
    driver.greet(BERT.id)
    driver.offer(sealed(beginning(BERT, driver.records[-1]), BERT))
    driver.do(commands.DetachMachines(machines=("bert",)))
    driver.set("after")
    driver.feed(LinkDown(1))
    driver.effects.clear()
    return driver


def standing(driver: Driver) -> RecordId:
    """Return the record that detached Bert."""
    record = driver.replica.cluster.machines[BERT.id].detached
    assert record is not None
    return record


def test_a_delivery_ends_with_the_record_that_detached() -> None:
    """What was written after it stays here; when the peer has it, the link closes."""
    driver = detached_bert()
    driver.greet(BERT.id, number=2)
    sent = [item.data for message in driver.sent if isinstance(message, Records) for item in message.items]
    assert sent == [record.data for record in driver.records[:-1]]
    assert driver.records[-2].id == standing(driver)
    assert driver.closed == []
    driver.receive(Ack(1), 2)
    assert driver.closed == [("detached", "detached")]


def test_commands_under_the_same_seal_are_delivered_with_it() -> None:
    """A run goes out whole, or its seal would be missing."""
    driver = detached_bert()
    driver.do(commands.ReconnectMachines(machines=("bert",)))
    driver.do(commands.DetachMachines(machines=("bert",)), setting("same.run"))
    driver.set("later")
    driver.greet(BERT.id, number=2)
    sent = [item for message in driver.sent if isinstance(message, Records) for item in message.items]
    assert [item.data for item in sent] == [record.data for record in driver.records[:-1]]
    assert sent[-1].seal


def test_nothing_is_taken_from_a_machine_that_has_yet_to_be_told() -> None:
    """Its changes wait on its side until somebody takes it back."""
    driver = detached_bert()
    first = driver.records[3]
    driver.greet(BERT.id, number=2)
    position = driver.state.position
    effects = driver.offer(sealed(following(first, writes=(write("setting/cluster/b", "1"),)), BERT), number=2)
    assert not driver.only(Send, effects)
    assert driver.state.position == position


def test_a_peer_that_says_itself_that_it_is_detached_is_not_talked_to() -> None:
    """Both know: the link closes with the hello."""
    driver = detached_bert()
    driver.link(BERT.id, 2)
    given = driver.sent[-1]
    assert isinstance(given, Hello)
    assert given.detached == [
        Standing(BERT.id, driver.replica.cluster.machines[BERT.id].detached or driver.records[0].id)
    ]
    driver.receive(
        Hello(
            protocol=1,
            cluster=driver.state.cluster,
            machine=BERT.id,
            instance="2" * 16,
            epoch=Epoch(""),
            version="9.0",
            time=0,
            vector=[],
            detached=given.detached,
        ),
        2,
    )
    assert driver.closed == [("detached", "detached")]
    assert not any(isinstance(message, Records | CaughtUp) for message in driver.sent)
