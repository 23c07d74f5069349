"""What a level keeps, copied to another one, moved there, or deleted: the event, the refusals, and what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core import commands, settings
from cluster_store.core.registers import CLUSTER, Secret, machine_level
from cluster_store.core.types import Path
from tests.core.builders import identity
from tests.core.desk import SALT, Desk, card

MX = identity("mx")
OTHER_SALT = b"fedcba9876543210"
LEVELS = ("cluster", "group:Paris", "group:Main_Group", "machine:mx")


@pytest.fixture
def desk() -> Desk:
    """The desk of a machine in the group Main_Group; Paris is empty."""
    return founded()


def founded() -> Desk:
    """Return it."""
    made = Desk("mx")
    made.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    made.do(commands.CreateCluster(name="ships", salt=SALT))
    made.do(commands.AddGroup(name="Paris"))
    return made


def copy(*keys: str, level: str | None = None, target: str | None = None, salt: bytes = SALT) -> commands.CopySettings:
    """Return the command that copies."""
    return commands.CopySettings(keys=keys, level=level, target=target, salt=salt)


def move(*keys: str, level: str | None = None, target: str | None = None) -> commands.MoveSettings:
    """Return the command that moves."""
    return commands.MoveSettings(keys=keys, level=level, target=target, salt=SALT)


def delete(*keys: str, level: str | None = None) -> commands.DeleteSettings:
    """Return the command that deletes."""
    return commands.DeleteSettings(keys=keys, level=level)


def kept(desk: Desk, level: str) -> dict[str, object]:
    """Return what a level keeps."""
    found = settings.settings_at(desk.registers, desk.cluster.level(level))
    return {key: value.value for key, value in found.items()}


def add(desk: Desk, level: str, *elements: str) -> None:
    """Add elements to the set ``relay``."""
    desk.do(commands.AddElements(key="relay", elements=elements, level=level))


# --- plain values -----------------------------------------------------------------------------------------


def test_a_copy_is_one_event_and_independent_of_its_source(desk: Desk) -> None:
    """What the source says later is not the copy's business."""
    desk.set("a", "1")
    desk.set("b", "2")
    decision = desk.decide(copy("b", "a", target="group:Paris"))
    assert decision.result == {"from": "cluster", "to": "group:Paris", "keys": ["a", "b"]}
    event = desk.do(copy("b", "a", target="group:Paris"))
    assert event is not None
    assert (event.kind, event.params) == ("SettingsCopied", {"from": "cluster", "to": "group:Paris", "keys": 2})
    desk.set("a", "9")
    assert kept(desk, "group:Paris") == {"a": "1", "b": "2"}


def test_a_move_blanks_its_source(desk: Desk) -> None:
    """In the same event: there is no moment at which both or neither say it."""
    desk.set("a", "1")
    event = desk.do(move("a", target="machine:mx"))
    assert event is not None
    assert [(one.path, one.value) for one in event.writes] == [
        (f"setting/{machine_level(MX.id)}/a", "1"),
        ("setting/cluster/a", None),
    ]
    assert kept(desk, "cluster") == {}
    assert kept(desk, "machine:mx") == {"a": "1"}


def test_a_move_to_where_it_is_said_already_only_blanks_its_source(desk: Desk) -> None:
    """And a copy changes nothing then."""
    desk.set("a", "1")
    desk.do(copy("a", target="group:Paris"))
    assert desk.do(copy("a", target="group:Paris")) is None
    event = desk.do(move("a", target="group:Paris"))
    assert event is not None
    assert [one.path for one in event.writes] == ["setting/cluster/a"]


def test_what_a_level_says_is_deleted_in_one_event(desk: Desk) -> None:
    """Plain values and sets alike."""
    desk.set("a", "1", "group:Paris")
    add(desk, "group:Paris", "1")
    event = desk.do(delete("a", "relay", level="group:Paris"))
    assert event is not None
    assert (event.kind, len(event.writes)) == ("SettingsDeleted", 2)
    assert kept(desk, "group:Paris") == {}


def test_all_keys_under_one_are_meant_by_a_dot(desk: Desk) -> None:
    """A key cannot end with one, so it is no key's own name."""
    for key in ("smtp.port", "smtp.banner", "smtpd", "relay.host"):
        desk.set(key, "1")
    desk.set("smtp.gone", "1")
    desk.do(commands.UnsetSetting(key="smtp.gone"))
    desk.do(move("smtp.", "relay.host", target="group:Paris"))
    assert list(kept(desk, "group:Paris")) == ["relay.host", "smtp.banner", "smtp.port"]
    assert list(kept(desk, "cluster")) == ["smtpd"]


# --- secrets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [copy("password", target="group:Paris", salt=OTHER_SALT)])
def test_a_secret_goes_as_a_secret_under_another_salt(desk: Desk, command: commands.Command) -> None:
    """Nobody can see from the log that the two are the same."""
    desk.set("password", '"hush"', secret=True)
    event = desk.do(command)
    assert event is not None
    (write,) = event.writes
    assert isinstance(write.value, Secret)
    (before,) = desk.registers.standing(Path("setting/cluster/password"))
    assert before.value != write.value
    assert event.secrets[write.path][1] == '"hush"'


def test_a_secret_whose_value_is_not_here_cannot_be_copied(desk: Desk) -> None:
    """It never came, or was erased."""
    desk.registers.put("setting/cluster/password", Secret("0" * 64))
    assert desk.refusal(copy("password", target="group:Paris")).startswith(
        "the value of the secret password is not on this machine\n"
    )


# --- sets ----------------------------------------------------------------------------------------------------


def test_a_set_goes_with_what_it_knocks_out(desk: Desk) -> None:
    """The target says what the source says, no more; elements that it had of its own go."""
    add(desk, "cluster", "1", "2")
    add(desk, "group:Main_Group", "3")
    desk.do(commands.RemoveElements(key="relay", elements=("1",), level="group:Main_Group"))
    add(desk, "group:Paris", "9")
    desk.do(copy("relay", level="group:Main_Group", target="group:Paris"))
    told = settings.own_elements(desk.registers, desk.cluster.level("group:Paris"), "relay")
    assert {element: there for element, (there, _) in told.items()} == {"1": False, "3": True}
    desk.do(move("relay", level="group:Paris", target="machine:mx"))
    assert settings.own_elements(desk.registers, desk.cluster.level("group:Paris"), "relay") == {}


def test_the_cluster_knocks_nothing_out(desk: Desk) -> None:
    """It inherits from nobody."""
    add(desk, "cluster", "1")
    desk.do(commands.RemoveElements(key="relay", elements=("1",), level="group:Main_Group"))
    add(desk, "group:Main_Group", "2")
    desk.do(move("relay", level="group:Main_Group", target="cluster"))
    assert kept(desk, "cluster") == {"relay": "[2]"}


# --- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (copy("a"), "cluster is where they are to come from and to go to\nname two levels, with --from and --to"),
        (copy(target="group:Paris"), "no key was named\nname at least one, or all under one, as in 'smtp.'"),
        (copy("b", target="group:Paris"), "b is not set at cluster\n'clustershow b' shows at which levels it is"),
        (move("a", "b", target="group:Paris"), "b is not set at cluster\n"),
        (copy("b.", target="group:Paris"), "nothing under b. is set at cluster\n'clustershow b.' shows"),
        (delete("b", level="group:Paris"), "b is not set at group:Paris\n"),
        (copy("a", target="group:Rome"), "there is no group named 'Rome'\n"),
        (copy("a", level="group:Rome"), "there is no group named 'Rome'\n"),
        (copy("a", target="Paris"), "'Paris' is no level\na level is cluster, group:NAME or machine:NAME"),
        (copy("a..b", target="group:Paris"), "the key 'a..b' has an empty part\n"),
        (copy(".", target="group:Paris"), "a key is empty\n"),
    ],
)
def test_what_cannot_be_is_refused(desk: Desk, command: commands.Command, words: str) -> None:
    """With what is wrong, and what to do; of several keys none is touched."""
    desk.set("a", "1")
    assert desk.refusal(command).startswith(words)


def test_a_default_level_that_would_show_no_effect_is_refused(desk: Desk) -> None:
    """Deleting the cluster's value changes nothing here where a more specific one stands over it."""
    desk.set("a", "1")
    desk.set("a", "2", "machine:mx")
    assert desk.refusal(delete("a")) == (
        "a is set at machine:mx for this machine, which hides the cluster's value here\n"
        "say which level you mean: --from machine:mx or --from cluster"
    )
    assert desk.do(delete("a", level="cluster")) is not None


def test_a_machine_that_stands_alone_has_one_level() -> None:
    """Nothing can be copied or moved there; its own settings can be deleted."""
    alone = Desk("mx")
    alone.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    alone.set("a", "1")
    assert alone.refusal(copy("a", target="machine:mx")).startswith("this machine is not in a cluster\n")
    assert alone.do(delete("a")) is not None
    assert alone.values() == {}


# --- properties -------------------------------------------------------------------------------------------------

STEP = st.tuples(st.sampled_from(LEVELS), st.sampled_from(("a", "b", "relay")), st.integers(0, 3))


def said(desk: Desk, level: str) -> dict[str, Any]:
    """Return what a level keeps, a set with what it knocks out."""
    where = desk.cluster.level(level)
    own = settings.own_elements(desk.registers, where, "relay")
    elements = {element: there for element, (there, _) in own.items() if there or where != CLUSTER}
    return {**kept(desk, level), "relay": elements}


@given(
    steps=st.lists(STEP, max_size=10),
    source=st.sampled_from(LEVELS),
    target=st.sampled_from(LEVELS),
    command=st.sampled_from((copy, move)),
)
def test_the_target_says_what_the_source_said(
    steps: list[tuple[str, str, int]], source: str, target: str, command: Callable[..., commands.Command]
) -> None:
    """Whatever is kept where: after a copy both levels say the same of the keys, after a move the source nothing."""
    desk = founded()
    add(desk, "cluster", "0")
    for level, key, value in steps:
        if key == "relay":
            add(desk, level, str(value))
        else:
            desk.set(key, str(value), level)
    before, others = said(desk, source), {level: said(desk, level) for level in LEVELS if level not in (source, target)}
    keys = [key for key in ("a", "b", "relay") if settings.is_kept(desk.registers, desk.cluster.level(source), key)]
    if source == target or not keys:
        return
    desk.do(command(*keys, level=source, target=target))
    after = said(desk, target)
    assert {key: after.get(key) for key in keys} == {key: before[key] for key in keys}
    assert said(desk, source) == ({"relay": {}} if command is move else before)
    assert {level: said(desk, level) for level in others} == others
