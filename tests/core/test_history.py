"""What the log says of an event, to people and to scripts, and which events come before which."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from cluster_store.core import commands
from cluster_store.core.cluster import Cluster, Removed
from cluster_store.core.errors import StoreCorrupt
from cluster_store.core.history import Filter, came_after, describe, read_event, read_sight, to_json, with_past
from cluster_store.core.naming import iso_time, one_line
from cluster_store.core.records import Record, record_id
from cluster_store.core.registers import Write
from cluster_store.core.state import Appended
from cluster_store.core.types import MachineId, RecordId
from tests.collisions import Collision, collision, event_of, two_machines
from tests.core import builders
from tests.core.builders import first_record, following, identity, sealed, write
from tests.core.histories import History, Step, step_lists
from tests.replicas import Machine

ANN = identity("ann")


def shown(added: Appended, cluster: Cluster | None = None) -> dict[str, Any]:
    """Return an event's JSON as a script reads it."""
    line = msgspec.json.encode(to_json(added, cluster or Cluster()))
    assert b"\n" not in line
    told: dict[str, Any] = msgspec.json.decode(line)
    return told


def event(*writes: Write, void: str = "", **fields: Any) -> Appended:
    """Return an event by Ann that makes some writes."""
    record = sealed(following(first_record(ANN), writes=writes, **fields), ANN)
    return Appended(2, 1, record, void, 1_700_000_001_000)


async def last(pair: Collision, machine: Machine, result: dict[str, Any]) -> Appended:
    """Return the event of a command's result."""
    return event_of(machine, RecordId(result["event"]))


# --- JSON ------------------------------------------------------------------------------------------


async def test_an_event_is_shown_whole() -> None:
    """A line of JSON says who changed what, where, when and why, and what that replaced."""
    pair = await collision()
    before = (await pair.mx2.set("smtp.banner", '"three"'))["event"]
    command = commands.SetSetting(key="smtp.banner", value="[1.50e3]", comment="why", level="cluster", salt=bytes(16))
    result = await pair.mx2.command(command)
    added = event_of(pair.mx2, RecordId(result["event"]))
    assert shown(added, pair.mx2.cluster) == {
        "id": result["event"],
        "machine": "mx2",
        "machine_id": pair.mx2.id,
        "seq": added.record.envelope.seq,
        "epoch": added.record.envelope.epoch,
        "kind": "SettingSet",
        "user": "os:root",
        "auth": "local",
        "time": iso_time(pair.fleet.now),
        "comment": "why",
        "params": {},
        "writes": [
            {
                "path": "setting/cluster/smtp.banner",
                "key": "smtp.banner",
                "level": "cluster",
                "action": "set",
                "value": [1500.0],
                "replaces": [before],
            }
        ],
        "void": None,
        "weak": False,
        "prev": before,
        "after": [],
        "learnt": iso_time(pair.fleet.now),
    }
    assert b"[1.50e3]" in msgspec.json.encode(to_json(added, Cluster())), "values stand as they were written"


async def test_a_secret_is_redacted() -> None:
    """Neither the line for scripts nor the one for people shows a secret, or even its hash."""
    pair = await collision()
    assert any("password" in str(shown(added)) for added in pair.mx1.log.records)  # type: ignore[attr-defined]
    for added in pair.mx1.log.records:  # type: ignore[attr-defined]
        told = str(shown(added)) + describe(added, pair.mx1.cluster)
        assert "s3cret" not in told
        for one in added.record.envelope.writes:
            if not isinstance(one.value, str | bool | None):
                assert one.value.secret not in told


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (write("setting/cluster/a", "null"), {"action": "set", "value": None}),
        (write("setting/cluster/a", None), {"action": "unset", "value": None}),
        (write("setting/cluster/a", False, "f" * 64), {"action": "remove", "value": None}),
        (write("element/group/paris/a/%22x%22", "true"), {"action": "add", "element": "x", "level": "group:paris"}),
        (write("element/cluster/a/1", "false"), {"action": "knock out", "element": 1, "value": False}),
        (write("element/cluster/a/1", False, "f" * 64), {"action": "remove", "element": 1}),
        (write("setting/cluster/a", "1" * 30), {"value": int("1" * 30)}),
        (write("setting/cluster/a", '{\n"b": [1,\r\n2]}'), {"value": {"b": [1, 2]}}),
    ],
)
def test_what_a_write_did_is_told_apart(one: Write, told: dict[str, Any]) -> None:
    """A value of null, no value, and a lane taken away are three things; numbers of any size are exact."""
    line = msgspec.json.encode(to_json(event(one), Cluster()))
    assert b"\n" not in line
    if one.value == "1" * 30:
        assert b'"value":' + b"1" * 30 in line
    else:
        (found,) = msgspec.json.decode(line)["writes"]
        assert told.items() <= found.items()


@pytest.mark.parametrize(
    "one",
    [
        write("setting/nowhere", '"x"'),
        write("setting/cluster/%zz", '"x"'),
        write("setting/cluster/x", "not JSON"),
        write("\x1b[2J", '"\x1b[2J"'),
        write("element/cluster/relay", True),
        write("user/../../x", '{"a"'),
        write("", ""),
    ],
)
def test_what_a_void_record_wrote_is_shown_as_it_is(one: Write) -> None:
    """A record that counts for nothing may hold anything: it is shown, and harms no terminal."""
    added = event(one, void="is wrong")
    assert shown(added)["writes"][0]["path"] == one.path
    words = describe(added, Cluster())
    assert words.startswith("void: ")
    assert words.isprintable()


# --- words -------------------------------------------------------------------------------------------


async def test_every_kind_of_change_has_its_words() -> None:
    """What a command did is said in a few words, with names in the place of ids."""
    pair = await two_machines()
    mx1 = pair.mx1

    async def words(command: commands.Command) -> str:
        added = event_of(mx1, RecordId((await mx1.command(command))["event"]))
        return describe(added, mx1.cluster)

    salt = bytes(16)
    assert [describe(added, mx1.cluster) for added in mx1.log.records] == [  # type: ignore[attr-defined]
        "initialised mx1",
        "created the cluster ships",
        "let mx2 into Main_Group",
        "began a new epoch: joined",
    ]
    assert await words(commands.AddGroup(name="paris")) == "added the group paris"
    assert await words(commands.RenameGroup(group="paris", name="lyon")) == "renamed the group paris to lyon"
    assert await words(commands.DeleteGroup(group="lyon")) == "deleted the group lyon"
    assert await words(commands.SetClusterName(name="boats")) == "renamed the cluster ships to boats"
    assert await words(commands.AddGroup(name="paris")) == "added the group paris"
    assert await words(commands.MoveMachines(machines=("mx2",), group="paris")) == "moved mx2 to paris"
    assert await words(commands.DetachMachines(machines=("mx2",))) == "detached mx2"
    assert await words(commands.ReconnectMachines(machines=("mx2",))) == "took mx2 back"
    assert await words(commands.ChangeMachine(ssh_port=2022)) == "machine: ssh_port = 2022"
    set_one = commands.SetSetting(key="a", value='"x"', level="group:paris", salt=salt)
    assert await words(set_one) == 'set a = "x" at group:paris'
    assert await words(commands.UnsetSetting(key="a", level="group:paris")) == "unset a at group:paris"
    secret = commands.SetSetting(key="a", value='"x"', secret=True, salt=salt)
    assert await words(secret) == "set a = (secret) at cluster"
    added = commands.AddElements(key="set", elements=("1", '"x"', "2"))
    assert await words(added) == 'added 1 to set at cluster, added "x" to set at cluster, 1 more'
    gone = commands.RemoveElements(key="set", elements=("1",))
    assert await words(gone) == "removed 1 from set at cluster"
    hidden = commands.RemoveElements(key="set", elements=("2",), level="machine:mx2")
    assert await words(hidden) == "knocked 2 out of set at machine:mx2"
    copied = commands.CopySettings(keys=("set",), target="group:paris", salt=salt)
    assert await words(copied) == "copied set from cluster to group:paris"
    moved = commands.MoveSettings(keys=("set", "a"), target="machine:mx1", salt=salt)
    assert await words(moved) == "moved a, set from cluster to machine:mx1"
    assert await words(commands.DeleteSettings(keys=("a",), level="machine:mx1")) == "deleted a from machine:mx1"
    loaded = commands.LoadConfig(settings={"b": "1", "c": "2"}, source="main.cf", salt=salt)
    assert await words(loaded) == "loaded 2 settings from main.cf at cluster"
    assert await words(commands.RemoveMachines(machines=("mx2",))) == "removed mx2 from the cluster"
    hashed = "$argon2id$hash"
    bob = commands.AddUser(name="bob", role="operator", password=hashed, salt=salt)
    assert await words(bob) == "added the user bob, operator"
    password = commands.ChangePassword(user="bob", password="$argon2id$other", salt=salt)
    assert await words(password) == "changed password of the user bob"
    several = commands.ChangeUser(user="bob", rename="robert", role="guest", salt=salt)
    assert await words(several) == "changed name, role of the user bob, who is now called robert, now guest"
    assert await words(commands.DeleteUser(user="robert", salt=salt)) == "deleted the user robert"


def test_a_kind_of_a_later_version_is_described_by_its_writes() -> None:
    """Events that this version has no words for are told register by register."""
    assert describe(event(write("cluster/name", '"x"'), kind="OfALaterVersion"), Cluster()) == 'cluster/name = "x"'
    assert describe(event(kind="AnotherOne"), Cluster()) == "nothing"


def test_a_machine_that_was_removed_is_called_by_its_last_name() -> None:
    """Its id, which commands take, is for scripts."""
    gone = identity("edge").id
    cluster = Cluster(name="ships", removed={gone: Removed(id=gone, hostname="edge.example.com")})
    added = event(write(f"setting/machine/{gone}/a", "1"), kind="SettingSet")
    assert describe(added, cluster) == "set a = 1 at machine:edge.example.com (removed)"
    assert shown(added, cluster)["writes"][0]["level"] == f"machine:{gone}"
    assert describe(added, Cluster()) == f"set a = 1 at machine:{gone}"


def test_nothing_that_a_member_wrote_reaches_a_terminal_raw() -> None:
    """Names and values with control signs are shown escaped, and long ones are cut."""
    added = event(
        write("setting/cluster/a", '"\u202e"'), kind="GroupAdded", params={"name": "\x1b]0;owned\x07\n" + "x" * 99}
    )
    words = describe(added, Cluster())
    assert words.isprintable()
    assert len(words) < 100
    assert describe(event(kind="GroupAdded", params={"name": {"a": [1]}}), Cluster()).startswith("added the group ")
    assert one_line("a\tb\u2028c") == "a\\tb\\u2028c"


def test_a_time_beyond_the_calendar_is_a_number() -> None:
    """A member may claim any time for what it writes."""
    assert iso_time(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
    assert iso_time(0) == "1970-01-01T00:00:00.000Z"
    assert iso_time(2**62) == f"{2**62}ms"
    latest = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp() * 1000)
    assert iso_time(latest + 999) == "9999-12-31T23:59:59.999Z"


# --- choosing ----------------------------------------------------------------------------------------


def test_filters_take_what_was_asked_for() -> None:
    """A filter goes by key, machine and user, all of them together."""
    added = event(write("setting/cluster/smtp.banner", "1"), user="bob")
    assert Filter().takes(added)
    assert Filter("smtp.", ANN.id, "bob").takes(added)
    assert Filter("smtp.banner").takes(added)
    assert not Filter("smtp.banners").takes(added)
    assert not Filter(user="ann").takes(added)
    assert not Filter(machine=MachineId("other")).takes(added)
    assert not Filter("cluster").takes(event(write("cluster/name", '"x"'), kind="ConflictSettled"))


def naive_past(records: dict[RecordId, Record], wanted: set[RecordId]) -> set[RecordId]:
    """Naive twin of ``with_past``: add what each of them came after until nothing is added."""
    while True:
        more = {before for one in wanted for before in came_after(records[one].envelope)} | wanted
        if more == wanted:
            return wanted
        wanted = more


@settings(max_examples=30)
@given(step_lists())
def test_a_past_is_closed_and_nothing_more(steps: list[Step]) -> None:
    """Whatever is chosen comes with all that it came after, directly or not, and with nothing else."""
    history = History().play(steps)
    store = builders.Store(history.cluster)
    for run in history.runs:
        if not run.dropped:
            store.offer(run.items)
    log = store.log.records
    records = {added.record.id: added.record for added in log}
    for added in log[:: max(1, len(log) // 4)]:
        found = with_past(reversed(log), lambda one, wanted=added: one is wanted)  # type: ignore[misc]
        assert found == naive_past(records, {added.record.id})
    middle = sorted(one.record.envelope.hybrid for one in log)[len(log) // 2]
    found = with_past(reversed(log), lambda one: one.record.envelope.hybrid <= middle)
    early = {one.record.id for one in log if one.record.envelope.hybrid <= middle}
    assert found == naive_past(records, early)


# --- rows --------------------------------------------------------------------------------------------


class Row(msgspec.Struct):
    """A row of a log."""

    position: int
    id: RecordId
    line: int
    envelope: bytes
    seal: bytes
    void: str
    learnt: int


def test_a_damaged_row_is_refused_by_name() -> None:
    """A row whose bytes are not those that were written is not shown as if it were."""
    record = first_record(ANN)
    row = Row(1, record.id, 1, record.data, record.seal, "", 5)
    assert read_event(row) == Appended(1, 1, record, "", 5)
    sight = read_sight(row)
    assert {name: getattr(record.envelope, name) for name in sight.__struct_fields__} == msgspec.structs.asdict(sight)
    for read_row in (read_event, read_sight):
        with pytest.raises(StoreCorrupt, match="position 1"):
            read_row(msgspec.structs.replace(row, seal=bytes(64)))
        with pytest.raises(StoreCorrupt, match=record.id):
            read_row(msgspec.structs.replace(row, envelope=b"{}"))


def test_what_was_never_an_event_is_refused_though_its_hash_fits() -> None:
    """Neither a wrong shape nor one that is nested too deep for any reader ends in anything but a refusal."""
    for envelope in (b"{}", b"no JSON", b'{"params":' + b"[" * 100_000):
        row = Row(1, record_id(envelope, b""), 1, envelope, b"", "", 5)
        for read_row in (read_event, read_sight):
            with pytest.raises(StoreCorrupt, match="position 1"):
                read_row(row)
