"""A machine that was removed is shown the record that did it, and believes nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster_store.core import commands
from cluster_store.core.effects import Bye, LinkDown, LogRead, Read
from cluster_store.core.limits import REASON_CHARS_MAX
from cluster_store.core.records import Record
from cluster_store.core.registers import Write
from tests.core.builders import following, identity, sealed, unsealed, write
from tests.core.desk import card
from tests.core.driving import Driver, hello, setting, with_bert
from tests.replicas import Fleet

ANNA, BERT, CLEO, DORA = identity("anna"), identity("bert"), identity("cleo"), identity("dora")


def gone(machine: str = ANNA.id) -> tuple[Write, ...]:
    """Return the writes of a removal that Bert decides."""
    told = json.dumps({"by": "admin", "on": "bert", "at": 0})
    return (
        write(f"machine/{machine}/removed", json.dumps([BERT.id])),
        write(f"machine/{machine}/removal", told),
    )


def removing(first: Record, **fields: Any) -> Record:
    """Return Bert's record that removes Anna, or what the fields make of it."""
    given = {"kind": "MachinesRemoved", "writes": gone(), "user": "admin", "time": 0, **fields}
    return sealed(following(first, **given), BERT)


def told(driver: Driver, *shown: bytes) -> tuple[str, str]:
    """Return how a machine ends its link with Bert when he says that it was removed."""
    driver.link(BERT.id)
    driver.receive(Bye("removed", "you are out", *shown))
    (closed,) = driver.closed
    return closed


# --- believing ------------------------------------------------------------------------------------------


def test_a_sealed_record_is_believed_and_not_stored() -> None:
    """The operator is told in the words of the record; the log, which may lack its past, says what it said."""
    driver, first = with_bert()
    record = removing(first)
    position = driver.state.position
    words = "anna was removed from the cluster by admin on bert at 1970-01-01T00:00:00.000Z"
    assert told(driver, record.data, record.seal) == ("removed", words)
    shown = driver.replica.dismissals.shown
    assert shown is not None
    assert shown.record == record.id
    assert driver.state.position == position
    assert driver.replica.cluster.departure(ANNA.id) is None
    driver.feed(LinkDown(1))
    assert driver.replica.dismissals.shown == shown
    driver.set("still.mine")


def test_it_is_believed_before_and_after_a_hello() -> None:
    """Whoever knows of the removal says no hello; whoever learns of it in between has said one."""
    driver, first = with_bert()
    record = removing(first)
    driver.greet(BERT.id)
    driver.receive(Bye("removed", "", record.data, record.seal))
    assert [state for state, _ in driver.closed] == ["removed"]


def forged(which: str, first: Record) -> tuple[bytes, bytes]:
    """Return an envelope and a seal that prove nothing."""
    true = removing(first)
    strangers = sealed(following(first, kind="MachinesRemoved", writes=gone(), machine=DORA.id), DORA)
    twice = removing(first, writes=(*gone(), *gone()))
    elsewhere = removing(first, cluster="c" * 64)
    other, another = removing(first, writes=gone(BERT.id)), removing(first, kind="MachineChanged")
    return {
        "nothing": (b"", b""),
        "no seal": (true.data, b""),
        "bytes that are no record": (b"{}", true.seal),
        "a seal of somebody else": (true.data, sealed(true.envelope, CLEO).seal),
        "another record's seal": (true.data, first.seal),
        "a changed record": (true.data.replace(b'"admin"', b'"ADMIN"'), true.seal),
        "a machine that nobody let in": (strangers.data, strangers.seal),
        "another machine's removal": (other.data, other.seal),
        "another kind of record": (another.data, another.seal),
        "a record that counts for nothing": (twice.data, twice.seal),
        "another cluster": (elsewhere.data, elsewhere.seal),
    }[which]


@pytest.mark.parametrize(
    ("which", "why"),
    [
        ("nothing", "it showed no record"),
        ("no seal", "the record's seal is not that of bert"),
        ("bytes that are no record", "a record with a wrong shape"),
        ("a seal of somebody else", "the record's seal is not that of bert"),
        ("another record's seal", "the record's seal is not that of bert"),
        ("a changed record", "the record's seal is not that of bert"),
        ("a machine that nobody let in", f"the record is of {DORA.id}, a machine that is not known here"),
        ("another machine's removal", "the record does not remove this machine"),
        ("another kind of record", "the record does not remove this machine"),
        ("a record that counts for nothing", "the record does not remove this machine"),
        ("another cluster", "the record is of another cluster"),
    ],
)
def test_a_claim_that_proves_nothing_is_not_believed(which: str, why: str) -> None:
    """The link ends, and the operator is told what was said, and that nothing proves it."""
    driver, first = with_bert()
    state, reason = told(driver, *forged(which, first))
    assert state == "dropped"
    assert reason.startswith(f"the peer says that this machine was removed, without proof: {why}")
    assert len(reason) <= REASON_CHARS_MAX
    assert driver.replica.dismissals.shown is None


def test_a_claim_does_not_undo_what_was_shown_before() -> None:
    """Who was shown the record once goes on saying so, whatever comes later."""
    driver, first = with_bert()
    record = removing(first)
    told(driver, record.data, record.seal)
    driver.feed(LinkDown(1))
    driver.link(BERT.id, 2)
    driver.receive(Bye("removed", "so they say"), 2)
    assert driver.closed[-1][0] == "dropped"
    assert driver.replica.dismissals.shown is not None


# --- showing --------------------------------------------------------------------------------------------


def test_a_removal_has_a_seal_of_its_own_in_a_batch() -> None:
    """It is shown alone: those that were decided together with it are not for the machine that is gone."""
    driver, _ = with_bert()
    driver.do(setting("a"), commands.RemoveMachines(machines=("bert",)), setting("b"))
    before, removal, after = driver.records[-3:]
    assert [bool(record.seal) for record in (before, removal, after)] == [False, True, True]
    driver.link(BERT.id)
    (bye,) = driver.sent
    assert isinstance(bye, Bye)
    assert (bye.record, bye.seal) == (removal.data, removal.seal)


def test_a_removal_without_a_seal_of_its_own_is_told_in_words_alone() -> None:
    """What carries its seal, in a batch of an earlier version, is not for the machine that is gone."""
    driver, first = with_bert()
    driver.do(commands.AdmitMachine(card=card("cleo")))
    driver.greet(BERT.id)
    removal = unsealed(following(first, kind="MachinesRemoved", writes=gone(CLEO.id)))
    driver.offer(removal, sealed(following(removal), BERT))
    driver.effects.clear()
    driver.link(CLEO.id, 2)
    (bye,) = driver.sent
    assert isinstance(bye, Bye)
    assert (bye.state, bye.record, bye.seal) == ("removed", b"", b"")


def test_a_link_that_is_gone_before_the_record_was_read_is_forgotten() -> None:
    """What was read for it is for nobody."""
    driver, _ = with_bert()
    driver.do(commands.RemoveMachines(machines=("bert",)))
    given = driver.link_up(BERT.id)
    driver.prepare(given)
    (read,) = driver.replica.step(given)
    assert isinstance(read, Read)
    driver.feed(LinkDown(1))
    assert driver.feed(LogRead(1, read.after or 0, [])) == []


def test_whatever_a_machine_says_while_its_record_is_read_counts_for_nothing() -> None:
    """It has no session, and gets none."""
    driver, first = with_bert()
    driver.do(commands.RemoveMachines(machines=("bert",)))
    given = driver.link_up(BERT.id)
    driver.prepare(given)
    driver.replica.step(given)
    position = driver.state.position
    assert driver.receive(hello(driver, BERT.id)) == []
    assert driver.offer(sealed(following(first), BERT)) == []
    assert driver.state.position == position


async def test_the_machine_and_those_who_removed_it_agree_on_what_was_said() -> None:
    """Two replicas, cut off from each other and linked again."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    for other in (anna, bert):
        await fleet.cut(cleo, other)
    await anna.command(commands.RemoveMachines(machines=("cleo",)))
    await fleet.pump()
    await fleet.connect(cleo, bert)
    await fleet.pump()
    shown = cleo.replica.dismissals.shown
    known = bert.cluster.removed[cleo.id]
    assert shown is not None
    assert (shown.record, shown.removed_by, shown.removed_on) == (known.record, known.removed_by, "anna")
    assert [close.state for close in cleo.closed] == ["removed"]
