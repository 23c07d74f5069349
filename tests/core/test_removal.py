"""Removing machines: the decision, who is gone by it, and how those who are linked hear of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core import commands
from cluster_store.core.effects import Ack, Bye, Close, Hello, Records, Send
from cluster_store.core.limits import REASON_CHARS_MAX
from cluster_store.core.naming import show_removal
from tests.core.builders import beginning, following, identity, sealed, write
from tests.core.desk import SALT, Desk, card
from tests.core.driving import Driver, founder, hello

ANNA, BERT, CLEO = identity("anna"), identity("bert"), identity("cleo")
NAMES = ("anna", "bert", "cleo", "dora")


def cluster_of(*names: str) -> Desk:
    """Return the desk of the first of several members."""
    desk = Desk(names[0])
    desk.do(commands.InitialiseMachine(card=card(names[0]), salt=SALT))
    desk.do(commands.CreateCluster(name="ships", salt=SALT))
    for name in names[1:]:
        desk.do(commands.AdmitMachine(card=card(name)))
    return desk


def remove(*names: str) -> commands.RemoveMachines:
    """Return the command that removes machines."""
    return commands.RemoveMachines(machines=names)


# --- the decision ---------------------------------------------------------------------------------------


def test_a_removal_names_who_is_left_and_who_did_it() -> None:
    """Who is left decides whether anybody is, where removals meet; who did it is for people."""
    desk = cluster_of("anna", "bert", "cleo")
    event = desk.do(remove("BERT"))
    assert event is not None
    assert event.kind == "MachinesRemoved"
    written = {str(one.path): one for one in event.writes}
    assert json.loads(str(written[f"machine/{BERT.id}/removed"].value)) == [ANNA.id, CLEO.id]
    assert written[f"machine/{BERT.id}/removed"].replaced == ()
    left = desk.cluster.removed[BERT.id]
    assert (left.hostname, left.removed_by, left.removed_on, left.removed_at) == ("bert", "os:root", "anna", desk.now)
    assert show_removal(left) == "bert was removed from the cluster by os:root on anna at 2023-11-14T22:13:25.000Z"


def test_several_go_at_once_by_name_or_id() -> None:
    """One event; a machine that is named twice goes once."""
    desk = cluster_of("anna", "bert", "cleo")
    event = desk.do(remove("bert", CLEO.id, "Bert"))
    assert event is not None
    assert event.params == {"machines": ["bert", "cleo"]}
    assert list(desk.cluster.machines) == [ANNA.id]
    assert desk.cluster.departure(ANNA.id) is None


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("zoe",), "there is no machine named 'zoe'\nknown: anna, bert"),
        (("bert", "zoe"), "there is no machine named 'zoe'\nknown: anna, bert"),
        ((), "no machine was named\nname at least one"),
    ],
)
def test_whoever_is_no_member_cannot_be_removed(names: tuple[str, ...], words: str) -> None:
    """Nothing happens to those who were named with it."""
    assert cluster_of("anna", "bert").refusal(remove(*names)) == words


def test_there_must_be_a_cluster() -> None:
    """A machine that stands alone has nobody to leave."""
    desk = Desk("anna")
    desk.do(commands.InitialiseMachine(card=card("anna"), salt=SALT))
    assert desk.refusal(remove("anna")).startswith("this machine is not in a cluster\n")


@given(st.lists(st.sets(st.sampled_from(NAMES), min_size=1), min_size=1, max_size=4))
def test_whoever_was_removed_is_to_go_on_alone_and_nobody_else(removals: list[set[str]]) -> None:
    """Whichever machines go, one after the other or at once, the read model and the rule of admission agree."""
    desk, left = cluster_of(*NAMES), set(NAMES)
    for removal in removals:
        named = sorted(removal & left)
        if not named or not left:
            continue
        desk.do(remove(*named))
        left -= set(named)
        cluster = desk.cluster
        for name in NAMES:
            machine = identity(name).id
            assert (cluster.departure(machine) is not None) == (name not in left)
            assert machine in cluster.machines or machine in cluster.removed
        if left:
            assert sorted(machine.hostname for machine in cluster.machines.values()) == sorted(left)


def test_the_last_one_of_halves_that_removed_each_other_can_be_removed_again() -> None:
    """It stayed by a rule, though its removal stands; another removal dissolves the cluster."""
    desk = cluster_of("anna", "bert")
    desk.registers.put(f"machine/{BERT.id}/removed", json.dumps([ANNA.id]), 7)
    desk.registers.put(f"machine/{ANNA.id}/removed", json.dumps([BERT.id]), 8)
    assert list(desk.cluster.machines) == [ANNA.id]
    assert desk.cluster.departure(ANNA.id) is None
    event = desk.do(remove("anna"))
    assert event is not None
    assert desk.cluster.departure(ANNA.id) is not None


def test_what_a_removed_machine_inherited_can_still_be_read() -> None:
    """Until it stands alone it goes on doing what its levels say."""
    desk = cluster_of("anna", "bert")
    desk.set("a", "1", "group:Main_Group")
    desk.set("b", "2", "cluster")
    desk.do(remove("anna"))
    assert desk.values() == {"a": "1", "b": "2"}


def test_the_words_of_a_removal_are_bounded_and_printable() -> None:
    """A member may call itself, and its users, whatever it likes."""
    desk = cluster_of("anna", "bert")
    desk.do(remove("bert"))
    left = desk.cluster.removed[BERT.id]
    desk.registers.put(f"machine/{BERT.id}/hostname", json.dumps("b\n" * 4000), desk.now + 1)
    told = json.dumps({"by": "u\x1b" * 4000, "on": "o" * 4000, "at": 1})
    desk.registers.put(f"machine/{BERT.id}/removal", told, desk.now + 1)
    words = show_removal(desk.cluster.removed[BERT.id])
    assert words != show_removal(left)
    assert len(words) < REASON_CHARS_MAX
    assert words.isprintable()


# --- message by message ---------------------------------------------------------------------------------


def with_bert() -> Driver:
    """Return a machine in a cluster with Bert, who is linked and has told all he has."""
    driver = founder()
    driver.do(commands.AdmitMachine(card=card("bert")))
    driver.greet(BERT.id)
    driver.offer(sealed(beginning(BERT, driver.records[-1]), BERT))
    driver.receive(Ack(len(driver.sent_records)))
    driver.effects.clear()
    return driver


def test_a_removed_machine_is_told_so_and_hears_nothing_else() -> None:
    """Its link is answered by the record that removed it, and closed: no greeting, no others, whatever it says."""
    driver = with_bert()
    driver.do(remove("bert"))
    driver.receive(Ack(2))
    driver.effects.clear()
    removal = driver.records[-1]
    told = show_removal(driver.replica.cluster.removed[BERT.id])
    position = driver.state.position
    driver.link(BERT.id, 2)
    driver.receive(hello(driver, BERT.id), 2)
    driver.offer(sealed(following(driver.records[3], writes=(write("setting/cluster/b", "1"),)), BERT), number=2)
    assert driver.sent == [Bye("removed", told, removal.data, removal.seal)]
    assert driver.closed == [("removed", told)]
    assert driver.state.position == position


def test_a_removal_is_delivered_before_the_link_closes() -> None:
    """So the machine knows it from its own log, and what it came after."""
    driver = with_bert()
    effects = driver.feed(driver.submission(remove("bert")))
    sent = [
        item for one in driver.only(Send, effects) if isinstance(one.message, Records) for item in one.message.items
    ]
    assert [item.data for item in sent] == [driver.records[-1].data]
    assert driver.closed == []
    driver.set("later")
    driver.receive(Ack(2))
    assert [state for state, _ in driver.closed] == ["removed"]
    assert len(driver.sent_records) == 1


def test_nothing_is_taken_from_a_machine_that_has_yet_to_hear_of_its_removal() -> None:
    """Others that do not know yet may take it."""
    driver = with_bert()
    first = driver.records[3]
    driver.do(remove("bert"))
    position = driver.state.position
    driver.offer(sealed(following(first, writes=(write("setting/cluster/b", "1"),)), BERT))
    assert driver.state.position == position
    assert driver.closed == []


def test_two_machines_that_remove_each_other_at_once_part() -> None:
    """Neither takes the other's record, and neither waits for ever for it to be taken."""
    driver = with_bert()
    first = driver.records[3]
    driver.do(remove("bert"))
    gone = write(f"machine/{ANNA.id}/removed", json.dumps([BERT.id]))
    driver.offer(sealed(following(first, kind="MachinesRemoved", writes=(gone,)), BERT))
    assert [state for state, _ in driver.closed] == ["removed"]
    assert list(driver.replica.cluster.machines) == [ANNA.id]


def test_a_machine_that_hears_of_its_removal_takes_nothing_more_and_writes_nothing() -> None:
    """The link ends from its side too; who did it is in the refusal."""
    driver = with_bert()
    first = driver.records[3]
    writes = (
        write(f"machine/{ANNA.id}/removed", json.dumps([BERT.id])),
        write(f"machine/{ANNA.id}/removal", json.dumps({"by": "admin", "on": "bert", "at": 0})),
    )
    driver.offer(sealed(following(first, kind="MachinesRemoved", writes=writes), BERT))
    words = "was removed from the cluster by admin on bert at 1970-01-01T00:00:00.000Z"
    assert driver.closed == [("removed", f"anna {words}")]
    (reply,) = driver.submit(commands.SetSetting(key="a", value="1", salt=SALT))
    assert reply.error is not None
    assert reply.error.message == f"this machine {words}"
    assert "stands alone" in reply.error.hint


def test_a_removed_machine_that_does_not_leave_tells_those_who_do_not_know() -> None:
    """Its own log up to its removal may be news to them."""
    driver = with_bert()
    driver.do(commands.AdmitMachine(card=card("cleo")))
    driver.do(remove("anna"))
    driver.receive(Ack(3))
    driver.effects.clear()
    driver.greet(CLEO.id, number=3)
    assert isinstance(driver.sent[0], Hello)
    sent = [item.data for message in driver.sent if isinstance(message, Records) for item in message.items]
    assert sent == [record.data for record in driver.records]
    assert driver.only(Close, driver.effects) == []
