"""Who is let in over SSH, with which keys and algorithms, and what happens to passwords."""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from cluster_store.adapters.keys import Keys
from cluster_store.adapters.ssh_client import fingerprint
from cluster_store.adapters.ssh_link import Times
from cluster_store.core.errors import InvalidValue, LinkError
from tests.adapters.ssh_site import LOOPBACK, Site, read_to_the_end, running


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A listening machine with the times of a real one, except that it does not wait long to close."""
    async with running(Times(close=0.5)) as made:
        yield made


async def test_links_use_the_preferred_algorithms(site: Site) -> None:
    """AES-128-GCM without compression, whichever side asks asyncssh what was agreed."""
    link: Any = await site.dial()
    connection = link.stream._connection
    agreed = {
        connection.get_extra_info(f"{way}_{what}") for way in ("send", "recv") for what in ("cipher", "compression")
    }
    assert agreed == {"aes128-gcm@openssh.com", "none"}


@pytest.mark.parametrize(
    "weak",
    [
        {"encryption_algs": ["aes128-ctr", "aes256-cbc"]},
        {"kex_algs": ["diffie-hellman-group14-sha256", "ecdh-sha2-nistp256"]},
        {"server_host_key_algs": ["rsa-sha2-256", "ecdsa-sha2-nistp256"]},
        {"compression_algs": ["zlib@openssh.com"]},
    ],
    ids=lambda weak: next(iter(weak)),
)
async def test_other_algorithms_are_not_offered(site: Site, weak: dict[str, Any]) -> None:
    """A client that insists on anything else gets no connection."""
    with pytest.raises(asyncssh.KeyExchangeFailed):
        await site.client(**weak)


async def test_a_host_key_can_be_looked_at_before_anything_is_sent(site: Site) -> None:
    """The fingerprint that a person compares is that of the key that the machine listens with."""
    assert await fingerprint(LOOPBACK, site.port) == Keys.fingerprint(site.mx1.host_key_line)
    assert site.node.passwords == []


async def test_nothing_of_the_user_s_own_is_used(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration, no known_hosts, no key and no agent of the person who runs the program changes a dial."""
    folder = tmp_path / ".ssh"
    folder.mkdir()
    (folder / "config").write_text("Port unreadable\nHost *\n  User nobody\n  Ciphers aes256-cbc\n")
    (folder / "known_hosts").write_text(f"* {site.mx2.host_key_line}\n")
    (folder / "id_ed25519").write_bytes(Keys.generate().client_private)
    calls: list[int] = []

    async def agent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(1)
        writer.close()

    async with await asyncio.start_unix_server(agent, tmp_path / "agent"):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        link = await site.dial()
        assert (await site.ask())["user"] == "admin"
        await link.close()
    assert calls == []


async def test_a_user_without_a_name_can_dial(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container a process may run under a uid that no table names."""

    def nameless() -> str:
        if "LOGNAME" in os.environ:
            return os.environ["LOGNAME"]
        raise KeyError("uid not found")

    monkeypatch.delenv("LOGNAME", raising=False)
    monkeypatch.setattr(getpass, "getuser", nameless)
    await (await site.dial()).close()


class _Collector(logging.Handler):
    """Keeps every line that it is given."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {record.getMessage()}")


@contextmanager
def _collecting(name: str) -> Iterator[list[str]]:
    """Collect what a logger and those under it log, down to the last detail."""
    collector, logger = _Collector(), logging.getLogger(name)
    level = logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.DEBUG)
    try:
        yield collector.lines
    finally:
        logger.setLevel(level)
        logger.removeHandler(collector)


async def test_a_password_is_in_no_log_and_no_error(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """Not even with all that asyncssh can be made to log; and nothing reaches the terminal."""
    asyncssh.set_debug_level(2)
    try:
        with _collecting("asyncssh") as lines, pytest.raises(LinkError) as caught:
            await site.ask("hunter2 hunter2")
    finally:
        asyncssh.set_debug_level(1)
    assert lines
    text = "\n".join(lines) + repr(caught.value) + caught.value.describe() + str(caught.value.__cause__)
    assert "hunter2" not in text
    assert capfd.readouterr() == ("", "")


async def test_what_the_ssh_library_logs_is_not_what_the_program_logs(site: Site) -> None:
    """A daemon that logs to a terminal or a file says nothing of packets and channels there."""
    with _collecting("") as lines:
        await (await site.dial()).close()
    assert [line for line in lines if line.startswith("asyncssh")] == []


async def test_a_password_that_is_not_text_is_refused_without_repeating_it(site: Site) -> None:
    """A surrogate from a wrongly decoded terminal is named as such before anything is sent."""
    with pytest.raises(InvalidValue) as caught:
        await site.ask("hunter2\udcff")
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert site.node.passwords == []


async def test_what_a_peer_says_cannot_drive_the_terminal(site: Site) -> None:
    """Control characters in another machine's words are taken out of our errors."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-x\r\n")
        reason = b"\x1b[2Jgone"
        payload = b"\x01" + (2).to_bytes(4) + len(reason).to_bytes(4) + reason + (0).to_bytes(4)
        padding = 8 - (5 + len(payload)) % 8 + 8
        writer.write((1 + len(payload) + padding).to_bytes(4) + bytes([padding]) + payload + bytes(padding))
        await read_to_the_end(reader)
        writer.close()

    async with await asyncio.start_server(shout, LOOPBACK, 0) as server:
        with pytest.raises(LinkError) as caught:
            await site.dial(port=server.sockets[0].getsockname()[1])
    assert "gone" in caught.value.message
    assert "\x1b" not in caught.value.describe()
