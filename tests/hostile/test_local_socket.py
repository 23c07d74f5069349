"""Whatever comes over the local socket gets an answer or an end, and the next caller is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster_store.adapters import local_socket

SECONDS = 30.0


async def _answer(operation: str, *_: Any) -> dict[str, Any]:
    if operation == "fail":
        raise RuntimeError("a fault of the daemon")
    return {"did": operation}


def _recognise(_: str) -> Any:
    raise AssertionError("nobody logged in")


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    """A daemon's socket."""
    server = await local_socket.listen(tmp_path / "node.sock", _answer, _recognise)
    yield tmp_path / "node.sock"
    server.close()


async def ask(path: Path, *lines: bytes) -> list[Any]:
    """Send lines and an end; return the answers."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.writelines(line + b"\n" for line in lines)
        writer.write_eof()
        async with asyncio.timeout(SECONDS):
            return [orjson.loads(line) for line in (await reader.read()).splitlines()]
    finally:
        writer.close()


REQUEST = orjson.dumps({"operation": "look", "arguments": {}})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    junk=st.one_of(st.binary(max_size=50), st.sampled_from((b"[" * 100_000, b"{}", b'{"operation":1,"arguments":[1]}')))
)
def test_what_is_no_request_is_answered_as_such(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    """And the connection goes on."""
    folder = tmp_path_factory.mktemp("socket")

    async def try_it() -> None:
        server = await local_socket.listen(folder / "s", _answer, _recognise)
        answers = await ask(folder / "s", junk.replace(b"\n", b""), REQUEST)
        assert "error" in answers[0]
        assert answers[-1] == {"result": {"did": "look"}}
        server.close()

    asyncio.run(try_it())


@pytest.mark.filterwarnings("ignore")
async def test_a_fault_of_the_daemon_ends_the_connection(path: Path) -> None:
    """Whoever waits for an answer hears that there will be none, and the next one is served."""
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    assert await ask(path, orjson.dumps({"operation": "fail", "arguments": {}})) == []
    assert await ask(path, REQUEST) == [{"result": {"did": "look"}}]
    assert seen
