"""Every bound of ``limits.py`` holds where it says: what is just within is taken, what is just beyond is refused."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from cluster_store.adapters import local_socket
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.adapters.memory_transport import MemoryNetwork
from cluster_store.core import decide_communication, decide_users, limits, wire
from cluster_store.core.admission import Incoming, split
from cluster_store.core.causality import LEAF_HASH_DIGITS, Leaf
from cluster_store.core.cluster import Machine
from cluster_store.core.commands import SetSetting
from cluster_store.core.effects import Ack, Bye, Records
from cluster_store.core.errors import ClusterStoreError, Malformed
from cluster_store.core.limits import (
    AFTER_MAX,
    BATCH_RECORDS_MAX,
    COMMENT_BYTES_MAX,
    ENVELOPE_BYTES_MAX,
    GROUP_COMMIT_MAX,
    HYBRID_MAX,
    JSON_DEPTH_MAX,
    MESSAGE_RECORDS_MAX,
    NAME_CHARS_MAX,
    OUTBOX_MESSAGES_MAX,
    PARAMS_BRACKETS_MAX,
    PARAMS_BYTES_MAX,
    PATH_BYTES_MAX,
    REASON_CHARS_MAX,
    REPLACED_PER_WRITE_MAX,
    RUN_BYTES_MAX,
    RUN_RECORDS_MAX,
    SECRETS_KEPT_MS,
    TIME_MAX,
    VALUE_BYTES_MAX,
    VECTOR_LEAVES_MAX,
    WORD_CHARS_MAX,
    WRITES_PER_EVENT_MAX,
)
from cluster_store.core.records import Envelope, encode
from cluster_store.core.state import Draft
from cluster_store.core.types import Epoch
from cluster_store.core.values import check_name
from cluster_store.documents import Documents
from cluster_store.open_link import OpenLink
from tests.core.builders import following, sealed, unsealed, write
from tests.hostile.stage import BERT, Stage
from tests.sites import SALT, Site

#: Says whether something of a size ``more`` beyond (or, negative, within) its bound is taken.
Edge = Callable[[int], bool]
EDGES: dict[str, Edge] = {}

#: Bounds that are tried where what they bound is tested: module and function, which names the bound or its size.
ELSEWHERE = {
    "CONFIG_FILE_BYTES_MAX": "tests.test_formats",
    "FRAME_BYTES_MAX": "tests.contracts.test_transport",
    "BATCH_BYTES_TARGET": "tests.core.test_sync",
    "BATCH_RECORDS_MAX": "tests.core.test_sync",
    "DOCUMENT_TAIL_BYTES": "tests.test_documents",
    "DRAFT_BYTES_MAX": "tests.cli.test_staging",
    "PEER_PATIENCE_S": "tests.hostile.test_slow_peers",
    "RELAY_PATIENCE_S": "tests.core.test_relaying",
    "TIMER_MAX_MS": "tests.core.test_timed_changes",
}
#: Words by which those modules may call a bound.
_CALLED = {"PEER_PATIENCE_S": "patience", "RELAY_PATIENCE_S": "time_passes"}
#: Whose tests cannot name them yet.
UNTRIED = frozenset(
    (
        "BACKUP_MANIFEST_BYTES_MAX",
        "LOGINS_MAX",
        "LOGINS_PER_USER_MAX",
        "LOGIN_IDLE_S",
    )
)


def edge(name: str) -> Callable[[Edge], Edge]:
    """Register what tries a bound."""

    def register(tried: Edge) -> Edge:
        EDGES[name] = tried
        return tried

    return register


def counts(make: Callable[[Stage], Envelope]) -> bool:
    """Say whether a member's record is stored and not void."""
    stage = Stage()
    stage.bring(sealed(make(stage), BERT))
    stored = stage.state.position > stage.before[0]
    return stored and not stage.driver.log.records[-1].void


def stored(data: Callable[[Stage], bytes]) -> bool:
    """Say whether an envelope's bytes are stored at all."""
    stage = Stage()
    stage.bring_bytes(data(stage))
    return bool(stage.state.position > stage.before[0])


def decodes(message: Any) -> bool:
    """Say whether a frame is taken for a message."""
    try:
        wire.decode(wire.encode(message))
    except Malformed:
        return False
    return True


def _sets(value: str, path: str = "setting/cluster/k", *replaced: str, **fields: Any) -> Callable[[Stage], Envelope]:
    return lambda stage: following(stage.first, writes=(write(path, value, *replaced),), **fields)


@edge("VALUE_BYTES_MAX")
def _value(more: int) -> bool:
    return counts(_sets('"' + "x" * (VALUE_BYTES_MAX - 2 + more) + '"'))


@edge("JSON_DEPTH_MAX")
def _depth(more: int) -> bool:
    depth = JSON_DEPTH_MAX + more
    return counts(_sets("[" * depth + "]" * depth))


@edge("PATH_BYTES_MAX")
def _path(more: int) -> bool:
    return counts(_sets("1", "setting/cluster/".ljust(PATH_BYTES_MAX + more, "x")))


@edge("WRITES_PER_EVENT_MAX")
def _writes(more: int) -> bool:
    count = WRITES_PER_EVENT_MAX + more
    return counts(
        lambda stage: following(stage.first, writes=tuple(write(f"setting/cluster/k{n}", "1") for n in range(count)))
    )


@edge("REPLACED_PER_WRITE_MAX")
def _replaced(more: int) -> bool:
    return counts(
        lambda stage: _sets("1", "setting/cluster/k", *[stage.first.id] * (REPLACED_PER_WRITE_MAX + more))(stage)
    )


@edge("AFTER_MAX")
def _after(more: int) -> bool:
    return counts(lambda stage: following(stage.first, after=(stage.driver.records[0].id,) * (AFTER_MAX + more)))


@edge("ENVELOPE_BYTES_MAX")
def _envelope(more: int) -> bool:
    def data(stage: Stage) -> bytes:
        size = len(encode(following(stage.first)))
        return encode(following(stage.first, comment="x" * (ENVELOPE_BYTES_MAX - size + more)))

    return stored(data)


@edge("PARAMS_BYTES_MAX")
def _params(more: int) -> bool:
    return stored(lambda stage: encode(following(stage.first, params={"a": "x" * (PARAMS_BYTES_MAX - 8 + more)})))


@edge("PARAMS_BRACKETS_MAX")
def _brackets(more: int) -> bool:
    params = {"a": [[]] * (PARAMS_BRACKETS_MAX - 2 + more), "b": "x" * 5000}
    return stored(lambda stage: encode(following(stage.first, params=params)))


@edge("COMMENT_BYTES_MAX")
def _comment(more: int) -> bool:
    return counts(lambda stage: following(stage.first, comment="x" * (COMMENT_BYTES_MAX + more)))


@edge("TIME_MAX")
def _time(more: int) -> bool:
    return counts(lambda stage: following(stage.first, time=TIME_MAX + more))


@edge("HYBRID_MAX")
def _hybrid(more: int) -> bool:
    return counts(lambda stage: following(stage.first, hybrid=HYBRID_MAX + more))


@edge("NAME_CHARS_MAX")
def _name(more: int) -> bool:
    try:
        check_name("x" * (NAME_CHARS_MAX + more), "hostname")
    except ClusterStoreError:
        return False
    return True


def _splits(items: list[Incoming]) -> bool:
    try:
        split(items)
    except Malformed:
        return False
    return True


@edge("RUN_RECORDS_MAX")
def _run(more: int) -> bool:
    stage = Stage()
    record = unsealed(following(stage.first))
    last = sealed(following(stage.first), BERT)
    return _splits([Incoming(record.data, b"")] * (RUN_RECORDS_MAX - 1 + more) + [Incoming(last.data, last.seal)])


@edge("RUN_BYTES_MAX")
def _run_bytes(more: int) -> bool:
    stage = Stage()
    large = encode(following(stage.first, comment="x" * 4_000_000))
    last = sealed(following(stage.first), BERT)
    left = RUN_BYTES_MAX - 2 * len(large) - len(last.data)
    short = encode(following(stage.first))
    filled = encode(following(stage.first, comment="x" * (left - len(short) + more)))
    return _splits([Incoming(data, b"") for data in (large, large, filled)] + [Incoming(last.data, last.seal)])


@edge("MESSAGE_RECORDS_MAX")
def _message(more: int) -> bool:
    return decodes(Records([Incoming(b"{}", b"")] * (MESSAGE_RECORDS_MAX + more)))


@edge("VECTOR_LEAVES_MAX")
def _vector(more: int) -> bool:
    stage = Stage()
    leaf = Leaf(BERT.id, Epoch("e" * 16), 1, "a" * LEAF_HASH_DIGITS)
    return decodes(stage.hello(vector=[leaf] * (VECTOR_LEAVES_MAX + more)))


@edge("WORD_CHARS_MAX")
def _word(more: int) -> bool:
    return decodes(Bye("x" * (WORD_CHARS_MAX + more), ""))


@edge("REASON_CHARS_MAX")
def _reason(more: int) -> bool:
    return decodes(Bye("dropped", "x" * (REASON_CHARS_MAX + more)))


class _Nowhere:
    """A link that leads nowhere."""

    peer = BERT.id


@edge("OUTBOX_MESSAGES_MAX")
def _outbox(more: int) -> bool:
    async def put() -> bool:
        nowhere: Any = _Nowhere()  # nothing is sent
        opened = OpenLink(1, nowhere, dialled=True, since=0.0, aim=None)
        for count in range(OUTBOX_MESSAGES_MAX + more):
            opened.put(Ack(count))
        return not opened.closing

    return asyncio.run(put())


@edge("GROUP_COMMIT_MAX")
def _group(more: int) -> bool:
    """One more is a second append, not a refusal."""

    async def commit() -> bool:
        site = Site(MemoryNetwork(), "anna")
        await site.begin()
        sizes = []
        append = site.log.append

        async def noting(draft: Draft) -> None:
            sizes.append(len(draft.records))
            await append(draft)

        site.log.append = noting  # type: ignore[method-assign]
        commands = (SetSetting(key=f"k{n}", value="1", salt=SALT) for n in range(GROUP_COMMIT_MAX + more))
        await asyncio.gather(*map(site.command, commands))
        await site.end()
        assert max(sizes) <= GROUP_COMMIT_MAX
        return len(sizes) == 1

    return asyncio.run(commit())


@edge("SECRETS_KEPT_MS")
def _secrets(more: int) -> bool:
    async def kept() -> bool:
        site = Site(MemoryNetwork(), "anna")
        await site.begin()
        for value in ('"old"', '"new"'):
            await site.command(SetSetting(key="k", value=value, secret=True, salt=SALT))
        before = len(site.log.secrets)
        replaced = site.log.records[-1].learnt
        site.node.now = lambda: replaced + SECRETS_KEPT_MS + more
        await site.node.erase_secrets()
        values = [secrets for secrets in site.log.secrets.values() if secrets]
        await site.end()
        return len(values) == before

    return asyncio.run(kept())


@edge("REQUEST_BYTES_MAX")
def _request(more: int, folder: Path = Path("/tmp")) -> bool:  # noqa: S108 - replaced by the test
    """The bound itself is a configuration file twice over; here it is a thousand bytes."""

    async def ask() -> bool:
        async def handle(*_: Any) -> dict[str, Any]:
            return {"taken": True}

        def recognise(_: str) -> Any:
            raise AssertionError("nobody logged in")

        bound, local_socket.REQUEST_BYTES_MAX = local_socket.REQUEST_BYTES_MAX, 1000  # type: ignore[attr-defined]
        try:
            server = await local_socket.listen(folder / "edge.sock", handle, recognise)
        finally:
            local_socket.REQUEST_BYTES_MAX = bound  # type: ignore[attr-defined]
        reader, writer = await asyncio.open_unix_connection(folder / "edge.sock")
        empty = len(orjson.dumps({"operation": "", "arguments": {}}))
        writer.write(orjson.dumps({"operation": "x" * (1000 - empty + more), "arguments": {}}) + b"\n")
        answer = orjson.loads(await asyncio.wait_for(reader.readline(), 30))
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
        server.close()
        return "result" in answer

    return asyncio.run(ask())


@edge("DOCUMENTS_OPEN_MAX")
def _documents(more: int) -> bool:
    """One more closes the one that was longest not needed."""

    async def open_them() -> bool:
        documents = Documents(MemoryLog())
        for number in range(limits.DOCUMENTS_OPEN_MAX + more):
            await documents.get(f"cluster#{number}")
        await documents.catch_up()
        return len(documents._open) == limits.DOCUMENTS_OPEN_MAX + more

    return asyncio.run(open_them())


@edge("KEYS_PER_USER_MAX")
def _keys(more: int) -> bool:
    lines = [Keys.generate().client_key_line for _ in range(limits.KEYS_PER_USER_MAX + more)]
    try:
        decide_users._added([], lines)
    except ClusterStoreError:
        return False
    return True


@edge("FORMER_PORTS_MAX")
def _former_ports(more: int) -> bool:
    """One more, and the oldest is forgotten."""
    machine = Machine(id=BERT.id, ssh_port=1000)
    for number in range(limits.FORMER_PORTS_MAX + more):
        machine = decide_communication.with_port(machine, "ssh_port", 1001 + number)
    return 1000 in machine.former_ports


# --- the table -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(EDGES))
def test_a_bound_holds_where_it_says(name: str, tmp_path: Path) -> None:
    """Just within is taken, just beyond is not."""
    tried = EDGES[name]
    if "folder" in inspect.signature(tried).parameters:
        assert [tried(more, tmp_path) for more in (0, 1)] == [True, False]  # type: ignore[call-arg]
    else:
        assert [tried(more) for more in (0, 1)] == [True, False]


def test_every_bound_is_tried() -> None:
    """Here, or where the table says; a bound that is added to the module has to be added here."""
    bounds = {name for name in vars(limits) if name.isupper()}
    assert bounds == EDGES.keys() | ELSEWHERE.keys() | UNTRIED
    for name, module in ELSEWHERE.items():
        source = inspect.getsource(importlib.import_module(module))
        assert _CALLED.get(name, name) in source, f"{module} does not try {name}"


def test_the_bounds_fit_each_other() -> None:
    """What one machine may write and send, another one takes."""
    assert 2 * GROUP_COMMIT_MAX <= RUN_RECORDS_MAX
    assert BATCH_RECORDS_MAX + RUN_RECORDS_MAX <= MESSAGE_RECORDS_MAX
    assert limits.BATCH_BYTES_TARGET + RUN_BYTES_MAX < limits.FRAME_BYTES_MAX
    longest = msgspec.msgpack.encode(Leaf(BERT.id, Epoch("e" * 16), 2**63 - 1, "a" * LEAF_HASH_DIGITS))
    assert 2 * VECTOR_LEAVES_MAX * len(longest) < limits.FRAME_BYTES_MAX
