"""What a login may reach of the program, which runs for it on the login host."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster_store_cli import logins
from cluster_store_cli.catalogue import COMMANDS, FAMILIES

from cluster_store import bootstrap
from cluster_store.adapters.local_client import LOGIN_VARIABLE
from cluster_store.core.errors import Refused
from cluster_store.core.roles import ADMINISTRATOR, GUEST, OPERATOR, Caller
from tests.cli.stores import Outcome, Store, run


class Login:
    """The program as it runs for a login: the store and the token in its environment, the role from the daemon."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("CLUSTER_STORE", str(store.root))
        monkeypatch.setenv(LOGIN_VARIABLE, "a token")

    def as_(self, role: str) -> Login:
        """Let the daemon say that it is somebody of a role."""
        self._monkeypatch.setattr(bootstrap, "whoami", lambda _: Caller("eve", role, "key"))
        return self

    def run(self, *words: str, typed: str = "") -> Outcome:
        """Run a command."""
        return run(*words, typed=typed)

    def refused(self, *words: str) -> str:
        """Run a command that must be refused; return why."""
        outcome = self.run(*words).expect(1)
        assert outcome.out == ""
        return outcome.err


@pytest.fixture
def login(member: Store, monkeypatch: pytest.MonkeyPatch) -> Login:
    """A login to a member with a secret."""
    member.do("set", "relay.password", "--secret", "--password-stdin", "-m", "why", typed="geheim")
    member.do("set", "smtp.banner", "welcome", "-m", "why")
    return Login(member, monkeypatch)


def test_every_command_has_its_place() -> None:
    """Whoever adds a command says how far it reaches for a login; what says nothing is for the login host only."""
    every = {
        f"{name} {operation}" if operation else name for name in COMMANDS for operation in FAMILIES.get(name, [""])
    }
    assert every == {*logins.REACH, *logins.HOST_ONLY}
    assert not logins.HOST_ONLY.intersection(logins.REACH)


@pytest.mark.parametrize("command", sorted(logins.HOST_ONLY))
def test_what_works_on_the_host_is_refused_to_everybody(command: str) -> None:
    """An administrator who logged in is no owner of the store's files."""
    with pytest.raises(Refused, match="works on the login host only"):
        logins.check(Caller("eve", ADMINISTRATOR, "key"), command, {})


@pytest.mark.parametrize("command", sorted(logins.REACH))
def test_a_command_takes_its_role(command: str) -> None:
    """Whoever is less hears what it takes, before anything is asked."""
    roles = (GUEST, OPERATOR, ADMINISTRATOR)
    needed = roles.index(logins.REACH[command].role)
    for role in roles[:needed]:
        with pytest.raises(Refused, match=f"may not do '{command}': it takes an {roles[needed]}"):
            logins.check(Caller("eve", role, "key"), command, {})
    for role in roles[needed:]:
        logins.check(Caller("eve", role, "key"), command, {})


ON_THE_HOST = (
    "backup FILE",
    "saveconfig FILE",
    "loadconfig FILE",
    "userconfig new mallory --role guest --key FILE",
    "userconfig edit admin --key - --key FILE",
    "watch --exec FILE",
    "replay --export FILE",
    "replay --export -",
    "init --hostname x",
    "--store FILE get smtp.banner",
    "--store FILE status",
    "restore FILE",
    "demo",
    "simulate",
    "repair",
    "serve",
)


def test_nothing_of_the_host_is_in_reach(login: Login, tmp_path: Path) -> None:
    """Neither its files nor its programs, not even for an administrator; nothing is written anywhere."""
    file = tmp_path / "file"
    for command in ON_THE_HOST:
        words = [word.replace("FILE", str(file)) for word in command.split()]
        assert "login host" in login.as_(ADMINISTRATOR).refused(*words), command
        assert not file.exists(), command


def test_files_pass_through_the_login_itself(login: Login) -> None:
    """What a login types and reads is its own: ``-`` stands for it."""
    saved = login.as_(GUEST).run("saveconfig", "-").expect(0)
    assert '"smtp.banner"' in saved.out
    dry = login.as_(OPERATOR).run("loadconfig", "-", "--format", "json", "--dry-run", typed='{"a": 1}').expect(0)
    assert "a" in dry.out


def test_only_administrators_see_secrets(login: Login) -> None:
    """Whichever way it is asked for; and the rest of what others read holds none either."""
    for role in (GUEST, OPERATOR):
        for form in ([], ["--json"], ["-r"], ["--level", "cluster"]):
            assert "relay.password is secret" in login.as_(role).refused("get", "relay.password", *form)
        for shown in ("showconfig", "explain relay.password", "log --json", "clustershow --json", "replay --json"):
            outcome = login.as_(role).run(*shown.split())
            assert "geheim" not in outcome.out + outcome.err, shown
    assert login.as_(ADMINISTRATOR).run("get", "relay.password", "-r").expect(0).out == "geheim\n"


def test_without_its_daemon_a_login_does_nothing(member: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process could open the store by itself, and must not: it would do so as the store's owner."""
    before = member.state()
    with monkeypatch.context() as environment:
        environment.setenv("CLUSTER_STORE", str(member.root))
        environment.setenv(LOGIN_VARIABLE, "a token")
        for words in (("set", "a", "1"), ("get", "a"), ("status",), ("serve",), ("passwd", "--password-stdin")):
            assert "the daemon that this login went through is gone" in run(*words, typed="x\n").expect(1).err
        with pytest.raises(Refused, match="works on the login host only"):
            bootstrap.serve(member.root, print)
    assert member.state() == before
