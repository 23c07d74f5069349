"""What is dropped, what has to wait, and that each verdict depends on the past alone."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import orjson
import pytest

from cluster_store.core.admission import Incoming, needs_of, split
from cluster_store.core.errors import Malformed
from cluster_store.core.records import Envelope, Record
from cluster_store.core.types import HybridTime
from tests.core.builders import (
    READER,
    Store,
    admitting,
    beginning,
    envelope,
    first_record,
    following,
    incoming,
    seal_last,
    sealed,
    store_of,
    unsealed,
    write,
)
from tests.core.pair import ABSENT, ADMISSION, ANNA, BANNER, BERT, CLEO, FIRST, JOINED, removing, setting


def large(record: Record) -> Envelope:
    """Return an envelope after a record that is as large as it may be, or nearly so."""
    writes = tuple(write(f"setting/cluster/k{number}", f'"{"x" * 60_000}"') for number in range(135))
    return following(record, writes=writes)


# --- dropped ----------------------------------------------------------------------------------------

DROPPED: dict[str, tuple[Callable[[], list[Record]], str]] = {
    "a record of another cluster": (
        lambda: [sealed(setting(JOINED, cluster="f" * 64), BERT)],
        "of another cluster",
    ),
    "a first record that is not this cluster's": (
        lambda: [first_record(CLEO)],
        "of another cluster",
    ),
    "a record of another cluster behind one of this": (
        lambda: seal_last([one := setting(JOINED), setting(unsealed(one), cluster="f" * 64)], BERT),
        "of another cluster",
    ),
    "a feed that begins in its middle": (
        lambda: [sealed(beginning(BERT, ADMISSION, epoch="e" * 16, seq=2), BERT)],
        "does not begin at its beginning",
    ),
    "a feed that begins with a setting": (
        lambda: [sealed(beginning(BERT, ADMISSION, epoch="e" * 16, kind="SettingSet"), BERT)],
        "does not begin at its beginning",
    ),
    "a feed that does not say who let its machine in": (
        lambda: [sealed(beginning(BERT, ADMISSION, epoch="e" * 16, params={}), BERT)],
        "does not say who let it in",
    ),
    "a feed that names something else than a record": (
        lambda: [sealed(beginning(BERT, ADMISSION, epoch="e" * 16, params={"admission": 7}), BERT)],
        "does not say who let it in",
    ),
    "a second beginning of the cluster": (
        lambda: [sealed(msgspec.structs.replace(FIRST.envelope, cluster=FIRST.id), ANNA)],
        "does not say who let it in",
    ),
    "a machine that a record let in which did not": (
        lambda: [sealed(beginning(CLEO, ADMISSION), CLEO)],
        "which nobody let in",
    ),
    "a machine whose admission is a record of something else": (
        lambda: [sealed(beginning(BERT, ADMISSION, epoch="e" * 16, params={"admission": JOINED.id}), BERT)],
        "which nobody let in",
    ),
    "a record that skips a number": (
        lambda: [sealed(setting(JOINED, seq=3), BERT)],
        "continues another feed",
    ),
    "a record that continues another machine's feed": (
        lambda: [sealed(setting(JOINED, machine=ANNA.id), ANNA)],
        "continues another feed",
    ),
    "a record that continues another epoch": (
        lambda: [sealed(setting(JOINED, epoch="e" * 16), BERT)],
        "continues another feed",
    ),
    "a record with somebody else's seal": (
        lambda: [sealed(setting(JOINED), ANNA)],
        "whose seal is not its machine's",
    ),
    "a run with somebody else's seal": (
        lambda: seal_last([one := setting(JOINED), setting(unsealed(one))], ANNA),
        "whose seal is not its machine's",
    ),
    "a record without a seal": (
        lambda: [unsealed(setting(JOINED))],
        "after the last seal",
    ),
    "a run that no frame could carry on": (
        lambda: seal_last([one := large(JOINED), large(unsealed(one))], BERT),
        "a run of more than",
    ),
    "records that do not follow each other": (
        lambda: [unsealed(setting(JOINED)), sealed(setting(JOINED, '"y"'), BERT)],
        "do not follow each other",
    ),
    "records of two machines under one seal": (
        lambda: [unsealed(setting(JOINED)), sealed(setting(ADMISSION), ANNA)],
        "do not follow each other",
    ),
    "a record of a machine that knew of its own removal": (
        lambda: [gone := sealed(removing(ADMISSION, BERT.id), ANNA), sealed(setting(JOINED, after=(gone.id,)), BERT)],
        "knew of its own removal",
    ),
    "a record of a machine that removed itself just before": (
        lambda: [gone := sealed(removing(JOINED, BERT.id), BERT), sealed(setting(gone), BERT)],
        "knew of its own removal",
    ),
    "a record of a machine that removed itself under the same seal": (
        lambda: seal_last([one := removing(JOINED, BERT.id), setting(unsealed(one))], BERT),
        "knew of its own removal",
    ),
}


@pytest.mark.parametrize("what", list(DROPPED))
def test_what_is_not_authentic_is_dropped(what: str) -> None:
    """Nothing of a run that is not authentic is stored, and the reason names it."""
    make, reason = DROPPED[what]
    store = store_of(FIRST, ADMISSION, JOINED)
    *before, last = make()
    good = [record for record in before if record.seal]
    store.take(*good)
    assert reason in store.refusal(*(record for record in before if not record.seal), last)
    assert store.stored == {FIRST.id, ADMISSION.id, JOINED.id, *(record.id for record in good)}


def test_a_store_without_a_cluster_takes_nothing() -> None:
    """Before a machine has joined it knows no first record, so it cannot tell what is authentic."""
    assert "before the cluster's identity is known" in Store("").refusal(FIRST)


def test_a_first_record_without_its_own_key_is_dropped() -> None:
    """Whoever begins a cluster says which key is its machine's, in the record itself."""
    forged = sealed(envelope(ANNA, kind="MachineInitialised", writes=()), ANNA)
    assert "without its machine's key" in Store(forged.id).refusal(forged)
    other = sealed(envelope(BERT, kind="MachineInitialised", writes=FIRST.envelope.writes), BERT)
    assert "without its machine's key" in Store(other.id).refusal(other)


def test_bytes_that_are_no_record_are_dropped() -> None:
    """One unreadable record drops the batch that it came in."""
    with pytest.raises(Malformed):
        store_of(FIRST).offer([incoming(ADMISSION), Incoming(b"{}", b"")])


def test_a_dropped_run_takes_its_batch_along() -> None:
    """What came with a forgery is not trusted either; the next session brings it again."""
    store = store_of(FIRST)
    store.refusal(ADMISSION, sealed(setting(ADMISSION), BERT))
    assert store.stored == {FIRST.id}


@pytest.mark.parametrize("known", [False, True])
def test_a_verdict_does_not_depend_on_what_of_a_run_is_here(*, known: bool) -> None:
    """Two runs that share their first record are judged alike, whichever came first."""
    one = setting(JOINED)
    foreign = seal_last([one, setting(unsealed(one), cluster="f" * 64)], BERT)
    good = seal_last([one, setting(unsealed(one), '"y"')], BERT)
    store = store_of(FIRST, ADMISSION, JOINED)
    if known:
        store.take(*good)
    assert "of another cluster" in store.refusal(*foreign)
    store.take(*good)
    assert store.stored == {FIRST.id, ADMISSION.id, JOINED.id, *(record.id for record in good)}


# --- waiting ----------------------------------------------------------------------------------------

WAITING: dict[str, tuple[Callable[[], Record], str]] = {
    "its predecessor": (
        lambda: sealed(setting(JOINED, prev=ABSENT), BERT),
        "the one before it is not here",
    ),
    "a record that it had seen": (
        lambda: sealed(setting(JOINED, after=(FIRST.id, ABSENT)), BERT),
        "a record that it had seen is not here",
    ),
    "a record that it replaces": (
        lambda: sealed(setting(JOINED, '"x"', ABSENT), BERT),
        "a record that it replaces is not here",
    ),
    "the record that let it in": (
        lambda: sealed(beginning(CLEO, ADMISSION, params={"admission": ABSENT}), CLEO),
        "the one that let it in is not here",
    ),
}


@pytest.mark.parametrize("what", list(WAITING))
def test_what_came_after_something_unknown_has_to_wait(what: str) -> None:
    """A record is not stored before all that it came after, and the answer says what is missing."""
    make, reason = WAITING[what]
    store = store_of(FIRST, ADMISSION, JOINED)
    assert reason in store.offer([incoming(make())])[0]
    assert store.stored == {FIRST.id, ADMISSION.id, JOINED.id}


def test_what_waited_is_taken_when_it_comes_again() -> None:
    """Waiting leaves nothing behind that would stand in the way later."""
    store = store_of(FIRST, ADMISSION)
    later = sealed(setting(JOINED), BERT)
    assert store.offer([incoming(later)]) == [f"record 2 of {BERT.id}: the one before it is not here"]
    store.take(JOINED)
    store.take(later)
    assert later.id in store.stored


def test_what_follows_a_waiting_record_waits_too_and_the_rest_is_taken() -> None:
    """One missing record holds up what came after it, nothing else in the batch."""
    store = store_of(FIRST)
    other = sealed(setting(ADMISSION), ANNA)
    late = sealed(setting(JOINED, after=(ABSENT,)), BERT)
    answers = store.offer(map(incoming, [ADMISSION, JOINED, late, sealed(setting(late), BERT), other]))
    assert [bool(answer) for answer in answers] == [False, False, True, True, False]
    assert store.stored == {FIRST.id, ADMISSION.id, JOINED.id, other.id}


def test_a_later_format_has_to_wait_with_its_run() -> None:
    """A run with a record of a later version is left alone as a whole; the runs around it are taken."""
    later = orjson.dumps({"v": 2, "z": 1}, option=orjson.OPT_SORT_KEYS)
    store = store_of(FIRST)
    answers = store.offer(
        [incoming(ADMISSION), incoming(unsealed(setting(ADMISSION))), Incoming(later, bytes(64)), incoming(JOINED)]
    )
    assert answers == ["", "", "a record of format 2; this version reads format 1"]
    assert store.stored == {FIRST.id, ADMISSION.id, JOINED.id}


def test_a_later_format_without_a_seal_is_dropped() -> None:
    """Even then records come in runs."""
    with pytest.raises(Malformed, match="after the last seal"):
        split([Incoming(b'{"v":2}', b"")])


def test_a_lane_that_two_records_take_away_in_one_batch_is_no_reason_to_wait() -> None:
    """The second record finds the lane gone, but knows that its record is here, though nobody looked it up."""
    old = sealed(setting(ADMISSION), ANNA)
    newest = sealed(following(old), ANNA)
    store = store_of(FIRST, ADMISSION, JOINED, old, newest)
    store.state.facts.clear()
    store.take(sealed(setting(newest, '"1"', old.id), ANNA), sealed(setting(JOINED, '"2"', old.id), BERT))
    assert store.values(BANNER) == ['"1"', '"2"']


def test_a_record_may_say_twice_that_it_had_seen_something() -> None:
    """Naming its own predecessor, stored before or under the same seal, is needless but harmless."""
    store = store_of(FIRST, ADMISSION, JOINED)
    one = setting(JOINED, after=(JOINED.id, JOINED.id))
    store.take(*seal_last([one, setting(unsealed(one), '"y"', after=(unsealed(one).id,))], BERT))
    assert store.values(BANNER) == ['"x"', '"y"']


# --- removals ---------------------------------------------------------------------------------------


def test_the_records_that_a_removed_machine_wrote_before_it_knew_count() -> None:
    """Its earlier and concurrent changes are taken, whether they come before or behind the removal."""
    gone = sealed(removing(ADMISSION, BERT.id), ANNA)
    unaware = sealed(setting(JOINED), BERT)
    for order in ([JOINED, unaware, gone], [gone, JOINED, unaware]):
        store = store_of(FIRST, ADMISSION, *order)
        assert store.values(BANNER) == ['"x"']


def test_halves_that_removed_each_other_can_be_written_to_again() -> None:
    """If nobody would be left, the machine that was removed last stays, for records and readers alike."""
    anna_goes = sealed(removing(JOINED, ANNA.id, left=[BERT.id], hybrid=HybridTime(JOINED.envelope.hybrid + 9)), BERT)
    bert_goes = sealed(removing(ADMISSION, BERT.id, left=[ANNA.id]), ANNA)
    store = store_of(FIRST, ADMISSION, JOINED, anna_goes, bert_goes)
    both = HybridTime(anna_goes.envelope.hybrid + 1)
    assert "own removal" in store.refusal(sealed(setting(anna_goes, after=(bert_goes.id,), hybrid=both), BERT))
    store.take(sealed(setting(bert_goes, after=(anna_goes.id,), hybrid=both), ANNA))
    assert store.values(BANNER) == ['"x"']


def test_one_record_that_removes_everybody_leaves_the_machine_with_the_greatest_id() -> None:
    """Of machines that went at the same moment one stays, the same on every machine and in every process."""
    everybody = sealed(removing(JOINED, ANNA.id, BERT.id, left=[]), BERT)
    store = store_of(FIRST, ADMISSION, JOINED, everybody)
    later = HybridTime(everybody.envelope.hybrid + 1)
    verdicts = {
        ANNA.id: sealed(setting(ADMISSION, after=(everybody.id,), hybrid=later), ANNA),
        BERT.id: sealed(setting(everybody, hybrid=later), BERT),
    }
    store.take(verdicts.pop(max(verdicts)))
    (refused,) = verdicts.values()
    assert "own removal" in store.refusal(refused)


# --- forks and feeds --------------------------------------------------------------------------------


def test_both_records_that_follow_the_same_one_count() -> None:
    """A machine that was rolled back writes a second record after the same one: both stay, as lines of their own."""
    one, two = sealed(setting(JOINED, '"one"'), BERT), sealed(setting(JOINED, '"two"'), BERT)
    store = store_of(FIRST, ADMISSION, JOINED, one, two)
    assert store.values(BANNER) == ['"one"', '"two"']
    lines = [line for line in store.state.lines.values() if line.machine == BERT.id]
    assert [(line.parent, line.forked_at) for line in lines] == [(None, 0), (lines[0].number, 1)]
    assert lines[0].actor != lines[1].actor
    store.take(sealed(setting(two, '"three"', one.id, two.id), BERT))
    assert store.values(BANNER) == ['"three"']


def test_a_machine_may_begin_as_many_epochs_as_it_likes() -> None:
    """Each is a feed of its own, let in by the same record; one number used twice is a fork at the root."""
    epochs = [sealed(beginning(BERT, ADMISSION, epoch=epoch), BERT) for epoch in ("1" * 16, "2" * 16)]
    again = sealed(beginning(BERT, ADMISSION, epoch="1" * 16, comment="a twin"), BERT)
    store = store_of(FIRST, ADMISSION, JOINED, *epochs, again)
    assert len(store.state.feeds[BERT.id, epochs[0].envelope.epoch]) == 2
    store.take(*(sealed(setting(record), BERT) for record in (*epochs, again)))
    assert len(store.state.lines) == 5


def test_a_machine_that_was_let_in_twice_may_name_either_record() -> None:
    """Two members that admit one machine while apart do not get in each other's way."""
    again = sealed(admitting(JOINED, CLEO), BERT)
    other = sealed(admitting(ADMISSION, CLEO), ANNA)
    store = store_of(FIRST, ADMISSION, JOINED, again, other)
    for number, admission in enumerate((again, other)):
        store.take(sealed(beginning(CLEO, admission, epoch=f"{number:016x}"), CLEO))


def test_what_is_here_already_is_not_stored_again() -> None:
    """Duplicates cost nothing and change nothing, in one batch or later."""
    store = store_of(FIRST)
    store.take(ADMISSION, ADMISSION, JOINED, JOINED)
    store.take(FIRST, ADMISSION, JOINED)
    assert len(store.log.records) == 3
    assert store.state.position == 3


# --- what has to be looked up -----------------------------------------------------------------------


def test_records_that_extend_what_is_here_cost_no_look_up() -> None:
    """Catching up in order asks the log for nothing but scopes."""
    store = store_of(FIRST, ADMISSION, JOINED)
    one = sealed(setting(JOINED, after=(ADMISSION.id,)), BERT)
    two = sealed(setting(one), BERT)
    runs, _ = split(map(incoming, [one, two]))
    assert not store.state.missing(needs_of(runs, store.state)).records


def test_a_fork_asks_whether_it_is_here() -> None:
    """A record after one in the middle of a line may be known already; only the log can tell."""
    store = store_of(FIRST, ADMISSION, JOINED, sealed(setting(JOINED), BERT))
    fork = sealed(setting(JOINED, '"y"'), BERT)
    store.restart()
    runs, _ = split([incoming(fork)])
    assert {fork.id, JOINED.id} <= needs_of(runs, store.state).records


def test_the_readers_own_identity_does_not_matter() -> None:
    """Two machines judge alike: the store that is asked is no member here, and its own feed gets no favours."""
    assert all(machine.id != READER for machine in (ANNA, BERT, CLEO))
    own, other = Store(FIRST.id, BERT.id), Store(FIRST.id, ANNA.id)
    for store in (own, other):
        store.take(FIRST, ADMISSION, JOINED)
        assert store.refusal(sealed(setting(JOINED, seq=9), BERT)) == "a record that continues another feed"
    assert own.log.log_hash == other.log.log_hash
