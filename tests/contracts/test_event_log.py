"""What every event log promises: one suite, run in memory and on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.core import commands
from cluster_store.core.document import Document
from cluster_store.core.effects import LogRow
from cluster_store.core.errors import StoreFull
from cluster_store.core.records import decode
from cluster_store.core.registers import CLUSTER, document_of, scope_of
from cluster_store.core.state import Needs, ScopeFacts, Stored
from cluster_store.core.types import Level, MachineId, RecordId
from cluster_store.ports import EventLog, SavedDocument
from tests.replicas import Fleet, LogFactory, Machine, in_memory

UNKNOWN = RecordId("ab" * 32)
#: A value that no page has room for.
LARGE = f'"{"x" * 60_000}"'


def in_sqlite(folder: Path) -> LogFactory:
    """Return what makes logs as files in a folder."""

    async def make(name: str, me: MachineId, cluster: str) -> EventLog:
        return await SqliteLog.create(folder / f"{name}-{cluster[:6]}.db", me, cluster)

    return make


@pytest.fixture(params=["memory", "sqlite"])
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fleet]:
    """A fleet without machines, on either kind of log."""
    fleet = Fleet(in_memory if request.param == "memory" else in_sqlite(tmp_path))
    yield fleet
    await fleet.close()


async def refuse_the_next_append(log: EventLog) -> None:
    """Let the log's disk be full for one append of something large."""
    if isinstance(log, MemoryLog):
        log.failure = StoreFull("no room")
    else:
        assert isinstance(log, SqliteLog)
        # The least that SQLite takes is the size that the file has.
        await log._connection.execute("PRAGMA max_page_count = 1")


async def make_room(log: EventLog) -> None:
    """Give the log's disk room again."""
    if isinstance(log, SqliteLog):
        await log._connection.execute("PRAGMA max_page_count = 1000000")


async def all_rows(log: EventLog) -> list[LogRow]:
    """Return everything that is in a log."""
    return await log.read(0, 1_000_000, 1 << 40)


def facts_of(row: LogRow) -> tuple[RecordId, int]:
    """Return a row's record id and position."""
    return decode(row.item.data, row.item.seal).id, row.position


async def scope_facts(log: EventLog, scope: Level) -> ScopeFacts:
    """Look one scope up."""
    return (await log.lookup(Needs({scope}))).scopes[scope]


# --- each log alone ---


async def test_a_new_log_is_empty(fleet: Fleet) -> None:
    """There is nothing in it but the id of the cluster that it was made for."""
    machine = await fleet.start("anna", cluster="c" * 64)
    assert await machine.log.load() == Stored("c" * 64, 0, b"", [], {}, None)
    assert await all_rows(machine.log) == []
    assert await machine.log.first_missing({}) == 0
    assert await machine.log.load_document("cluster#0") == SavedDocument(None, [])


async def test_what_is_loaded_is_what_the_state_was(fleet: Fleet) -> None:
    """A restart finds the lines, the hash over the log, the cluster's id and the line that goes on."""
    anna, bert = await fleet.fleet_of("anna", "bert")
    await bert.set("smtp.banner", '"hello"')
    await fleet.pump()
    for machine in (anna, bert):
        state, stored = machine.state, await machine.log.load()
        assert (stored.cluster, stored.position) == (state.cluster, state.position)
        assert (stored.log_hash, stored.own) == (state.log_hash, state.own)
        assert {line.number: line for line in stored.lines} == state.lines
        assert stored.own is not None


async def test_a_restarted_machine_goes_on_in_its_own_line(fleet: Fleet) -> None:
    """No epoch begins where nothing happened to the store."""
    anna, bert = await fleet.fleet_of("anna", "bert")
    before = {line.number: line.seq for line in anna.state.lines.values()}
    await fleet.restart(anna)
    await anna.set("smtp.banner", '"again"')
    after = {line.number: line.seq for line in anna.state.lines.values()}
    own = anna.state.own
    assert own is not None
    assert after == {**before, own: before[own] + 1}
    await fleet.connect(anna, bert)
    await fleet.pump()
    assert bert.state.position == anna.state.position


async def test_a_restarted_machine_finds_the_same_registers(fleet: Fleet) -> None:
    """Lanes with their places and the texts of secrets, and the tips of every document, come back from the log."""
    (anna,) = await fleet.fleet_of("anna")
    await anna.set("smtp.banner", '"one"')
    await anna.set("smtp.banner", '"two"')
    await anna.set("smtp.password", '"secret"', secret=True)
    await anna.set("dns.server", '"own"', level="machine:anna")
    await anna.command(commands.AddElements(key="relay", elements=('"a"', '"b"')))
    await anna.command(commands.UnsetSetting(key="smtp.banner"))
    known = anna.state
    scopes = {scope_of(path) for path in known.lanes}
    assert len(scopes) == 2
    facts = await anna.log.lookup(Needs(scopes))
    found = {path: lanes for scope in facts.scopes.values() for path, lanes in scope.lanes.items()}
    assert found == {path: lanes for path, lanes in known.lanes.items() if lanes}
    assert {key: tip for scope in facts.scopes.values() for key, tip in scope.tips.items()} == known.tips
    texts = [lane.text for lanes in found.values() for lane in lanes if lane.text is not None]
    assert '"secret"' in texts


async def test_a_scope_is_found_without_its_neighbours(fleet: Fleet) -> None:
    """A level whose name begins like another's does not bring the other's lanes and tips."""
    (anna,) = await fleet.fleet_of("anna")
    for name in ("paris", "paris2", "paris#1"):
        await anna.command(commands.AddGroup(name=name))
        await anna.set("key", '"value"', level=f"group:{name}")
    for group in ("paris", "paris2", "paris%231"):
        found = await scope_facts(anna.log, Level(f"group/{group}"))
        assert {scope_of(path) for path in found.lanes} == {f"group/{group}"}
        assert {document.rpartition("#")[0] for document, _ in found.tips} == {f"group/{group}"}


async def test_every_need_is_answered(fleet: Fleet) -> None:
    """What is not there is answered too: records with None, scopes with nothing, steps by leaving them out."""
    anna, bert = await fleet.fleet_of("anna", "bert")
    rows = await all_rows(bert.log)
    steps = {(row.line, row.seq): decode(row.item.data, row.item.seal).id for row in rows}
    here = rows[-1]
    record = steps[here.line, here.seq]
    misspelt = [RecordId(text) for text in ("", "ab", "zz" * 32, record.upper(), f" {record}", f"{record}00")]
    absent = Level("machine/nobody")
    facts = await bert.log.lookup(Needs({absent}, {record, UNKNOWN, *misspelt}, {*steps, (1, 999), (999, 1)}))
    assert facts.scopes == {absent: ScopeFacts({}, {})}
    assert facts.steps == steps
    fact = facts.records.pop(record)
    assert fact is not None
    envelope = decode(here.item.data, here.item.seal).envelope
    assert (fact.line, fact.seq, fact.hybrid, fact.position) == (here.line, here.seq, envelope.hybrid, here.position)
    assert facts.records == dict.fromkeys([UNKNOWN, *misspelt])
    assert anna.state.position == bert.state.position


async def test_reading_goes_on_behind_a_position(fleet: Fleet) -> None:
    """Read in pieces, the log is the same as read at once, in order and without gaps."""
    (anna,) = await fleet.fleet_of("anna")
    for number in range(7):
        await anna.set("key", str(number))
    rows = await all_rows(anna.log)
    assert [row.position for row in rows] == list(range(1, anna.state.position + 1))
    pieces: list[LogRow] = []
    while piece := await anna.log.read(len(pieces), 2, 1 << 20):
        assert len(piece) <= 2
        pieces += piece
    assert pieces == rows


async def test_a_read_ends_with_a_seal(fleet: Fleet) -> None:
    """Records that were accepted together travel together, however little was asked for."""
    (anna,) = await fleet.fleet_of("anna")
    before = anna.state.position
    await anna.command(*(commands.SetSetting(key=f"k{n}", value="1", salt=b"s" * 16) for n in range(5)))
    rows = await anna.log.read(before, 1, 1)
    assert len(rows) == 5
    assert [bool(row.item.seal) for row in rows] == [False] * 4 + [True]


async def test_a_read_ends_at_a_size(fleet: Fleet) -> None:
    """Bytes are bounded as well as records."""
    (anna,) = await fleet.fleet_of("anna")
    before = anna.state.position
    for number in range(3):
        await anna.set(f"k{number}", LARGE)
    assert len(await anna.log.read(before, 100, 100_000)) == 2


async def test_secrets_are_read_beside_their_records(fleet: Fleet) -> None:
    """A peer gets the values that the envelope leaves out."""
    (anna,) = await fleet.fleet_of("anna")
    event = await anna.set("smtp.password", '"secret"', secret=True)
    row = (await all_rows(anna.log))[-1]
    assert facts_of(row)[0] == event["event"]
    assert [(path, text) for path, _, text in row.item.secrets] == [("setting/cluster/smtp.password", '"secret"')]
    assert b"secret" not in row.item.data.replace(b'"secret":', b"")


async def test_the_first_missing_record_is_found(fleet: Fleet) -> None:
    """Whatever a peer has, reading begins right before the first record that it lacks."""
    anna, bert, cleo = await fleet.fleet_of("anna", "bert", "cleo")
    for number in range(3):
        for machine in (anna, bert, cleo):
            await machine.set(f"of.{machine.name}", str(number))
            await fleet.pump()
    rows = await all_rows(cleo.log)
    heads = {line.number: line.seq for line in cleo.state.lines.values()}
    coverings: list[dict[int, int]] = [{}, heads]
    coverings += [{**heads, line: seq} for line, head in heads.items() for seq in range(head)]
    coverings += [{line: seq} for line, head in heads.items() for seq in range(1, head + 1)]
    for covered in coverings:
        missing = [row.position for row in rows if row.seq > covered.get(row.line, 0)]
        assert await cleo.log.first_missing(covered) == min(missing, default=len(rows) + 1) - 1, covered


async def test_a_saved_document_and_its_tail_are_the_document(fleet: Fleet) -> None:
    """Saving drops the tail, appends begin a new one, and together they hold what the registers say."""
    (anna,) = await fleet.fleet_of("anna")
    await anna.set("key", '"before"')
    path = next(path for path in anna.state.lanes if path == "setting/cluster/key")
    name = document_of(path)
    unsaved = await anna.log.load_document(name)
    assert unsaved.saved is None
    document = Document.open(None)
    document.apply(unsaved.tail)
    await anna.log.save_documents({name: document.save()})
    assert (await anna.log.load_document(name)).tail == []
    await anna.set("key", '"after"')
    await anna.set("key", '"last"')
    stored = await anna.log.load_document(name)
    assert stored.saved is not None
    assert len(stored.tail) == 2
    whole = Document.open(stored.saved)
    whole.apply(stored.tail)
    values = [value for key, value in whole.items().items() if key.startswith(f"{path}@")]
    assert values == ['="last"']


async def test_saving_one_document_leaves_the_others(fleet: Fleet) -> None:
    """Only the tails of what was saved go."""
    (anna,) = await fleet.fleet_of("anna")
    names = sorted({document for document, _ in anna.state.tips})
    tails = {name: (await anna.log.load_document(name)).tail for name in names}
    assert len(names) > 1
    assert all(tails.values())
    await anna.log.save_documents({})
    await anna.log.save_documents({names[0]: b"saved"})
    assert await anna.log.load_document(names[0]) == SavedDocument(b"saved", [])
    for name in names[1:]:
        assert await anna.log.load_document(name) == SavedDocument(None, tails[name])


async def test_a_failed_append_leaves_nothing(fleet: Fleet) -> None:
    """The caller hears of it, the log is as it was, and the next append works."""
    (anna,) = await fleet.fleet_of("anna")
    await anna.set("key", '"old"')
    before = await everything(anna)
    await refuse_the_next_append(anna.log)
    with pytest.raises(StoreFull) as refused:
        await anna.set("key", LARGE)
    assert refused.value.hint or isinstance(anna.log, MemoryLog)
    assert await everything(anna) == before
    await make_room(anna.log)
    await anna.set("key", LARGE)
    assert (await anna.log.load()).position == before[0].position + 1


async def everything(machine: Machine) -> tuple[Stored, list[LogRow], ScopeFacts, list[SavedDocument]]:
    """Return all that can be read from a machine's log."""
    documents = sorted({document for document, _ in machine.state.tips})
    return (
        await machine.log.load(),
        await all_rows(machine.log),
        await scope_facts(machine.log, CLUSTER),
        [await machine.log.load_document(name) for name in documents],
    )


async def test_records_of_its_own_that_a_peer_brings_give_no_line_to_go_on_with(fleet: Fleet) -> None:
    """Who lost its store does not extend the feed that it gets back: a new epoch begins, and nothing forks."""
    anna, bert = await fleet.fleet_of("anna", "bert")
    await anna.set("key", '"before"')
    await fleet.pump()
    lost = anna.log
    empty = await fleet.start("anna", anna.state.cluster)
    fleet.machines.remove(empty)
    await fleet.restart(anna, empty.log)
    await lost.close()
    await fleet.connect(anna, bert)
    await fleet.pump()
    assert anna.state.position == bert.state.position
    assert (await anna.log.load()).own is None
    await anna.set("key", '"after"')
    await fleet.pump()
    assert (await anna.log.load()).own == anna.state.own is not None
    assert anna.state.position == bert.state.position
    assert all(line.parent is None for line in bert.state.lines.values())


async def test_replaced_secrets_are_erased_after_a_time(fleet: Fleet) -> None:
    """Peers and readers are given what stands and what was replaced lately; older values are gone."""
    (anna,) = await fleet.fleet_of("anna")
    before = anna.state.position
    for word in ("one", "two", "three"):
        await anna.set("password", f'"{word}"', secret=True)
    two_was_replaced = fleet.now
    assert await anna.log.erase_secrets(two_was_replaced) == 1
    assert await anna.log.erase_secrets(two_was_replaced) == 0
    rows = await anna.log.read(before, 10, 1 << 20)
    assert [[text for _, _, text in row.item.secrets] for row in rows] == [[], ['"two"'], ['"three"']]
    assert await anna.log.erase_secrets(two_was_replaced + 1) == 1
    lanes = (await scope_facts(anna.log, CLUSTER)).lanes
    (standing,) = [lanes for where, lanes in lanes.items() if where.endswith("/password")]
    assert [lane.text for lane in standing] == ['"three"']


async def test_a_log_can_be_closed_twice(fleet: Fleet) -> None:
    """Whoever closes again does no harm."""
    machine = await fleet.start("anna")
    await machine.log.close()
    await machine.log.close()
