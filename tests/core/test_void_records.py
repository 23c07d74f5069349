"""What is authentic but not acceptable is stored, named and built upon, and writes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster_store.core.limits import COMMENT_BYTES_MAX, HYBRID_MAX
from cluster_store.core.records import Envelope
from cluster_store.core.registers import Secret
from cluster_store.core.types import HybridTime
from tests.core.builders import admitting, beginning, following, sealed, store_of, write
from tests.core.pair import ABSENT, ADMISSION, ANNA, BANNER, BERT, CLEO, FIRST, JOINED, removing, setting

#: Something that happened long after the others.
LATE = sealed(setting(ADMISSION, '"late"', hybrid=HybridTime(ADMISSION.envelope.hybrid + 100)), ANNA)
KEY = f"machine/{CLEO.id}/key"
VOID: dict[str, tuple[Callable[[], Envelope], str]] = {
    "over a limit": (lambda: setting(JOINED, comment="x" * (COMMENT_BYTES_MAX + 1)), "a comment or a user's name over"),
    "an unknown kind": (lambda: setting(JOINED, kind="CoupAttempted"), "unknown kind 'CoupAttempted'"),
    "a write that its kind does not make": (
        lambda: following(JOINED, kind="GroupAdded", writes=(write(BANNER, '"x"'),)),
        f"is a GroupAdded but writes {BANNER}",
    ),
    "a membership change that calls itself a setting": (
        lambda: following(JOINED, writes=(write(f"machine/{ANNA.id}/group", '"x"'),)),
        f"is a SettingSet but writes machine/{ANNA.id}/group",
    ),
    "a path that is no register": (lambda: following(JOINED, writes=(write("setting/x", "1"),)), "no register"),
    "a path that only looks quoted": (
        lambda: following(JOINED, writes=(write("setting/cluster/%zz", "1"),)),
        "no register",
    ),
    "a path that is quoted needlessly": (
        lambda: following(JOINED, writes=(write("setting/cluster/%41", "1"),)),
        "no register",
    ),
    "a path that is no text": (
        lambda: following(JOINED, writes=(write("setting/cluster/%FF", "1"),)),
        "no register",
    ),
    "a beginning in the middle of a feed": (
        lambda: following(JOINED, kind="EpochBegun", params={"admission": ABSENT}),
        "EpochBegun in the middle of its feed",
    ),
    "a time before that of its predecessor": (
        lambda: setting(JOINED, hybrid=JOINED.envelope.hybrid),
        "not after that of what it had seen",
    ),
    "a time before that of what it had seen": (
        lambda: setting(JOINED, hybrid=HybridTime(JOINED.envelope.hybrid + 1), after=(LATE.id,)),
        "not after that of what it had seen",
    ),
    "a key written by the wrong kind": (
        lambda: following(JOINED, kind="MachineChanged", writes=(write(KEY, CLEO.key_text),)),
        "is a MachineChanged but writes a machine's key",
    ),
    "a key of another machine": (
        lambda: following(JOINED, kind="MachineAdmitted", writes=(write(KEY, BERT.key_text),)),
        "not its machine's",
    ),
    "a key that is no text": (
        lambda: following(JOINED, kind="MachineAdmitted", writes=(write(KEY, "17"),)),
        "malformed machine key",
    ),
    "a key that is secret": (
        lambda: following(JOINED, kind="MachineAdmitted", writes=(write(KEY, Secret(ABSENT)),)),
        "malformed machine key",
    ),
    "a key that is no hexadecimal": (
        lambda: following(JOINED, kind="MachineAdmitted", writes=(write(KEY, '"xyz"'),)),
        "malformed machine key",
    ),
    "a key that replaces one": (
        lambda: following(
            JOINED,
            kind="MachineAdmitted",
            writes=(write(f"machine/{BERT.id}/key", BERT.key_text, ADMISSION.id),),
        ),
        "not its machine's",
    ),
    "a key taken away": (
        lambda: following(
            JOINED, kind="MachineAdmitted", writes=(write(f"machine/{BERT.id}/key", False, ADMISSION.id),)
        ),
        "malformed machine key",
    ),
    "a removal by the wrong kind": (
        lambda: following(JOINED, kind="MachinesMoved", writes=(write(f"machine/{ANNA.id}/removed", "[]"),)),
        "is a MachinesMoved but removes a machine",
    ),
    "a removal that does not say who is left": (
        lambda: following(JOINED, kind="MachinesRemoved", writes=(write(f"machine/{ANNA.id}/removed", "true"),)),
        "wrong shape",
    ),
    "a removal taken back": (
        lambda: following(
            JOINED, kind="MachinesRemoved", writes=(write(f"machine/{ANNA.id}/removed", False, FIRST.id),)
        ),
        "wrong shape",
    ),
}


@pytest.mark.parametrize("what", list(VOID))
def test_what_is_authentic_but_not_acceptable_is_void(what: str) -> None:
    """A void record is stored, named and built upon, and writes nothing."""
    make, reason = VOID[what]
    store = store_of(FIRST, ADMISSION, JOINED, LATE)
    lanes = dict(store.log.lanes)
    void = sealed(make(), BERT)
    store.take(void)
    assert reason in store.void(void)
    assert store.log.lanes == lanes
    follower = sealed(setting(void, '"after"', hybrid=HybridTime(JOINED.envelope.hybrid + 500)), BERT)
    store.take(follower)
    assert store.void(follower) == ""
    assert '"after"' in store.values(BANNER)
    store.restart()
    assert store.refusal(sealed(setting(void), ANNA)) == f"a record of {BERT.id} whose seal is not its machine's"


def test_a_key_that_a_void_record_wrote_lets_nobody_in() -> None:
    """A machine that only a void record named is as unknown as any other."""
    void = sealed(admitting(JOINED, CLEO, hybrid=HybridTime(1)), BERT)
    store = store_of(FIRST, ADMISSION, JOINED, void)
    assert "which nobody let in" in store.refusal(sealed(beginning(CLEO, void), CLEO))


def test_a_removal_that_a_void_record_tells_is_none() -> None:
    """Its victim goes on, also with that record in its past."""
    void = sealed(removing(JOINED, ANNA.id, hybrid=HybridTime(1)), BERT)
    store = store_of(FIRST, ADMISSION, JOINED, void)
    store.take(sealed(setting(ADMISSION, after=(void.id,), hybrid=HybridTime(JOINED.envelope.hybrid + 2)), ANNA))
    assert store.values(BANNER) == ['"x"']


def test_time_can_reach_its_end_and_the_feed_goes_on() -> None:
    """Where the calendar is used up, everybody counts on: nobody is locked out by a clock that was set wrong."""
    end = sealed(setting(JOINED, '"end"', hybrid=HYBRID_MAX), BERT)
    after = sealed(setting(end, '"after"', end.id, hybrid=HybridTime(HYBRID_MAX + 1)), BERT)
    store = store_of(FIRST, ADMISSION, JOINED, end, after)
    assert store.values(BANNER) == ['"after"']
    store.restart()
    last = sealed(setting(after, '"last"', after.id, hybrid=HybridTime(HYBRID_MAX + 2)), BERT)
    store.take(last)
    assert store.values(BANNER) == ['"last"']


@pytest.mark.parametrize("hybrid", [HYBRID_MAX, HYBRID_MAX + 2, 2**63 - 1])
def test_beyond_the_end_of_time_there_are_no_leaps(hybrid: int) -> None:
    """Or a second record could stop the clock for good; nor may it stand still."""
    end = sealed(setting(JOINED, '"end"', hybrid=HYBRID_MAX), BERT)
    leap = sealed(setting(end, '"leap"', end.id, hybrid=HybridTime(hybrid)), BERT)
    store = store_of(FIRST, ADMISSION, JOINED, end, leap)
    assert store.void(leap)
    assert store.values(BANNER) == ['"end"']


@pytest.mark.parametrize("again", [False, True])
def test_a_void_record_tells_no_time(*, again: bool) -> None:
    """However late it says it is, whoever comes after it goes by the other records, also after a restart."""
    leap = sealed(setting(JOINED, hybrid=HybridTime(2**63 - 1)), BERT)
    store = store_of(FIRST, ADMISSION, JOINED, leap)
    if again:
        store.restart()
    after = sealed(setting(leap, '"after"', hybrid=HybridTime(JOINED.envelope.hybrid + 1)), BERT)
    store.take(after)
    assert store.void(leap)
    assert not store.void(after)
    assert store.state.hybrid == after.envelope.hybrid
