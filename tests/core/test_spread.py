"""Several replicas: changes reach everybody, by whatever way is open, and only once."""

from __future__ import annotations

from cluster_store.core import commands
from cluster_store.core.effects import Records
from tests.core.agreement import agree, log_of, values
from tests.replicas import Fleet, Machine


def batches_waiting(machine: Machine) -> int:
    """Return how many batches of records are in a machine's inbox."""
    return sum(isinstance(message, Records) for _, message in machine.inbox)


async def test_a_change_made_anywhere_is_everywhere() -> None:
    """Three machines, each writes, all agree."""
    fleet = Fleet()
    machines = await fleet.fleet_of("anna", "bert", "cleo")
    for machine in machines:
        await machine.set(f"from.{machine.name}", "1")
        await fleet.pump()
    await agree(*machines)
    assert len(log_of(machines[0]).records) == 9


async def test_a_missing_link_does_not_stop_the_spread() -> None:
    """Anna's changes reach Cleo through Bert, and Cleo's reach Anna; nobody gets anything twice."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    await fleet.cut(anna, cleo)
    await anna.set("a", "1")
    await cleo.set("c", "1")
    await fleet.pump()
    await agree(anna, bert, cleo)
    assert await values(cleo, "a") == ["1"]


async def test_a_machine_that_knows_only_the_relay_has_everything() -> None:
    """A machine that joined through Bert never met Anna."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    cleo = await fleet.join("cleo", bert)
    await anna.set("a", "1")
    await fleet.pump()
    await agree(anna, bert, cleo)


async def test_both_sides_of_a_cut_keep_what_both_wrote() -> None:
    """Of one key both lanes stand and the later one is the value; of a set all elements are there."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await fleet.cut(anna, bert)
    await anna.set("banner", '"anna"')
    await bert.set("banner", '"bert"')
    await anna.command(commands.AddElements(key="relay", elements=("1",)))
    await bert.command(commands.AddElements(key="relay", elements=("2",)))
    await fleet.connect(anna, bert)
    await fleet.pump()
    await agree(anna, bert)
    assert await values(anna, "banner") == ['"anna"', '"bert"']
    assert sorted(path for path, _ in log_of(bert).lanes if path.startswith("element/")) == [
        "element/cluster/relay/1",
        "element/cluster/relay/2",
    ]


async def test_long_histories_of_both_sides_are_exchanged_in_one_session() -> None:
    """More than fits in the window goes both ways at once, each side ahead of the other in its own feed."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await fleet.cut(anna, bert)
    for number in range(120):
        await anna.set(f"a{number}", "1")
        await bert.set(f"b{number}", "1")
    await fleet.connect(anna, bert)
    await fleet.pump()
    await agree(anna, bert)
    await anna.set("live", "1")
    await fleet.pump()
    await agree(anna, bert)


async def test_changes_made_while_peers_catch_up_are_not_lost() -> None:
    """Records that are appended in the middle of an exchange go out too, on every machine."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    for one, other in ((anna, bert), (anna, cleo), (bert, cleo)):
        await fleet.cut(one, other)
    for number in range(60):
        for machine in (anna, bert, cleo):
            await machine.set(f"{machine.name}{number}", "1")
    await fleet.connect(anna, bert)
    await fleet.connect(bert, cleo)
    for number in range(30):
        for machine in (anna, bert, cleo):
            await machine.receive_one()
            await machine.set(f"{machine.name}.live{number}", "1")
    await fleet.pump()
    await agree(anna, bert, cleo)


async def test_a_link_that_breaks_at_any_moment_is_made_up_for() -> None:
    """After any number of messages the next link continues, with nothing lost and nothing doubled."""
    for moment in range(14):
        fleet = Fleet()
        anna, bert = await fleet.fleet_of("anna", "bert")
        await fleet.cut(anna, bert)
        for number in range(25):
            await anna.set(f"a{number}", "1")
            await bert.set(f"b{number}", "1")
        await fleet.connect(anna, bert)
        for _ in range(moment):
            await anna.receive_one()
            await bert.receive_one()
        await fleet.cut(anna, bert)
        await fleet.connect(anna, bert)
        await fleet.pump()
        await agree(anna, bert)


async def test_a_machine_that_restarts_goes_on_from_its_log() -> None:
    """What it acknowledged it has; what it did not have comes again."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    for number in range(30):
        await anna.set(f"a{number}", "1")
        if number % 7 == 0:
            await bert.receive_one()
    await fleet.restart(bert)
    await fleet.connect(anna, bert)
    await fleet.pump()
    await agree(anna, bert)
    await bert.set("b", "1")
    await fleet.pump()
    await agree(anna, bert)


async def test_two_links_between_two_machines_do_no_harm() -> None:
    """Two dials at once: each conversation is complete by itself."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await fleet.connect(anna, bert)
    await anna.set("a", "1")
    await bert.set("b", "1")
    await fleet.pump()
    await agree(anna, bert)
    assert batches_waiting(anna) == batches_waiting(bert) == 0


async def test_secrets_travel_with_their_records_over_a_relay() -> None:
    """Cleo reads what Anna kept secret, though Bert passed it on."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    await fleet.cut(anna, cleo)
    await anna.set("password", '"hush"', secret=True)
    await fleet.pump()
    await agree(anna, bert, cleo)
    assert [lane.text for (path, _), lane in log_of(cleo).lanes.items() if path == "setting/cluster/password"] == [
        '"hush"'
    ]


async def test_both_sides_may_let_the_same_machine_in() -> None:
    """A machine that asked on both sides of a cut is one machine, and both sides' records of it stand."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await fleet.cut(anna, bert)
    cleo = await fleet.start("cleo", anna.state.cluster)
    await bert.command(commands.AdmitMachine(card=cleo.card))
    await anna.command(commands.AdmitMachine(card=cleo.card))
    await fleet.connect(cleo, anna)
    await fleet.pump()
    await cleo.command(commands.BeginEpoch(reason="joined"))
    await fleet.connect(cleo, bert)
    await fleet.pump()
    await agree(anna, bert, cleo)
    assert len(anna.cluster.machines) == 3
