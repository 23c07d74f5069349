"""Drafts: what commands come to that wait together, what was changed under them, and the one event that they become."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core import commands, decide_commit
from cluster_store.core.commands import CommitConfig, SettingCommand, Staged
from cluster_store.core.decide_commit import Preview
from cluster_store.core.decision import Context
from cluster_store.core.errors import ClusterStoreError, OverLimit, Refused
from cluster_store.core.registers import Secret
from cluster_store.core.types import Epoch, Path
from tests.core.desk import SALT, Desk, card

LEVELS = ("cluster", "group:Paris", "machine:mx")


def founded() -> Desk:
    """Return the desk of a machine in a cluster with the group Paris beside its own."""
    made = Desk("mx")
    made.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    made.do(commands.CreateCluster(name="ships", salt=SALT))
    made.do(commands.AddGroup(name="Paris"))
    return made


@pytest.fixture
def desk() -> Desk:
    """It."""
    return founded()


def context_of(desk: Desk) -> Context:
    """Return what a decision depends on."""
    return Context(desk.registers, desk.cluster, desk.me, "os:root", desk.now, Epoch("e" * 16))


def stage(desk: Desk, draft: Sequence[Staged], *given: commands.Command) -> tuple[Staged, ...]:
    """Return a draft with more commands; those that change nothing are left out."""
    kept = tuple(draft)
    for command in given:
        staged, _ = decide_commit.stage(kept, command, context_of(desk))
        kept += (staged,) if staged is not None else ()
    return kept


def preview(desk: Desk, draft: Sequence[Staged]) -> Preview:
    """Return what a draft comes to now."""
    return decide_commit.preview(draft, context_of(desk))


def set_to(key: str, value: str, level: str = "cluster", *, secret: bool = False) -> commands.SetSetting:
    """Return the command that sets a key to a JSON text."""
    return commands.SetSetting(key=key, value=value, level=level, secret=secret, salt=SALT)


def unset(key: str, level: str = "cluster") -> commands.UnsetSetting:
    """Return the command that unsets a key."""
    return commands.UnsetSetting(key=key, level=level)


def said(desk: Desk) -> dict[Path, list[str]]:
    """Return what every register of settings says; those that say nothing are left out."""
    found = {}
    for path, lanes in desk.registers.under(""):
        values = sorted({str(lane.text or lane.value) for lane in lanes if lane.value is not None})
        if values and path.startswith(("setting/", "element/", "kind/")):
            found[path] = values
    return found


# --- a draft is what its commands are ----------------------------------------------------------------

_KEYS = st.sampled_from(("a", "b", "relay", "pw"))
_LEVEL = st.sampled_from(LEVELS)
_ELEMENTS = st.lists(st.sampled_from(('"x"', '"y"', '"z"')), min_size=1, max_size=2, unique=True).map(tuple)
_COMMANDS: st.SearchStrategy[SettingCommand] = st.one_of(
    st.builds(
        commands.SetSetting,
        key=_KEYS,
        value=st.sampled_from(("1", "2", '["x"]', '["x","y"]')),
        level=_LEVEL | st.none(),
        secret=st.booleans(),
        salt=st.just(SALT),
    ),
    st.builds(commands.UnsetSetting, key=_KEYS, level=_LEVEL),
    st.builds(commands.AddElements, key=_KEYS, elements=_ELEMENTS, level=_LEVEL),
    st.builds(commands.RemoveElements, key=_KEYS, elements=_ELEMENTS, level=_LEVEL),
    st.builds(
        commands.LoadConfig,
        settings=st.dictionaries(_KEYS, st.sampled_from(("3", '["z"]')), min_size=1),
        source=st.just("file"),
        level=_LEVEL,
        salt=st.just(SALT),
    ),
    st.builds(
        commands.CopySettings, keys=_KEYS.map(lambda key: (key,)), level=_LEVEL, target=_LEVEL, salt=st.just(SALT)
    ),
    st.builds(
        commands.MoveSettings, keys=_KEYS.map(lambda key: (key,)), level=_LEVEL, target=_LEVEL, salt=st.just(SALT)
    ),
    st.builds(commands.DeleteSettings, keys=_KEYS.map(lambda key: (key,)), level=_LEVEL),
)
_LISTS = st.lists(_COMMANDS, max_size=6)


def prepared(before: Sequence[commands.Command], conflict: bool) -> Desk:  # noqa: FBT001 - one of hypothesis's draws
    """Return a desk with a history, and with two values of one key where a conflict is wanted."""
    made = founded()
    for command in before:
        with suppress(ClusterStoreError):
            made.do(command)
    if conflict:
        made.registers.put("setting/cluster/a", '"one"', made.now, "c1" * 32)
        made.registers.put("setting/cluster/a", '"other"', made.now, "c2" * 32)
    return made


@given(_LISTS, _LISTS, st.booleans())
def test_a_commit_is_its_commands_one_by_one(
    before: list[commands.Command],
    given: list[commands.Command],
    conflict: bool,  # noqa: FBT001
) -> None:
    """The registers say the same after the one event as after one for each command, and refused is the same."""
    draft: tuple[Staged, ...] = ()
    staging, twin = prepared(before, conflict), prepared(before, conflict)
    for command in given:
        with suppress(ClusterStoreError):
            draft = stage(staging, draft, command)
        with suppress(ClusterStoreError):
            twin.do(command)
    found = preview(staging, draft)
    assert (found.changed, found.refused) == ((), ())
    staging.do(CommitConfig(staged=draft))
    assert said(staging) == said(twin)


@given(_LISTS, _LISTS, _LISTS)
def test_nothing_that_changed_under_a_draft_is_overwritten_unseen(
    before: list[commands.Command], given: list[commands.Command], others: list[commands.Command]
) -> None:
    """Whatever says neither what it said nor what is staged is named; looked at, it can be committed, and once only."""
    desk = prepared(before, conflict=False)
    draft: tuple[Staged, ...] = ()
    for command in given:
        with suppress(ClusterStoreError):
            draft = stage(desk, draft, command)
    stood = said(desk)
    for command in others:
        with suppress(ClusterStoreError):
            desk.do(command)
    stands = said(desk)
    found = preview(desk, draft)
    named = {one.path for one in found.changed}
    for path, wanted in {seen.path: seen.becomes for one in draft for seen in one.seen}.items():
        there = stands.get(path, [])
        if there != stood.get(path, []) and not isinstance(wanted, Secret):
            assert path in named or found.refused or there == ([] if wanted in (None, False) else [str(wanted)])
    if found.refused:
        return
    desk.do(CommitConfig(staged=found.renewed))
    assert preview(desk, found.renewed).event is None


# --- changed under the draft -------------------------------------------------------------------------


def test_the_three_values_are_told_and_refused(desk: Desk) -> None:
    """What stood, what stands, what was staged; with what stands now accepted it goes on."""
    desk.set("a", "1", "cluster")
    draft = stage(desk, (), set_to("a", "2"), set_to("b", "2"))
    desk.set("a", "3", "cluster")
    found = preview(desk, draft)
    (changed,) = found.changed
    assert (changed.path, changed.stood, changed.staged, changed.becomes) == ("setting/cluster/a", ("1",), "2", "2")
    assert [lane.value for lane in changed.stands] == ["3"]
    told = desk.refusal(CommitConfig(staged=draft))
    assert told.startswith("a at cluster was changed since it was staged\n")
    event = desk.do(CommitConfig(staged=found.renewed))
    assert event is not None
    assert (event.kind, event.params, len(event.writes)) == ("ConfigCommitted", {"commands": 2}, 2)
    assert desk.values() == {"a": "2", "b": "2"}


def test_what_was_looked_at_is_not_what_came_after(desk: Desk) -> None:
    """Whoever accepts a change has not accepted the next one."""
    draft = stage(desk, (), set_to("a", "2"))
    desk.set("a", "3", "cluster")
    renewed = preview(desk, draft).renewed
    desk.set("a", "4", "cluster")
    assert "was changed since it was staged" in desk.refusal(CommitConfig(staged=renewed))


def test_the_same_elsewhere_is_no_matter(desk: Desk) -> None:
    """Set to the same value, unset as well, or changed and changed back: nobody has to be asked."""
    desk.set("a", "1", "cluster")
    desk.set("b", "1", "cluster")
    desk.set("c", "1", "cluster")
    draft = stage(desk, (), set_to("a", "2"), unset("b"), set_to("c", "2"))
    desk.set("a", "2", "cluster")
    desk.do(unset("b"))
    desk.set("c", "9", "cluster")
    desk.set("c", "1", "cluster")
    found = preview(desk, draft)
    assert (found.changed, found.refused) == ((), ())
    event = desk.do(CommitConfig(staged=draft))
    assert event is not None
    assert [write.path for write in event.writes] == ["setting/cluster/c"]


def test_a_conflict_that_came_by_merging_is_a_change(desk: Desk) -> None:
    """A value beside the one that stood was not there when the change was staged."""
    desk.set("a", "1", "cluster")
    draft = stage(desk, (), set_to("a", "2"))
    desk.registers.put("setting/cluster/a", "7", 1, "77" * 32)
    (changed,) = preview(desk, draft).changed
    assert sorted(str(lane.value) for lane in changed.stands) == ["1", "7"]


def test_what_a_copy_is_made_of_is_under_the_draft_too(desk: Desk) -> None:
    """Where its source says something else now, the copy would be another one than was staged."""
    desk.set("a", "1", "cluster")
    draft = stage(desk, (), commands.CopySettings(keys=("a",), target="group:Paris", salt=SALT))
    desk.set("a", "2", "cluster")
    (changed,) = preview(desk, draft).changed
    assert (changed.stood, changed.stands, changed.staged, changed.becomes) == ((), (), "1", "2")


def test_a_command_that_comes_to_nothing_by_now_is_shown_and_left_out(desk: Desk) -> None:
    """Where others have left a copy nothing to do, the value is not what was staged: that can be accepted."""
    desk.set("a", "1", "cluster")
    draft = stage(desk, (), commands.CopySettings(keys=("a",), target="group:Paris", salt=SALT), set_to("b", "1"))
    desk.set("a", "2", "cluster")
    desk.set("a", "2", "group:Paris")
    found = preview(desk, draft)
    assert [(one.staged, [lane.value for lane in one.stands]) for one in found.changed] == [("1", ["2"])]
    event = desk.do(CommitConfig(staged=found.renewed))
    assert event is not None
    assert [write.path for write in event.writes] == ["setting/cluster/b"]


def test_what_is_staged_again_was_staged_on_what_stood_then(desk: Desk) -> None:
    """Whoever sees another's value and stages a new one has decided."""
    desk.set("a", "1", "cluster")
    draft = stage(desk, (), set_to("a", "2"))
    desk.set("a", "3", "cluster")
    assert preview(desk, stage(desk, draft, set_to("a", "4"))).changed == ()


# --- committed, and once more ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        (set_to("a", "2"), set_to("new", "1")),
        (unset("a"),),
        (commands.MoveSettings(keys=("a",), level="cluster", target="group:Paris", salt=SALT), set_to("a", "5")),
        (
            commands.AddElements(key="relay", elements=('"x"', '"y"')),
            commands.RemoveElements(key="relay", elements=('"x"',)),
        ),
        (set_to("pw", '"hush"', secret=True),),
        (commands.DeleteSettings(keys=("a",), level="cluster"), set_to("b", "1")),
    ],
    ids=["set", "unset", "moved and set", "set-valued", "secret", "deleted"],
)
def test_a_draft_that_was_committed_comes_to_nothing(desk: Desk, given: tuple[commands.Command, ...]) -> None:
    """So a commit whose draft outlived it, because the process ended in between, is not made twice."""
    desk.set("a", "1", "cluster")
    draft = stage(desk, (), *given)
    assert desk.do(CommitConfig(staged=draft)) is not None
    found = preview(desk, draft)
    assert (found.event, found.changed, found.refused) == (None, (), ())
    assert desk.do(CommitConfig(staged=draft)) is None


def test_there_and_back_again_is_nothing(desk: Desk) -> None:
    """Only what differs in the end is written."""
    desk.set("a", "1", "cluster")
    draft = stage(desk, (), set_to("a", "2"), set_to("b", "1"), set_to("a", "1"), unset("b"))
    assert len(draft) == 4
    assert desk.do(CommitConfig(staged=draft)) is None


# --- what it is about stays --------------------------------------------------------------------------


def test_a_level_is_the_same_one_under_another_name(desk: Desk) -> None:
    """A group that was renamed meanwhile is meant, and not one that was added under its name."""
    draft = stage(desk, (), set_to("a", "1", "group:Paris"))
    desk.do(commands.RenameGroup(group="Paris", name="Lyon"))
    desk.do(commands.AddGroup(name="Paris"))
    desk.do(CommitConfig(staged=draft))
    (path,) = (path for path in said(desk) if path.startswith("setting/"))
    assert desk.cluster.show_level(desk.cluster.level("group:Lyon")) == "group:Lyon"
    assert path == f"setting/{desk.cluster.level('group:Lyon')}/a"


def test_a_command_that_cannot_be_carried_out_any_more_is_named(desk: Desk) -> None:
    """The rest of the draft does not go without it."""
    draft = stage(desk, (), commands.AddElements(key="relay", elements=('"x"',)), set_to("b", "1"))
    desk.set("relay", "1", "cluster")
    ((staged, error),) = preview(desk, draft).refused
    assert isinstance(staged.command, commands.AddElements)
    assert "plain value" in error.message
    assert desk.refusal(CommitConfig(staged=draft)).startswith(
        "a staged change cannot be made any more: relay has a plain"
    )


def test_what_became_secret_meanwhile_stays_secret(desk: Desk) -> None:
    """Its text is beside the event, and not in it, also where it was staged in the open."""
    draft = stage(desk, (), set_to("pw", '"open"'))
    desk.set("pw", '"hush"', "cluster", secret=True)
    event = desk.do(CommitConfig(staged=preview(desk, draft).renewed))
    assert event is not None
    assert isinstance(event.writes[0].value, Secret)
    assert event.secrets[event.writes[0].path][1] == '"open"'


# --- what can wait -----------------------------------------------------------------------------------


def test_only_changes_of_settings_can_wait(desk: Desk) -> None:
    """Groups, machines and users are changed at once."""
    with pytest.raises(Refused, match="only changes of settings"):
        stage(desk, (), commands.AddGroup(name="Rome"))


def test_a_draft_is_never_more_than_one_event_may_be(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused when it is staged, and not when it is committed."""
    monkeypatch.setattr(decide_commit, "WRITES_PER_EVENT_MAX", 1)
    draft = stage(desk, (), set_to("a", "1"))
    with pytest.raises(OverLimit, match="2 settings"):
        stage(desk, draft, set_to("b", "1"))
    assert len(stage(desk, draft, set_to("a", "2"))) == 2


def test_what_is_staged_is_refused_as_it_would_be(desk: Desk) -> None:
    """Decided on top of the draft: an unset of what is only staged works, one of nothing does not."""
    draft = stage(desk, (), set_to("a", "1"))
    assert len(stage(desk, draft, unset("a"))) == 2
    with pytest.raises(Refused, match="b is not set"):
        stage(desk, draft, unset("b"))
