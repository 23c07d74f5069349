"""How people get in over SSH, what they are given, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import asyncssh
import pytest
from asyncssh.sk_eddsa import _SKEd25519Key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cluster_store.adapters.ssh_link import REQUEST_SUBSYSTEM, Times
from cluster_store.ports import Conversation, Terminal
from tests.adapters.ssh_site import PASSWORD, Site, running


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A listening machine that knows a key of admin's."""
    async with running(Times(close=0.5)) as made:
        made.node.keys.add(_line(KEY))
        yield made


KEY, OTHER_KEY = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
RSA_KEY = asyncssh.generate_private_key("ssh-rsa", key_size=2048)


def _line(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


async def _said(person: asyncssh.SSHClientConnection, command: str | None = "x", **more: Any) -> str:
    """Return how a person's command ended and what it printed."""
    async with person:
        done = await asyncio.wait_for(person.run(command, stdin=asyncssh.DEVNULL, **more), 30)
    return f"{done.exit_status} {done.stdout!s}"


async def test_a_key_on_record_logs_in(site: Site) -> None:
    """Without a password, also an RSA key; the node is told which way it was."""
    site.node.keys.add(_line(RSA_KEY))
    for key in (KEY, RSA_KEY):
        person = await site.person(password=None, client_keys=[key])
        assert await _said(person) == "7 ('admin', 'key', 'x', None)\n"
    assert site.node.passwords == []


@pytest.mark.parametrize("touched", [True, False])
async def test_a_key_in_hardware_logs_in_when_it_is_touched(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, touched: bool
) -> None:
    """As those that are plugged in: without a touch its signature is not enough."""
    hidden = Ed25519PrivateKey.generate()
    public = hidden.public_key().public_bytes_raw()
    key = _SKEd25519Key.make_private((public, "ssh:", 1, b"a handle", b""))
    site.node.keys.add(_line(key))

    def sign(data: bytes, application: str, *_: object) -> tuple[int, int, bytes, None]:
        signed = sha256(application.encode()).digest() + bytes([touched, 0, 0, 0, 7]) + sha256(data).digest()
        return int(touched), 7, hidden.sign(signed), None

    monkeypatch.setattr("asyncssh.sk_eddsa.sk_sign", sign)
    if touched:
        person = await site.person(password=None, client_keys=[key])
        assert await _said(person) == "7 ('admin', 'key', 'x', None)\n"
    else:
        with pytest.raises(asyncssh.PermissionDenied):
            await site.person(password=None, client_keys=[key])


@pytest.mark.parametrize("login", [{"client_keys": [OTHER_KEY]}, {"client_keys": [KEY], "username": "eve"}])
async def test_another_key_does_not(site: Site, login: dict[str, Any]) -> None:
    """Neither a key that is not on record, nor the key of somebody else."""
    with pytest.raises(asyncssh.PermissionDenied):
        await site.person(password=None, **login)


@pytest.mark.parametrize(
    "login",
    [
        {"password": PASSWORD, "client_keys": None},
        {"password": None, "client_keys": [KEY]},
        {"password": "wrong", "client_keys": [KEY]},
        {"password": PASSWORD, "client_keys": [OTHER_KEY]},
    ],
    ids=["password", "key", "wrong password", "wrong key"],
)
async def test_where_both_are_required_one_is_not_enough(site: Site, login: dict[str, Any]) -> None:
    """A right key or a right password alone opens nothing."""
    site.node.both = True
    with pytest.raises(asyncssh.PermissionDenied):
        await site.person(**login)


@pytest.mark.parametrize("order", ["publickey,password", "password,publickey"])
async def test_where_both_are_required_both_log_in(site: Site, order: str) -> None:
    """In either order; the node is told that it was both."""
    site.node.both = True
    person = await site.person(client_keys=[KEY], preferred_auth=order)
    assert await _said(person) == "7 ('admin', 'key+password', 'x', None)\n"


async def test_proofs_of_two_users_are_not_added_up(site: Site) -> None:
    """Whoever proves a key as one user and then gives a password as another has proven one thing of each."""
    site.node.both = True

    class Changing(asyncssh.SSHClient):
        def password_auth_requested(self) -> str:
            connection: Any = self.connection
            connection._username = "Admin"
            return PASSWORD

        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            self.connection = conn

    with pytest.raises(asyncssh.Error):
        await site.person(password=None, client_keys=[KEY], client_factory=Changing)


async def test_nobody_gets_in_with_less_whatever_the_library_does(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where asyncssh calls it a login after one of two proofs, the connection is dropped."""
    site.node.both = True

    async def at_once(guest: Any) -> None:
        guest._proven.add(guest._means)
        await guest._log_in()

    monkeypatch.setattr("cluster_store.adapters.ssh_server._Guest._take_proof", at_once)
    with pytest.raises((asyncssh.Error, OSError)):
        await _said(await site.person(client_keys=None))


async def test_what_was_proven_is_worth_nothing_once_the_user_is_changed(site: Site) -> None:
    """Somebody who logged in and asked for nothing yet gets nothing when their keys have been changed since."""
    asked: list[dict[str, Any]] = [{"command": "x"}, {"subsystem": REQUEST_SUBSYSTEM}]
    for ask in asked:
        async with await site.person() as person:
            site.node.keys.add(f"another {len(site.node.keys)}")
            done = await asyncio.wait_for(person.run(stdin=asyncssh.DEVNULL, **ask), 30)
        assert done.exit_status == 1
        assert done.stdout == ""
        assert "your user was changed" in str(done.stderr) or "subsystem" in ask


async def test_a_key_alone_opens_no_requests(site: Site) -> None:
    """The subsystem by which a machine joins is for those who gave a password."""
    async with await site.person(password=None, client_keys=[KEY]) as person:
        done = await asyncio.wait_for(person.run(subsystem=REQUEST_SUBSYSTEM, stdin=asyncssh.DEVNULL), 30)
    assert done.exit_status == 1


async def test_a_machine_has_no_command_line(site: Site) -> None:
    """Its key opens links only: a command or a prompt is refused in a sentence."""
    for command in ("get x", None):
        async with await site.client() as machine:
            done = await asyncio.wait_for(machine.run(command, stdin=asyncssh.DEVNULL), 30)
        assert done.exit_status == 1
        assert "cluster-store: this service" in str(done.stderr)


async def test_the_size_of_a_window_is_passed_on(site: Site) -> None:
    """When somebody begins, and whenever it changes."""
    seen: asyncio.Queue[Terminal | None] = asyncio.Queue()

    async def watch(conversation: Conversation) -> None:
        conversation.on_resize(seen.put_nowait)
        seen.put_nowait(conversation.terminal)
        await conversation.gone.wait()

    site.node.converse = watch
    async with await site.person() as person:
        process = await person.create_process("x", term_type="xterm", term_size=(80, 24))
        assert await asyncio.wait_for(seen.get(), 30) == Terminal("xterm", 80, 24)
        process.change_terminal_size(132, 50)
        assert await asyncio.wait_for(seen.get(), 30) == Terminal("xterm", 132, 50)


@pytest.mark.parametrize("how", ["signal", "disconnect"])
async def test_a_person_who_goes_ends_what_goes_on(site: Site, how: str) -> None:
    """A signal and a lost connection both say that nobody wants it any more."""
    gone = asyncio.Event()

    async def wait(conversation: Conversation) -> None:
        await conversation.write(b"waiting\n")
        await conversation.gone.wait()
        gone.set()

    site.node.converse = wait
    person = await site.person()
    process = await person.create_process("x")
    assert await asyncio.wait_for(process.stdout.readline(), 30) == "waiting\n"
    if how == "signal":
        process.send_signal("INT")
    else:
        person.abort()
    await asyncio.wait_for(gone.wait(), 30)
    person.abort()


async def test_no_environment_is_kept(site: Site) -> None:
    """However much of it a client sends."""
    kept: list[object] = []

    async def look(conversation: Any) -> None:
        kept.append(dict(conversation.stream._channel.get_environment_bytes()))
        conversation.finish(0)

    site.node.converse = look
    async with await site.person() as person:
        await asyncio.wait_for(person.run("x", env={"LANG": "de", "LD_PRELOAD": "x.so"}, stdin=asyncssh.DEVNULL), 30)
    assert kept == [{}]


async def test_no_agent_and_no_display_are_forwarded(site: Site) -> None:
    """A request for either is refused."""
    async with await site.person() as person:
        with pytest.raises(asyncssh.ChannelOpenError):
            await person.create_process("x", x11_forwarding=True, x11_display="127.0.0.1:0")
