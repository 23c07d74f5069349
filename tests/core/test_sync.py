"""One conversation, message by message, with a peer that the test plays: what goes out, when, and how much."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from cluster_store.core import commands
from cluster_store.core.admission import Incoming
from cluster_store.core.causality import LEAF_HASH_DIGITS, Leaf, vector
from cluster_store.core.effects import (
    PROTOCOL,
    Ack,
    AppendDone,
    Bye,
    CaughtUp,
    Close,
    Hello,
    LinkDown,
    LogRead,
    Message,
    Noticed,
    Read,
    Received,
    Records,
    Send,
)
from cluster_store.core.limits import BATCH_BYTES_TARGET, BATCH_RECORDS_MAX, FRAME_BYTES_MAX, VALUE_BYTES_MAX
from cluster_store.core.records import Record
from cluster_store.core.sync import WINDOW
from tests.core.builders import finished, following, identity, incoming, sealed, write
from tests.core.driving import READ_RECORDS, Driver, caught_up, hello, setting, with_bert

BERT, CLEO = identity("bert"), identity("cleo")


def batches(driver: Driver) -> list[list[bytes]]:
    """Return the batches of records that were sent."""
    return [[item.data for item in message.items] for message in driver.sent if isinstance(message, Records)]


# --- hello ---------------------------------------------------------------------------------------------


def test_a_conversation_begins_with_a_hello_each_way() -> None:
    """It says which protocol, cluster, machine, run, version and records there are, and what time it is."""
    driver, _ = with_bert()
    driver.link(BERT.id)
    assert driver.sent == [
        Hello(
            protocol=PROTOCOL,
            cluster=driver.state.cluster,
            machine=driver.me.id,
            instance="1" * 16,
            epoch=next(line.epoch for line in driver.state.lines.values() if line.machine == driver.me.id),
            version="9.0",
            time=driver.now,
            vector=vector(driver.state.lines.values()),
            detached=[],
        )
    ]


@pytest.mark.parametrize(
    ("fields", "state", "here", "there"),
    [
        ({"protocol": PROTOCOL + 1}, "version differs", "protocol 2 there, 1 here", "protocol 1 there, 2 here"),
        ({"cluster": "f" * 64}, "other cluster", "the peer belongs to another cluster", ""),
        ({"cluster": ""}, "other cluster", "the peer belongs to another cluster", ""),
        ({"machine": CLEO.id}, "authentication failed", "one side says it is another machine than its key", ""),
        ({"version": "2.0"}, "version differs", "version 2.0 there, 9.0 here", "version 9.0 there, 2.0 here"),
    ],
)
def test_a_hello_that_does_not_fit_ends_the_conversation(
    fields: dict[str, Any], state: str, here: str, there: str
) -> None:
    """Both sides learn the same word and, each from its own side, why; nothing else was said."""
    driver, _ = with_bert()
    driver.link(BERT.id)
    refused = driver.receive(hello(driver, BERT.id, **fields))
    assert refused == [Send(1, Bye(state, there or here)), Close(1, state, here)]
    assert not batches(driver)


def test_a_machine_that_does_not_know_its_version_yet_is_welcome() -> None:
    """A machine that is about to join has no records that could tell it."""
    driver, _ = with_bert()
    driver.greet(BERT.id, version="")
    assert batches(driver)


def test_a_second_hello_ends_the_conversation() -> None:
    """A peer that changes its mind is not followed."""
    driver, _ = with_bert()
    driver.greet(BERT.id)
    driver.receive(hello(driver, BERT.id))
    assert driver.closed == [("dropped", "the peer said hello twice")]


@pytest.mark.parametrize("message", [Records([]), Ack(1), CaughtUp()])
def test_who_speaks_before_a_hello_is_not_heard(message: Message) -> None:
    """Nothing is believed of a peer that has not said which cluster it is of."""
    driver, _ = with_bert()
    driver.link(BERT.id)
    driver.receive(message)
    assert driver.closed == [("dropped", "the peer spoke before it said hello")]


def test_a_farewell_is_passed_on() -> None:
    """The peer's own words are what connstatus shows."""
    driver, _ = with_bert()
    driver.greet(BERT.id)
    driver.receive(Bye("version differs", "version 1.0 there, 2.0 here"))
    assert driver.closed == [("version differs", "version 1.0 there, 2.0 here")]


def test_messages_of_a_link_that_is_gone_mean_nothing() -> None:
    """What was under way when a link broke is forgotten, reads of the log included."""
    driver, _ = with_bert()
    driver.link(BERT.id)
    driver.feed(LinkDown(1))
    assert driver.receive(hello(driver, BERT.id)) == []
    assert driver.feed(LogRead(1, 0, [])) == []
    assert driver.receive(Records([])) == []


# --- sending ---------------------------------------------------------------------------------------------


def test_a_peer_gets_what_it_lacks_and_hears_when_that_was_all() -> None:
    """In the order of the log, whole runs, then a word that all was sent."""
    driver, _ = with_bert()
    driver.greet(BERT.id)
    assert [data for batch in batches(driver) for data in batch] == [record.data for record in driver.records]
    assert isinstance(driver.sent[-1], CaughtUp)


def test_a_peer_that_has_everything_gets_nothing() -> None:
    """Equal vectors end the exchange at once."""
    driver, _ = with_bert()
    driver.greet(BERT.id, vector(driver.state.lines.values()))
    assert [type(message) for message in driver.sent] == [Hello, CaughtUp]


@pytest.mark.parametrize("after", range(5))
def test_a_peer_that_has_a_part_gets_the_rest(after: int) -> None:
    """A leaf in the middle of a line is looked up in the log."""
    driver, first = with_bert()
    for number in range(4):
        driver.set(f"k{number}")
    mine = [record for record in driver.records if record.envelope.machine == driver.me.id]
    leaf = Leaf(driver.me.id, mine[after].envelope.epoch, after + 1, mine[after].id[:LEAF_HASH_DIGITS])
    own = Leaf(BERT.id, first.envelope.epoch, 1, first.id[:LEAF_HASH_DIGITS])
    driver.restart()
    driver.greet(BERT.id, [leaf, own])
    assert [data for batch in batches(driver) for data in batch] == [record.data for record in mine[after + 1 :]]


def test_a_slow_peer_holds_up_only_itself() -> None:
    """A few batches are under way, never more: the rest waits in the log until the peer has handled one."""
    driver, _ = with_bert()
    for number in range(READ_RECORDS * (WINDOW + 4)):
        driver.set(f"k{number}")
    driver.greet(BERT.id)
    assert len(batches(driver)) == WINDOW
    assert not caught_up(driver)
    driver.set("live")
    assert len(batches(driver)) == WINDOW
    for count in range(1, 100):
        driver.receive(Ack(count))
        if caught_up(driver):
            break
        assert len(batches(driver)) == WINDOW + count
    assert [data for batch in batches(driver) for data in batch] == [record.data for record in driver.records]


def test_acknowledging_what_was_never_sent_gains_nothing() -> None:
    """A peer can only free the places of what is under way."""
    driver, _ = with_bert()
    for number in range(READ_RECORDS * (WINDOW + 4)):
        driver.set(f"k{number}")
    driver.greet(BERT.id)
    driver.receive(Ack(10**9))
    assert len(batches(driver)) == 2 * WINDOW


def test_what_is_appended_goes_out_at_once() -> None:
    """A peer that has caught up hears of a change in the step that made it durable."""
    driver, _ = with_bert()
    driver.greet(BERT.id, vector(driver.state.lines.values()))
    driver.set("a")
    assert batches(driver) == [[driver.records[-1].data]]


def test_what_a_peer_sent_is_not_sent_back_to_it() -> None:
    """Others get it, its sender gets an acknowledgement."""
    driver, first = with_bert()
    here = vector(driver.state.lines.values())
    driver.greet(BERT.id, here)
    driver.greet(CLEO.id, here, number=2)
    record = sealed(following(first), BERT)
    effects = driver.offer(record)
    sent = [(effect.link, type(effect.message)) for effect in driver.only(Send, effects)]
    assert sent == [(1, Ack), (2, Records)]


def test_an_acknowledgement_means_durable() -> None:
    """It goes out behind the append of its batch, or at once where nothing was new."""
    driver, first = with_bert()
    driver.greet(BERT.id, vector(driver.state.lines.values()))
    effects = driver.offer(sealed(following(first), BERT))
    kinds = [type(effect).__name__ for effect in effects]
    assert kinds.index("Append") < kinds.index("Send")
    assert driver.offer(first) == [Send(1, Ack(2))]


def test_a_large_group_of_changes_goes_out_in_frames_that_fit() -> None:
    """However much is appended at once, no message is larger than a frame may be."""
    driver, _ = with_bert()
    driver.greet(BERT.id, vector(driver.state.lines.values()))
    value = '"' + "x" * (VALUE_BYTES_MAX - 2) + '"'
    driver.do(*(setting(f"k{number}", value) for number in range(256)))
    acked = 0
    while len(batches(driver)) > acked:
        acked += 1
        driver.receive(Ack(acked))
    sent = [data for batch in batches(driver) for data in batch]
    assert sum(map(len, sent)) > FRAME_BYTES_MAX
    assert sent == [record.data for record in driver.records[-256:]]
    assert all(sum(map(len, batch)) < FRAME_BYTES_MAX // 4 for batch in batches(driver))


def test_large_secrets_go_out_in_frames_that_fit() -> None:
    """They are not in the envelopes, but in the frames."""
    driver, _ = with_bert()
    for number in range(40):
        driver.do(setting(f"k{number}", '"' + "x" * 60_000 + '"', secret=True))
    driver.greet(BERT.id)
    for count in range(1, 60):
        driver.receive(Ack(count))
    sizes = [sum(item.size for item in message.items) for message in driver.sent if isinstance(message, Records)]
    assert sum(sizes) > 40 * 60_000
    assert max(sizes) < 2 * BATCH_BYTES_TARGET


def test_many_small_changes_at_once_go_out_in_batches() -> None:
    """So that no peer is held up for long by admitting them."""
    driver, _ = with_bert()
    driver.greet(BERT.id, vector(driver.state.lines.values()))
    driver.do(*(setting(f"k{number}") for number in range(BATCH_RECORDS_MAX + 1)))
    assert sum(map(len, batches(driver))) == BATCH_RECORDS_MAX + 1


def test_what_the_log_has_and_the_state_has_not_is_not_sent() -> None:
    """A read that runs beside an append may see its rows; they go out when the state has them."""
    driver, _ = with_bert()
    driver.link(BERT.id)
    given = hello(driver, BERT.id)
    (read,) = driver.replica.step(received(driver, given))
    assert isinstance(read, Read)
    submission = driver.submission(setting("a"), commands.AddGroup(name="paris"))
    driver.prepare(submission)
    driver.replica.step(submission)
    pending = driver.replica.pending
    assert pending is not None
    finished(driver.log.append(pending.draft))
    rows = finished(driver.log.read(0, 100, 1 << 20))
    assert len(rows) == driver.state.position + 2
    effects = driver.replica.step(LogRead(1, 0, rows))
    (sent,) = [effect.message for effect in driver.only(Send, effects) if isinstance(effect.message, Records)]
    assert len(sent.items) == driver.state.position
    after = driver.replica.step(AppendDone())
    (live,) = [effect.message for effect in driver.only(Send, after) if isinstance(effect.message, Records)]
    assert [item.data for item in live.items] == [record.data for record in driver.records[-2:]]


def received(driver: Driver, message: Message) -> Received:
    """Return a message as an input whose needs are met."""
    given = Received(1, message, driver.now)
    driver.prepare(given)
    return given


# --- branches ----------------------------------------------------------------------------------------------


class Branches(NamedTuple):
    """A machine that has one branch of Bert's feed, and the longer one that its peer has."""

    driver: Driver
    here: Record
    there: list[Record]

    @property
    def leaf(self) -> Leaf:
        """What the peer says of Bert's feed."""
        newest = self.there[-1]
        return Leaf(BERT.id, newest.envelope.epoch, newest.envelope.seq, newest.id[:LEAF_HASH_DIGITS])

    def sent(self) -> list[bytes]:
        """Return all records that were sent."""
        return [data for batch in batches(self.driver) for data in batch]


def two_branches(written_after: int = 0) -> Branches:
    """Return the branches; the machine wrote so many records after it got its own one."""
    driver, first = with_bert()
    here = sealed(following(first, comment="here"), BERT)
    one = sealed(following(first, comment="there"), BERT)
    driver.greet(BERT.id, number=2)
    driver.offer(here, number=2)
    driver.feed(LinkDown(2))
    for number in range(written_after):
        driver.set(f"k{number}")
    driver.effects.clear()
    return Branches(driver, here, [one, sealed(following(one), BERT)])


def test_a_branch_is_held_back_while_the_peer_may_only_be_ahead() -> None:
    """Most likely the peer has it and more; when it has sent all it had, it is known to lack it."""
    branches = two_branches()
    driver = branches.driver
    driver.greet(CLEO.id, [branches.leaf])
    assert branches.here.data not in branches.sent()
    assert caught_up(driver)
    driver.offer(*branches.there)
    driver.receive(CaughtUp())
    assert branches.here.data in branches.sent()


def test_nothing_is_sent_twice_to_a_peer_that_was_only_ahead() -> None:
    """The usual case: no branch, so nothing was held back."""
    branches = two_branches()
    driver = branches.driver
    longer = sealed(following(branches.here), BERT)
    driver.greet(CLEO.id, [Leaf(BERT.id, longer.envelope.epoch, 3, longer.id[:LEAF_HASH_DIGITS])])
    driver.offer(longer)
    driver.receive(CaughtUp())
    assert len(branches.sent()) == len(set(branches.sent())) == len(driver.records) - 3


def test_a_peer_hears_that_all_was_sent_even_if_it_was_the_first_to_say_so() -> None:
    """It may be holding a branch back itself until it hears that."""
    branches = two_branches(READ_RECORDS * (WINDOW + 2))
    driver = branches.driver
    driver.greet(CLEO.id, [branches.leaf])
    driver.offer(*branches.there)
    driver.receive(CaughtUp())
    assert not caught_up(driver)
    for count in range(1, 50):
        driver.receive(Ack(count))
    assert caught_up(driver)
    own = {record.data for record in driver.records if record.envelope.machine == driver.me.id}
    assert own | {branches.here.data} <= set(branches.sent())


def test_a_read_that_was_under_way_does_not_skip_a_branch() -> None:
    """Its rows were asked for before it was known that an older record has to go out."""
    branches = two_branches(3)
    driver = branches.driver
    driver.link(CLEO.id)
    admission = driver.records[2]
    known = Leaf(driver.me.id, admission.envelope.epoch, admission.envelope.seq, admission.id[:LEAF_HASH_DIGITS])
    (read,) = driver.only(Read, driver.replica.step(received(driver, hello(driver, CLEO.id, [branches.leaf, known]))))
    assert read.after is None
    after = finished(driver.log.first_missing(read.covered))
    rows = finished(driver.log.read(after, 10, 1 << 20))
    assert branches.here.data not in [row.item.data for row in rows]
    driver.offer(*branches.there)
    driver.receive(CaughtUp())
    driver.effects += driver.feed(LogRead(1, after, rows))
    assert branches.here.data in branches.sent()


# --- hostile and broken peers -----------------------------------------------------------------------------


def test_records_that_cannot_be_read_end_the_conversation() -> None:
    """Nothing of the batch is kept, and the link is to blame."""
    driver, first = with_bert()
    driver.greet(BERT.id)
    position = driver.state.position
    good = sealed(following(first), BERT)
    driver.receive(Records([incoming(good), Incoming(b"{}", b"")]))
    why = "the peer sent a record with a wrong shape: Object missing required field `after`"
    assert driver.closed == [("dropped", why)]
    assert driver.state.position == position


def test_forged_records_end_the_conversation() -> None:
    """The reason says what was wrong; what came along is not kept."""
    driver, first = with_bert()
    driver.greet(BERT.id)
    position = driver.state.position
    good = sealed(following(first), BERT)
    driver.offer(good, sealed(following(good), CLEO))
    assert driver.closed == [("dropped", f"the peer sent a record of {BERT.id} whose seal is not its machine's")]
    assert any(isinstance(message, Bye) for message in driver.sent)
    assert driver.state.position == position
    driver.set("still alive")


def test_records_out_of_order_have_to_wait_and_are_named() -> None:
    """They are acknowledged, not kept, and an operator hears what is missing; in order they are taken."""
    driver, first = with_bert()
    one = sealed(following(first), BERT)
    two = sealed(following(one), BERT)
    driver.greet(BERT.id)
    effects = driver.offer(two)
    assert driver.only(Noticed, effects) == [Noticed(f"waiting: record 3 of {BERT.id}: the one before it is not here")]
    assert Send(1, Ack(1)) in effects
    assert driver.replica.waiting == {BERT.id: f"record 3 of {BERT.id}: the one before it is not here"}
    driver.offer(one, two)
    assert driver.replica.waiting == {}
    assert driver.records[-2:] == [one, two]


def test_records_of_a_later_version_have_to_wait_and_are_named() -> None:
    """The rest of the batch is taken."""
    driver, first = with_bert()
    driver.greet(BERT.id)
    good = sealed(following(first), BERT)
    driver.receive(Records([incoming(good), Incoming(b'{"v":2}', bytes(64))]))
    assert driver.replica.waiting[BERT.id] == "a record of format 2; this version reads format 1"
    assert driver.records[-1] == good


@pytest.mark.parametrize(
    "leaf",
    [
        Leaf(CLEO.id, "e" * 16, 1, "ab" * 8),  # type: ignore[arg-type] # an epoch
        Leaf("nobody", "", -5, ""),  # type: ignore[arg-type] # nonsense
        Leaf("anna", "x" * 10_000, 2**62, "zz"),  # type: ignore[arg-type] # the same
    ],
)
def test_a_vector_of_what_nobody_knows_is_no_trouble(leaf: Leaf) -> None:
    """A peer may claim what it likes: it is sent what it does not have, and the rest is waited for."""
    driver, _ = with_bert()
    driver.greet(BERT.id, [leaf] * 10)
    assert [data for batch in batches(driver) for data in batch] == [record.data for record in driver.records]
    driver.receive(CaughtUp())
    assert driver.closed == []


def test_saying_again_and_again_that_all_was_sent_gains_nothing() -> None:
    """A peer that claims a fork for ever does not make the whole log be sent again for ever."""
    driver, _ = with_bert()
    epoch = driver.records[0].envelope.epoch
    driver.greet(BERT.id, [Leaf(driver.me.id, epoch, 1000, "ab" * 8)])
    for count in range(1, 20):
        driver.receive(CaughtUp())
        driver.receive(Ack(count))
    assert sum(map(len, batches(driver))) <= 2 * len(driver.records)


def test_a_value_written_by_a_peer_is_read_here() -> None:
    """The whole way: a record made elsewhere, sent, admitted, merged."""
    driver, first = with_bert()
    driver.greet(BERT.id)
    driver.offer(sealed(following(first, writes=(write("setting/cluster/a", "17"),)), BERT))
    assert [lane.value for (path, _), lane in driver.log.lanes.items() if path == "setting/cluster/a"] == ["17"]
