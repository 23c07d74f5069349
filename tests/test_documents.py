"""The open documents: what becomes of them when the engine gives up, or the disk does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import pytest_asyncio

from cluster_store import documents
from cluster_store.adapters.memory_transport import MemoryNetwork
from cluster_store.core.document import Change, Document
from cluster_store.core.errors import EngineError
from cluster_store.core.registers import document_of, lane_key, machine_level, setting_path
from tests.core.engine_panic import break_engine
from tests.sites import Site


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    """Give a machine that stands alone and has a few keys, so that several documents are open."""
    site = Site(MemoryNetwork(), "mx1")
    await site.begin()
    for number in range(20):
        await site.set(f"before.{number}", str(number))
    assert await agrees(site)
    yield site
    await site.end()


async def agrees(site: Site) -> bool:
    """Say whether the documents hold exactly the standing lanes."""
    state = site.node.replica.state
    lanes = {lane_key(path, lane.id) for path, lanes in state.lanes.items() for lane in lanes}
    names = site.log.tails.keys() | site.log.saved.keys()
    return lanes == {key for name in names for key in (await site.node.documents.get(name)).items()}


def panicking(monkeypatch: pytest.MonkeyPatch, method: str, times: int) -> Callable[[], int]:
    """Let so many calls of a document's method meet a real panic of the engine; return how to ask how many are left."""
    whole = getattr(Document, method)
    left = times

    def broken(document: Document, *arguments: Sequence[Change]) -> object:
        nonlocal left
        if left:
            left -= 1
            break_engine(document)
        return whole(document, *arguments)

    monkeypatch.setattr(Document, method, broken)
    return lambda: left


@pytest.mark.parametrize("times", [1, 2, 3, 7])
async def test_a_panic_ends_in_a_rebuilt_document(site: Site, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """However often the engine panics, also during the rebuilding: every acknowledged change is there."""
    monkeypatch.setattr(documents, "_GATHERED_MAX", 1)
    left = panicking(monkeypatch, "apply", times)
    for number in range(20):
        assert (await site.set(f"after.{number}", str(number)))["changed"]
    assert not left()
    assert [site.get(f"after.{number}") for number in range(20)] == [str(number) for number in range(20)]
    assert await agrees(site)


async def test_a_panic_while_saving_loses_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that cannot be saved keeps its changes in the log, and is saved from there the next time."""
    monkeypatch.setattr(documents, "_GATHERED_MAX", 1)
    monkeypatch.setattr(documents, "DOCUMENT_TAIL_BYTES", 1)
    left = panicking(monkeypatch, "save", 3)
    for number in range(20):
        assert (await site.set(f"after.{number}", str(number)))["changed"]
    assert not left()
    assert site.log.saved
    assert await agrees(site)


async def test_one_document_that_cannot_be_read_does_not_hold_up_the_others(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others take their changes and are saved; whoever asks for that one is told."""
    await site.node.documents.catch_up()
    broken = document_of(setting_path(machine_level(site.node.replica.state.me), "before.0"))
    open_document = documents.Documents._load

    async def failing(self: documents.Documents, name: str) -> None:
        if name == broken:
            raise EngineError("the engine gave up", "rebuild it")
        await open_document(self, name)

    monkeypatch.setattr(documents.Documents, "_load", failing)
    break_engine(await site.node.documents.get(broken))
    for number in range(20):
        await site.set(f"before.{number}", str(number + 100))
    with pytest.raises(EngineError):
        await site.node.documents.catch_up()
    with pytest.raises(EngineError):
        await site.node.documents.get(broken)
    monkeypatch.undo()
    assert await agrees(site)
