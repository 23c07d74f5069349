"""Each command on settings: the event that it comes to, its refusals, and when nothing changes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cluster_store.core import commands
from cluster_store.core.events import Event
from cluster_store.core.registers import Secret
from cluster_store.core.types import Path
from tests.core.builders import identity
from tests.core.desk import SALT, Desk, card

MX, EDGE = identity("mx"), identity("edge")


@pytest.fixture
def desk() -> Desk:
    """The desk of a machine in the group Main_Group, in a cluster with another one in Paris."""
    made = Desk("mx")
    made.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    made.do(commands.CreateCluster(name="ships", salt=SALT))
    made.do(commands.AddGroup(name="Paris"))
    made.do(commands.AdmitMachine(card=card("edge"), group="Paris"))
    return made


def written(event: Event | None) -> list[tuple[str, Any, int]]:
    """Return the paths, values and numbers of replaced lanes of an event's writes."""
    assert event is not None
    return [(one.path, one.value, len(one.replaced)) for one in event.writes]


# --- plain values ----------------------------------------------------------------------------------------


def test_setting_a_value_replaces_what_stands(desk: Desk) -> None:
    """One write, which takes all lanes of the register away that were seen."""
    assert written(desk.set("banner", '"a"')) == [("setting/cluster/banner", '"a"', 0)]
    desk.registers.put("setting/cluster/banner", '"other"', 5)
    event = desk.set("banner", '"b"')
    assert event is not None
    assert event.kind == "SettingSet"
    assert written(event) == [("setting/cluster/banner", '"b"', 2)]


def test_setting_what_is_set_changes_nothing(desk: Desk) -> None:
    """No event, and the answer says at which level it looked."""
    desk.set("banner", '"a"')
    decision = desk.decide(commands.SetSetting(key="banner", value='"a"', salt=SALT))
    assert (decision.event, decision.result) == (None, {"level": "cluster", "writes": 0})


def test_setting_what_won_settles_a_conflict(desk: Desk) -> None:
    """Where two lanes stand, saying what the winner says is a change: it takes the loser away."""
    desk.set("banner", '"a"')
    desk.registers.put("setting/cluster/banner", '"b"', 10**18)
    assert written(desk.set("banner", '"b"')) == [("setting/cluster/banner", '"b"', 2)]


@pytest.mark.parametrize(
    ("level", "path"),
    [
        (None, "setting/cluster/a"),
        ("cluster", "setting/cluster/a"),
        ("group:Paris", "setting/group/paris/a"),
        ("machine:edge", f"setting/machine/{EDGE.id}/a"),
    ],
)
def test_a_value_goes_to_its_level(desk: Desk, level: str | None, path: str) -> None:
    """Without one, the cluster's."""
    assert written(desk.set("a", "1", level)) == [(path, "1", 0)]


def test_a_standalone_machine_sets_its_own_level() -> None:
    """There is no other, and the answer says so."""
    alone = Desk("mx")
    alone.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    assert written(alone.set("a", "1")) == [(f"setting/machine/{MX.id}/a", "1", 0)]
    assert alone.decide(commands.UnsetSetting(key="a")).result["level"] == "machine:mx"
    assert "not in a cluster" in alone.refusal(commands.SetSetting(key="a", value="1", level="cluster", salt=SALT))


@pytest.mark.parametrize("level", ["machine:mx", "group:Main_Group"])
def test_a_default_level_that_would_show_no_effect_is_refused(desk: Desk, level: str) -> None:
    """A more specific value hides the cluster's on this machine; both levels are named."""
    desk.set("a", "1", level)
    answer = desk.refusal(commands.SetSetting(key="a", value="2", salt=SALT))
    assert answer == (
        f"a is set at {level} for this machine, which hides the cluster's value here\n"
        f"say which level you mean: --level {level} or --level cluster"
    )
    assert desk.set("a", "2", "cluster") is not None


def test_another_machines_level_hides_nothing_here(desk: Desk) -> None:
    """Only the levels that this machine inherits from count."""
    desk.set("a", "1", "machine:edge")
    desk.set("a", "1", "group:Paris")
    assert desk.set("a", "2") is not None


@pytest.mark.parametrize("key", ["", ".", "a..b", " a", "a.", "a\u200bb", "x" * 600])
def test_a_key_that_could_not_be_told_is_refused(desk: Desk, key: str) -> None:
    """Whatever the command."""
    for command in (
        commands.SetSetting(key=key, value="1", salt=SALT),
        commands.UnsetSetting(key=key),
        commands.AddElements(key=key, elements=("1",)),
        commands.RemoveElements(key=key, elements=("1",)),
        commands.LoadConfig(settings={key: "1"}, source="f", salt=SALT),
    ):
        assert "key" in desk.refusal(command)


def test_unsetting_leaves_a_lane_that_says_so(desk: Desk) -> None:
    """It is a write like any other, so it can collide and win."""
    desk.set("a", "1")
    assert written(desk.do(commands.UnsetSetting(key="a"))) == [("setting/cluster/a", None, 1)]
    assert desk.refusal(commands.UnsetSetting(key="a")) == (
        "a is not set at cluster\n'explain a' shows where its value comes from"
    )


def test_unsetting_settles_a_conflict_that_unset_won(desk: Desk) -> None:
    """A value that stands beside "unset" can be taken away although the key counts as unset."""
    desk.set("a", "1")
    desk.registers.put("setting/cluster/a", None, 10**18)
    assert written(desk.do(commands.UnsetSetting(key="a"))) == [("setting/cluster/a", None, 2)]


def test_only_what_is_set_at_the_level_can_be_unset(desk: Desk) -> None:
    """An inherited value is unset where it is set."""
    desk.set("a", "1")
    answer = desk.refusal(commands.UnsetSetting(key="a", level="machine:mx"))
    assert answer.startswith("a is not set at machine:mx\n")


# --- secrets ------------------------------------------------------------------------------------------------


def test_a_secret_is_written_as_a_hash(desk: Desk) -> None:
    """Its text is beside the event, and no two secrets of one command share a salt."""
    event = desk.set("password", '"hush"', secret=True)
    assert event is not None
    (write,) = event.writes
    assert isinstance(write.value, Secret)
    salt, text = event.secrets[write.path]
    assert (len(salt), text) == (16, '"hush"')
    assert salt != SALT
    assert b"hush" not in msgspec.json.encode(event.writes)


def test_a_secret_stays_secret(desk: Desk) -> None:
    """A new value of a secret register is secret without saying so; the same value changes nothing."""
    desk.set("password", '"hush"', secret=True)
    assert desk.set("password", '"hush"') is None
    event = desk.set("password", '"more"')
    assert event is not None
    assert isinstance(event.writes[0].value, Secret)
    loaded = desk.do(commands.LoadConfig(settings={"password": '"file"', "x": "1"}, source="f", salt=SALT))
    assert loaded is not None
    assert [isinstance(one.value, Secret) for one in loaded.writes] == [True, False]


def test_a_plain_value_becomes_secret_on_request(desk: Desk) -> None:
    """Even if it stays the same."""
    desk.set("password", '"hush"')
    assert desk.set("password", '"hush"', secret=True) is not None


def test_a_set_cannot_be_secret(desk: Desk) -> None:
    """Elements stand in paths, which everybody reads: a secret given to a set is refused, not shown."""
    desk.do(commands.AddElements(key="relay", elements=("1",)))
    answer = desk.refusal(commands.SetSetting(key="relay", value='["hush"]', secret=True, salt=SALT))
    assert answer == "relay is a set of values, which cannot be secret\nuse another key for the secret"


# --- files ---------------------------------------------------------------------------------------------------


def test_a_file_is_one_event(desk: Desk) -> None:
    """Its writes are sorted by key, and only what differs is written."""
    desk.set("b", "2")
    event = desk.do(commands.LoadConfig(settings={"c": "3", "b": "2", "a": "1"}, source="main.cf", salt=SALT))
    assert event is not None
    assert (event.kind, event.params) == ("ConfigLoaded", {"source": "main.cf", "keys": 3})
    assert [one.path for one in event.writes] == ["setting/cluster/a", "setting/cluster/c"]
    again = desk.decide(commands.LoadConfig(settings={"a": "1"}, source="main.cf", salt=SALT))
    assert (again.event, again.result) == (None, {"level": "cluster", "writes": 0})


def test_an_empty_file_is_refused(desk: Desk) -> None:
    """It is a mistake rather than a wish."""
    answer = desk.refusal(commands.LoadConfig(settings={}, source="main.cf", salt=SALT))
    assert answer == "main.cf has no settings\ngive a file with at least one"


def test_one_bad_key_refuses_a_file(desk: Desk) -> None:
    """All or nothing; so does one key that is hidden on this machine."""
    assert "empty part" in desk.refusal(commands.LoadConfig(settings={"a": "1", "b..c": "2"}, source="f", salt=SALT))
    desk.set("b", "1", "machine:mx")
    answer = desk.refusal(commands.LoadConfig(settings={"a": "1", "b": "2"}, source="f", salt=SALT))
    assert "b is set at machine:mx" in answer


# --- sets ----------------------------------------------------------------------------------------------------


def test_adding_makes_a_key_a_set(desk: Desk) -> None:
    """The first addition says so; each element is a register of its own, named once."""
    event = desk.do(commands.AddElements(key="relay", elements=('"b"', "1", '"b"')))
    assert event is not None
    assert event.kind == "ElementsAdded"
    assert written(event) == [
        ("kind/relay", '"set"', 0),
        ("element/cluster/relay/%22b%22", "true", 0),
        ("element/cluster/relay/1", "true", 0),
    ]
    more = desk.do(commands.AddElements(key="relay", elements=("2", "1")))
    assert written(more) == [("element/cluster/relay/2", "true", 0)]
    assert desk.values()["relay"] == '["b",1,2]'


def test_adding_what_is_there_changes_nothing(desk: Desk) -> None:
    """Unless somebody else knocked it out at the same time: then adding it again settles that."""
    desk.do(commands.AddElements(key="relay", elements=("1",)))
    assert desk.do(commands.AddElements(key="relay", elements=("1",))) is None
    desk.registers.put("element/cluster/relay/1", "false", 10**18)
    assert written(desk.do(commands.AddElements(key="relay", elements=("1",)))) == [
        ("element/cluster/relay/1", "true", 2)
    ]


@pytest.mark.parametrize("level", ["cluster", "group:Main_Group", "machine:mx"])
def test_adding_to_a_plain_value_is_refused(desk: Desk, level: str) -> None:
    """Wherever it is set that this machine can see."""
    desk.set("relay", '"x"', level)
    assert desk.refusal(commands.AddElements(key="relay", elements=("1",), level="cluster")) == (
        f"relay has a plain value at {level}, so nothing can be added to it\n'unset relay' first, or use 'set'"
    )


def test_a_sets_default_level_is_the_clusters_even_where_a_machine_has_elements(desk: Desk) -> None:
    """Elements of all levels add up: nothing is hidden."""
    desk.do(commands.AddElements(key="relay", elements=("1",), level="machine:mx"))
    desk.do(commands.AddElements(key="relay", elements=("2",)))
    assert desk.values()["relay"] == "[1,2]"


def test_removing_an_own_element_takes_its_lanes_away(desk: Desk) -> None:
    """Nothing is left that could win over a later addition."""
    desk.do(commands.AddElements(key="relay", elements=("1", "2")))
    event = desk.do(commands.RemoveElements(key="relay", elements=("1", "1")))
    assert event is not None
    assert event.kind == "ElementsRemoved"
    assert written(event) == [("element/cluster/relay/1", False, 1)]
    assert desk.values()["relay"] == "[2]"


def test_removing_an_inherited_element_knocks_it_out(desk: Desk) -> None:
    """At the more specific level it is gone, elsewhere it stays; doing it twice changes nothing."""
    desk.do(commands.AddElements(key="relay", elements=("1", "2")))
    gone = commands.RemoveElements(key="relay", elements=("1",), level="machine:mx")
    assert written(desk.do(gone)) == [(f"element/machine/{MX.id}/relay/1", "false", 0)]
    assert desk.values()["relay"] == "[2]"
    assert desk.do(gone) is None
    desk.do(commands.AddElements(key="relay", elements=("1",), level="machine:mx"))
    assert desk.values()["relay"] == "[1,2]"


def test_removing_at_another_machines_level_looks_at_its_own_group(desk: Desk) -> None:
    """What is inherited there is what counts there."""
    desk.do(commands.AddElements(key="relay", elements=("1",), level="group:Paris"))
    event = desk.do(commands.RemoveElements(key="relay", elements=("1",), level="machine:edge"))
    assert written(event) == [(f"element/machine/{EDGE.id}/relay/1", "false", 0)]


@pytest.mark.parametrize(
    ("elements", "answer"),
    [
        (("3",), "3 is not in relay at cluster\n'get relay' shows its elements"),
        (("1", "3"), "3 is not in relay at cluster\n"),
    ],
)
def test_removing_what_is_not_there_is_refused(desk: Desk, elements: tuple[str, ...], answer: str) -> None:
    """All or nothing."""
    desk.do(commands.AddElements(key="relay", elements=("1",)))
    assert answer in desk.refusal(commands.RemoveElements(key="relay", elements=elements))


def test_removing_from_a_plain_key_is_refused(desk: Desk) -> None:
    """With the command that does what was meant."""
    desk.set("a", "1")
    assert desk.refusal(commands.RemoveElements(key="a", elements=("1",))) == (
        "a is not a set of values\n'unset a' takes a plain value away"
    )


def test_setting_a_set_replaces_the_elements_that_are_seen(desk: Desk) -> None:
    """What is new is added, what is not named is taken away, the rest is left alone."""
    desk.do(commands.AddElements(key="relay", elements=("1", "2")))
    assert written(desk.set("relay", "[2,3]")) == [
        ("element/cluster/relay/3", "true", 0),
        ("element/cluster/relay/1", False, 1),
    ]
    assert desk.set("relay", "[3,2,3]") is None
    assert desk.values()["relay"] == "[2,3]"


@pytest.mark.parametrize("value", ['"x"', "1", "null", '{"a":1}'])
def test_a_set_cannot_become_a_plain_value(desk: Desk, value: str) -> None:
    """It would have to lose what others add meanwhile."""
    desk.do(commands.AddElements(key="relay", elements=("1",)))
    assert desk.refusal(commands.SetSetting(key="relay", value=value, salt=SALT)) == (
        f"relay is a set of values and cannot become {value}\ngive a JSON array, or use 'add' and 'remove'"
    )


def test_unsetting_a_set_takes_all_that_its_level_says(desk: Desk) -> None:
    """Elements and what was knocked out; other levels keep theirs."""
    desk.do(commands.AddElements(key="relay", elements=("1",)))
    desk.do(commands.AddElements(key="relay", elements=("2",), level="machine:mx"))
    desk.do(commands.RemoveElements(key="relay", elements=("1",), level="machine:mx"))
    event = desk.do(commands.UnsetSetting(key="relay", level="machine:mx"))
    assert [(path.rpartition("/")[2], value) for path, value, _ in written(event)] == [("1", False), ("2", False)]
    assert desk.values()["relay"] == "[1]"
    assert "relay is not set at machine:mx" in desk.refusal(commands.UnsetSetting(key="relay", level="machine:mx"))


def test_an_element_is_kept_as_it_is_written(desk: Desk) -> None:
    """Any JSON can be one; what looks alike but is written otherwise is another."""
    elements = ('"é/%"', "1", "1.0", '"1"', "[1]", "null")
    event = desk.do(commands.AddElements(key="relay", elements=elements))
    assert event is not None
    assert all(isinstance(one.path, str) for one in event.writes)
    assert desk.values()["relay"] == f"[{','.join(sorted(elements))}]"
    assert Path("element/cluster/relay/%22%C3%A9%2F%25%22") in desk.registers.lanes
