"""A replica decides, appends under one seal, waits for the log, and only then changes, answers and sends."""

from __future__ import annotations

from typing import Any

import pytest

from cluster_store.core import authoring, commands
from cluster_store.core.admission import split
from cluster_store.core.effects import (
    Append,
    AppendDone,
    AppendFailed,
    ApplyChanges,
    Bye,
    Changed,
    Close,
    Noticed,
    Records,
    Reply,
    Send,
)
from cluster_store.core.errors import ClusterStoreError, InvalidValue, NotFound, OverLimit, Refused, StoreFull
from cluster_store.core.limits import (
    BATCH_BYTES_TARGET,
    FRAME_BYTES_MAX,
    HYBRID_MAX,
    VALUE_BYTES_MAX,
    WRITES_PER_EVENT_MAX,
)
from cluster_store.core.records import Record
from cluster_store.core.rules import read
from cluster_store.core.state import Draft, State
from cluster_store.core.types import HybridTime
from tests.core.builders import beginning, following, identity, incoming, sealed, write
from tests.core.desk import SALT, card
from tests.core.driving import Driver, founder, setting

BERT = identity("bert")


def joined(driver: Driver) -> Record:
    """Let Bert in, link him, and let him begin his feed; return his first record."""
    driver.do(commands.AdmitMachine(card=card("bert")))
    first = sealed(beginning(BERT, driver.records[-1]), BERT)
    driver.greet(BERT.id)
    driver.offer(first)
    assert driver.records[-1] == first
    return first


def snapshot(state: State) -> dict[str, Any]:
    """Return all of a state that a failed step must leave alone."""
    kept = ("position", "log_hash", "own", "hybrid", "lines", "heads", "feeds", "removals", "lanes", "tips", "followed")
    return {name: repr(getattr(state, name)) for name in kept}


def seals(driver: Driver) -> list[bool]:
    """Say of each record in the log whether it has a seal."""
    return [bool(record.seal) for record in driver.records]


# --- the order of a commit ------------------------------------------------------------------------------


def test_nothing_is_said_before_it_is_durable() -> None:
    """A step with commands does nothing but append; what the append makes true comes out of its success, in order."""
    driver = founder()
    joined(driver)
    given = driver.submission(setting("a"), setting("b"))
    driver.prepare(given)
    before = snapshot(driver.state)
    (append,) = driver.replica.step(given)
    assert isinstance(append, Append)
    assert snapshot(driver.state) == before
    after = driver.replica.step(AppendDone())
    assert [type(effect) for effect in after] == [ApplyChanges, Reply, Reply, Send, Changed]
    assert driver.state.position == int(before["position"]) + 2
    assert after[-1] == Changed(sorted(append.draft.lanes))


def test_commands_that_come_together_are_appended_under_one_seal() -> None:
    """One transaction, one signature, one run of records; each command has its own answer."""
    driver = founder()
    before = len(driver.records)
    effects = driver.feed(driver.submission(*(setting(f"k{number}") for number in range(5))))
    assert len(driver.only(Append, effects)) == 1
    assert seals(driver)[before:] == [False] * 4 + [True]
    replies = driver.only(Reply, effects)
    assert [reply.id for reply in replies] == [0, 1, 2, 3, 4]
    assert [(reply.result or {})["event"] for reply in replies] == [record.id for record in driver.records[before:]]


def test_each_command_is_decided_on_top_of_those_before() -> None:
    """The second writer of one key replaces the first one's lane, though neither is durable yet."""
    driver = founder()
    driver.do(setting("a", "1"), setting("a", "2"), setting("a", "2"))
    assert [lane.value for (path, _), lane in driver.log.lanes.items() if path == "setting/cluster/a"] == ["2"]
    assert len(driver.records) == 4


def test_a_refused_last_command_leaves_the_rest_sealed() -> None:
    """The seal moves to the last command that was accepted."""
    driver = founder()
    replies = driver.submit(setting("a"), setting("b"), commands.UnsetSetting(key="nope"), setting("", "1"))
    assert [type(reply.error) for reply in replies] == [type(None), type(None), NotFound, InvalidValue]
    assert seals(driver)[-2:] == [False, True]
    assert (replies[1].result or {})["event"] == driver.records[-1].id


def test_refused_commands_among_others_leave_no_trace() -> None:
    """Each is answered by itself."""
    driver = founder()
    before = len(driver.records)
    replies = driver.submit(setting(""), setting("a"), commands.UnsetSetting(key="x"), setting("a"), setting("b"))
    assert [reply.error is None for reply in replies] == [False, True, False, True, True]
    assert [(reply.result or {}).get("changed") for reply in replies] == [None, True, None, False, True]
    assert len(driver.records) == before + 2


def test_commands_that_are_all_refused_append_nothing() -> None:
    """They are answered at once."""
    driver = founder()
    before = snapshot(driver.state)
    effects = driver.feed(driver.submission(setting(""), commands.UnsetSetting(key="x")))
    assert [type(effect) for effect in effects] == [Reply, Reply]
    assert snapshot(driver.state) == before


def test_nothing_to_change_is_an_answer() -> None:
    """No event, and it says so."""
    driver = founder()
    driver.set("a")
    assert driver.set("a") == {"event": None, "changed": False, "level": "cluster", "writes": 0}


def test_a_large_group_of_commands_is_sealed_in_pieces() -> None:
    """A run must fit in a frame, so a seal is set wherever much has come together."""
    driver = founder()
    before = len(driver.records)
    value = '"' + "x" * (VALUE_BYTES_MAX - 2) + '"'
    driver.do(*(setting(f"k{number}", value) for number in range(12)))
    runs, size = [], 0
    for record in driver.records[before:]:
        size += len(record.data)
        if record.seal:
            runs.append(size)
            size = 0
    assert size == 0
    assert len(runs) > 1
    assert max(runs) < 2 * BATCH_BYTES_TARGET


def test_two_large_changes_at_once_are_two_runs() -> None:
    """Under one seal they could not be sent on: nobody's frame would hold both."""
    driver = founder()
    before = len(driver.records)
    driver.do(setting("small"), large_load(110, "a"), large_load(110, "b"), setting("last"))
    assert sum(len(record.data) for record in driver.records[before:]) > FRAME_BYTES_MAX // 4 * 3
    assert seals(driver)[before:] == [False, True, True, True]
    run = [incoming(record) for record in driver.records[before : before + 2]]
    assert len(split(run)[0]) == 1


def large_load(values: int, prefix: str) -> commands.LoadConfig:
    """Return a command whose record has about so many times 60 kB."""
    settings = {f"{prefix}{number}": '"' + "x" * 60_000 + '"' for number in range(values)}
    return commands.LoadConfig(settings=settings, source="f", salt=SALT)


def test_secrets_count_for_the_size_of_a_change() -> None:
    """They travel beside the record, in the same frame."""
    driver = Driver("anna")
    driver.do(commands.InitialiseMachine(card=card("anna"), salt=SALT))
    for number in range(150):
        driver.do(setting(f"k{number}", '"' + "x" * 60_000 + '"', secret=True))
    (reply,) = driver.submit(commands.CreateCluster(name="ships", salt=SALT))
    assert isinstance(reply.error, OverLimit)
    assert "bytes; the limit is 8388608" in str(reply.error)


def test_a_clock_before_1970_writes_nothing() -> None:
    """Others could not read such a time, so the change is refused instead of cutting the machine off."""
    driver = founder()
    driver.now = -5000
    (reply,) = driver.submit(setting("a"))
    assert isinstance(reply.error, ClusterStoreError)


# --- failed appends -------------------------------------------------------------------------------------


def test_a_failed_append_changes_nothing_and_can_be_tried_again() -> None:
    """Every caller of the group hears of it; the same commands, given again, come to the same records."""
    driver = founder()
    before, count = snapshot(driver.state), len(driver.records)
    driver.log.failure = StoreFull("the disk is full", "make room")
    given = driver.submission(setting("a"), setting(""), setting("b"))
    replies = driver.only(Reply, driver.feed(given))
    assert [type(reply.error) for reply in replies] == [StoreFull, InvalidValue, StoreFull]
    assert all(reply.result is None for reply in replies)
    assert (snapshot(driver.state), len(driver.records)) == (before, count)
    assert driver.replica.pending is None
    replies = driver.only(Reply, driver.feed(given))
    assert [reply.error is None for reply in replies] == [True, False, True]
    assert driver.state.position == count + 2 == len(driver.records)


def test_a_failed_append_of_a_peers_batch_closes_the_link_and_keeps_nothing() -> None:
    """The batch is not acknowledged, so the next session brings it again; the peer is told why."""
    driver = founder()
    first = joined(driver)
    record = sealed(following(first, writes=(write("setting/cluster/a", "1"),)), BERT)
    before = snapshot(driver.state)
    driver.log.failure = StoreFull("the disk is full", "make room")
    effects = driver.offer(record)
    assert [type(effect) for effect in effects] == [Append, Send, Close]
    assert effects[1] == Send(1, Bye("dropped", "it could not keep what it was sent: the disk is full"))
    assert snapshot(driver.state) == before
    driver.greet(BERT.id, number=2)
    driver.offer(record, number=2)
    assert driver.records[-1] == record


# --- what commands may depend on each other ---------------------------------------------------------------


@pytest.mark.parametrize("fresh", [False, True], ids=["loaded", "just started"])
def test_a_command_may_need_levels_that_one_before_it_brought(*, fresh: bool) -> None:
    """Groups, moves and clusters made in one breath with settings that depend on them."""
    driver = founder()
    driver.do(commands.AddGroup(name="Rome"))
    driver.set("banner", '"rome"', "group:Rome")
    if fresh:
        driver.restart()
    driver.do(
        commands.AddGroup(name="Paris"),
        setting("banner", '"paris"', "group:Paris"),
        commands.MoveMachines(machines=("anna",), group="Rome"),
    )
    replies = driver.submit(
        commands.MoveMachines(machines=("anna",), group="Paris"), setting("banner"), setting("other")
    )
    assert [type(reply.error) for reply in replies] == [type(None), Refused, type(None)]
    assert "set at group:Paris" in str(replies[1].error)


def test_a_cluster_and_its_first_setting_may_come_together() -> None:
    """The setting's level is the new cluster's."""
    driver = Driver("anna")
    driver.do(commands.InitialiseMachine(card=card("anna"), salt=SALT), setting("a", "1"))
    driver.do(commands.CreateCluster(name="ships", salt=SALT), setting("b", "2"))
    assert {path for path, _ in driver.log.lanes if path.startswith("setting/")} == {
        "setting/cluster/a",
        "setting/cluster/b",
    }


def test_an_epoch_begins_before_anything_else() -> None:
    """Begun behind other records of the same append, it would leave those without a seal for ever."""
    driver = founder()
    replies = driver.submit(setting("a"), commands.BeginEpoch(reason="moved"), setting("b"))
    assert [type(reply.error) for reply in replies] == [type(None), Refused, type(None)]
    driver.do(commands.BeginEpoch(reason="moved"), setting("c"))
    assert [record.envelope.seq for record in driver.records[-2:]] == [1, 2]
    assert seals(driver)[-4:] == [False, True, False, True]


# --- what a record says -------------------------------------------------------------------------------------


def test_a_record_says_who_wrote_it_and_when() -> None:
    """The caller, how it was authenticated, the comment and the wall clock go into the envelope."""
    driver = founder()
    driver.do(setting("a", comment="because"))
    envelope = driver.records[-1].envelope
    assert (envelope.user, envelope.auth, envelope.comment, envelope.time) == (
        "os:root",
        "local",
        "because",
        driver.now,
    )
    assert envelope.hybrid == driver.now << 12


def test_a_clock_that_goes_back_does_not_take_the_record_with_it() -> None:
    """Hybrid time is greater than that of all that the author had seen; the wall clock is written as it is."""
    driver = founder()
    driver.set("a")
    latest = driver.records[-1].envelope.hybrid
    driver.now -= 10**9
    driver.set("b")
    assert driver.records[-1].envelope.hybrid == latest + 1
    assert driver.records[-1].envelope.time == driver.now


def test_a_peer_with_a_fast_clock_is_followed_also_after_a_restart() -> None:
    """A record decided below the time of what it came after would be void everywhere else."""
    driver = founder()
    first = joined(driver)
    future = HybridTime((driver.now + 10**10) << 12)
    driver.offer(sealed(following(first, hybrid=future), BERT))
    driver.restart()
    driver.set("a")
    assert driver.records[-1].envelope.hybrid == future + 1
    assert driver.records[-2].id in driver.records[-1].envelope.after


def test_the_end_of_time_is_no_end() -> None:
    """Where a peer has used the calendar up, one can still write."""
    driver = founder()
    first = joined(driver)
    driver.offer(sealed(following(first, hybrid=HYBRID_MAX), BERT))
    driver.set("a", "1")
    driver.set("a", "2")
    assert [lane.value for (path, _), lane in driver.log.lanes.items() if path == "setting/cluster/a"] == ["2"]
    assert [record.envelope.hybrid - HYBRID_MAX for record in driver.records[-2:]] == [1, 2]


def test_a_record_names_the_newest_of_what_its_author_had_seen_since() -> None:
    """Only others' newest records, and only once: along a feed they add up to all that was seen."""
    driver = founder()
    first = joined(driver)
    driver.set("a")
    driver.set("b")
    assert [record.envelope.after for record in driver.records[-2:]] == [(first.id,), ()]
    one = sealed(following(first), BERT)
    two = sealed(following(one), BERT)
    driver.offer(one, two)
    driver.set("c")
    assert driver.records[-1].envelope.after == (two.id,)


def test_more_feeds_than_a_record_can_name_do_not_stop_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that begins thousands of epochs would else make every other machine's next record void for ever."""
    monkeypatch.setattr(authoring, "AFTER_MAX", 3)
    driver = founder()
    first = joined(driver)
    admission = driver.records[-2]
    begun = [sealed(beginning(BERT, admission, epoch=f"{number:016x}", after=()), BERT) for number in range(5)]
    driver.offer(*begun)
    driver.set("a")
    assert set(driver.records[-1].envelope.after) == {record.id for record in begun[-3:]}
    assert first.id not in driver.records[-1].envelope.after


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "error", "words"),
    [
        (setting("a", comment="x" * 5000), OverLimit, "the change has a comment or a user's name over 4096 bytes"),
        (setting("a", comment="\udcff"), InvalidValue, "the change cannot be written down"),
        (commands.AddElements(key="a", elements=('"' + "x" * 2000 + '"',)), OverLimit, "over 1024 bytes"),
        (
            commands.LoadConfig(
                settings={f"k{number}": "1" for number in range(WRITES_PER_EVENT_MAX + 1)}, source="f", salt=SALT
            ),
            OverLimit,
            "writes 20001 registers; the limit is 20000",
        ),
        (
            commands.LoadConfig(
                settings={f"k{number}": '"' + "x" * 60_000 + '"' for number in range(150)}, source="f", salt=SALT
            ),
            OverLimit,
            "the limit is 8388608",
        ),
        (setting("a", "no JSON"), OverLimit, "is not JSON"),
    ],
    ids=["comment", "surrogate", "element", "writes", "envelope", "value"],
)
def test_what_others_would_not_count_is_refused_here(
    command: commands.Command, error: type[ClusterStoreError], words: str
) -> None:
    """An author holds itself to what every other machine will say; nothing is appended, and the next command works."""
    driver = founder()
    before = snapshot(driver.state)
    driver.prepare(driver.submission(command))
    (reply,) = driver.submit(command)
    assert type(reply.error) is error
    assert words in str(reply.error)
    assert snapshot(driver.state) == before
    driver.set("a")


def test_a_machine_that_learnt_of_its_removal_writes_no_more() -> None:
    """Everybody else would drop it; it is told so instead of going on alone."""
    driver = founder()
    first = joined(driver)
    told = f'["{BERT.id}"]'
    gone = following(first, kind="MachinesRemoved", writes=(write(f"machine/{driver.me.id}/removed", told),))
    driver.offer(sealed(gone, BERT))
    assert list(driver.replica.cluster.removed) == [driver.me.id]
    (reply,) = driver.submit(setting("a"))
    assert isinstance(reply.error, Refused)
    assert "this machine was removed" in str(reply.error)


# --- own feeds ------------------------------------------------------------------------------------------------


def test_a_store_that_may_have_a_twin_begins_a_new_epoch_with_its_next_write() -> None:
    """The record that begins it and the change itself are one run; the epoch before is named."""
    driver = founder()
    before, epoch = len(driver.records), driver.records[-1].envelope.epoch
    driver.state.own = None
    driver.set("a")
    began, changed = driver.records[before:]
    assert (began.envelope.kind, changed.envelope.kind) == ("EpochBegun", "SettingSet")
    assert began.envelope.epoch == changed.envelope.epoch != epoch
    assert (began.envelope.seq, changed.envelope.seq, changed.envelope.prev) == (1, 2, began.id)
    assert f'"previous":["{epoch}",{before}]' in str(began.envelope.writes[0].value)
    assert began.envelope.params["reason"] == "moved"
    driver.set("b")
    assert driver.records[-1].envelope.epoch == changed.envelope.epoch


def test_an_epoch_is_not_begun_for_a_change_that_is_refused() -> None:
    """A refused command changes nothing, not even that."""
    driver = founder()
    driver.state.own = None
    before = snapshot(driver.state)
    replies = driver.submit(setting("a", comment="x" * 5000), commands.UnsetSetting(key="x"))
    assert all(reply.error is not None for reply in replies)
    assert snapshot(driver.state) == before


def test_records_of_ones_own_that_come_back_begin_a_new_epoch() -> None:
    """A store that meets records of its own that it did not write was restored or runs twice, and says so."""
    driver = founder()
    joined(driver)
    twin = sealed(following(driver.records[2]), driver.me)
    effects = driver.offer(twin)
    (notice,) = driver.only(Noticed, effects)
    assert "brought back records of this machine (1)" in notice.text
    assert driver.state.own is None
    driver.restart()
    assert driver.state.own is None
    driver.set("a")
    assert driver.records[-2].envelope.kind == "EpochBegun"
    assert twin.id in driver.records[-2].envelope.after


def test_a_restarted_replica_goes_on_where_it_was() -> None:
    """Same feed, next number; the read model is the same as before."""
    driver = founder()
    driver.set("a")
    before, model = snapshot(driver.state), driver.replica.cluster
    driver.restart()
    driver.set("b")
    one, two = driver.records[-2:]
    assert (two.envelope.epoch, two.envelope.seq, two.envelope.prev) == (one.envelope.epoch, 4, one.id)
    assert read(Draft(driver.state)) == model
    assert before["lines"] != snapshot(driver.state)["lines"]


def test_what_is_appended_goes_to_every_peer() -> None:
    """Each gets the records as they are in the log, secrets beside them."""
    driver = founder()
    joined(driver)
    driver.greet(BERT.id, number=2)
    effects = driver.feed(driver.submission(setting("a", secret=True)))
    sent = [(send.link, send.message) for send in driver.only(Send, effects)]
    assert [link for link, message in sent if isinstance(message, Records)] == [1, 2]
    for _, message in sent:
        assert isinstance(message, Records)
        (item,) = message.items
        assert item.data == driver.records[-1].data
        assert [(path, text) for path, _, text in item.secrets] == [("setting/cluster/a", '"x"')]


def test_an_error_of_the_log_is_no_error_of_the_command() -> None:
    """A reply of a failed append has the log's own words, not a result."""
    driver = founder()
    given = driver.submission(setting("a"))
    driver.prepare(given)
    driver.replica.step(given)
    (reply,) = driver.replica.step(AppendFailed(StoreFull("the disk is full")))
    assert isinstance(reply, Reply)
    assert (reply.result, str(reply.error)) == (None, "the disk is full")
