"""``cluster-store demo``: the product's main job on this host, told step by step with the real commands."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster_store.core.errors import ClusterStoreError

PASSWORD = "correct horse battery staple"  # noqa: S105 - of three machines that live for a minute
#: How long anything may take that the demo waits for, seconds.
_PATIENCE_S = 20.0


class DemoError(ClusterStoreError):
    """A step did not do what the product promises."""


class Stage:
    """Three machines in one folder, and the story told of them."""

    def __init__(self, root: Path, *, quiet: bool) -> None:
        """Play in an empty folder."""
        self.root = root
        self.quiet = quiet
        self.daemons: dict[str, subprocess.Popen[str]] = {}

    def say(self, text: str) -> None:
        """Tell a step."""
        if not self.quiet:
            typer.secho(f"\n{text}", bold=True)

    def run(self, machine: str, *words: str, typed: str = "", status: int = 0, show: bool = True) -> str:
        """Run a command on a machine, show it with its output, and insist on its exit status."""
        command = [sys.executable, "-m", "cluster_store_cli", "--store", str(self.root / machine), *words]
        errors = subprocess.STDOUT if show else subprocess.PIPE
        done = subprocess.run(
            command, input=typed, stdout=subprocess.PIPE, stderr=errors, text=True, timeout=60, check=False
        )
        if show and not self.quiet:
            shown = " ".join(f"'{word}'" if set(word) & set(' "[]$') else word for word in words)
            typer.secho(f"{machine}$ cluster-store {shown}", fg="green")
            typer.echo(done.stdout.rstrip())
        said = (done.stderr or done.stdout).strip()
        ended = f"'{' '.join(words)}' on {machine} ended with {done.returncode}, not {status}"
        self.expect(done.returncode == status, f"{ended}: {said}")
        return done.stdout

    def ask(self, machine: str, *words: str, status: int = 0) -> Any:
        """Run a command for its JSON, without showing it."""
        return json.loads(self.run(machine, *words, "--json", status=status, show=False))

    def serve(self, machine: str) -> None:
        """Start a machine's daemon and wait for its line."""
        command = [sys.executable, "-m", "cluster_store_cli", "--store", str(self.root / machine), "serve"]
        log = (self.root / f"{machine}.log").open("w")
        daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        log.close()
        self.daemons[machine] = daemon
        assert daemon.stdout is not None
        line = daemon.stdout.readline().strip()
        self.expect(bool(line), f"the daemon of {machine} did not start: {(self.root / f'{machine}.log').read_text()}")
        if not self.quiet:
            typer.secho(f"{machine}$ cluster-store serve &", fg="green")
            typer.echo(line)

    def stop(self) -> None:
        """End every daemon."""
        for daemon in self.daemons.values():
            daemon.terminate()
        for daemon in self.daemons.values():
            daemon.wait(timeout=_PATIENCE_S)
            assert daemon.stdout is not None
            daemon.stdout.close()

    def expect(self, condition: bool, what: str) -> None:
        """Fail loudly where something is not as promised."""
        if not condition:
            raise DemoError(
                f"the demo failed: {what}", "'cluster-store demo --keep DIR' leaves the machines and their logs there"
            )

    def converge(self, *machines: str) -> None:
        """Wait until machines have equal digests and conflicts."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            states = [self.ask(machine, "status") for machine in machines]
            if len({(state["digest"], state["lanes_digest"]) for state in states}) == 1:
                return
            self.expect(time.monotonic() < deadline, f"{', '.join(machines)} did not converge")
            time.sleep(0.1)


def demo(
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help="Play in this folder and leave it there.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only say how it ended.")] = False,
) -> None:
    """Show the main job: three machines on this host, a cut, a merge, the audit log."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cluster-store-demo-") as temporary:
        stage = Stage(keep or Path(temporary), quiet=quiet)
        stage.root.mkdir(parents=True, exist_ok=True)
        try:
            _form_a_cluster(stage)
            _share_settings(stage)
            _cut_and_change(stage)
            _meet_again(stage)
            _look_back(stage)
        finally:
            stage.stop()
    typer.secho(f"\nAll as promised, in {time.monotonic() - began:.0f} seconds.", bold=True)


def _form_a_cluster(stage: Stage) -> None:
    stage.say("1. Three machines, each with a store, three keys and a daemon of its own")
    for machine in ("mx1", "mx2", "mx3"):
        stage.run(
            machine,
            *("init", "--hostname", f"{machine}.example.com", "--interface", "Management=127.0.0.1"),
            *("--listen", "127.0.0.1", "--ssh-port", "0", "--ccs-port", "0", "--password-stdin"),
            typed=PASSWORD + "\n",
        )
        stage.serve(machine)
    stage.say("2. One makes a cluster, the others join it over SSH")
    stage.run("mx1", "clusterconfig", "create", "americas", "--by", "ip")
    first = stage.ask("mx1", "status")
    for machine in ("mx2", "mx3"):
        stage.run(
            machine,
            *("clusterconfig", "join", f"127.0.0.1:{first['ssh_port']}", "--ssh", "--password-stdin", "--yes"),
            *("--fingerprint", first["fingerprint"]),
            typed=PASSWORD + "\n",
        )
    stage.run("mx1", "clusterconfig", "addgroup", "paris")
    stage.run("mx1", "clusterconfig", "setgroup", "mx3.example.com", "paris")
    stage.converge("mx1", "mx2", "mx3")
    stage.run("mx2", "clusterconfig", "list")


def _share_settings(stage: Stage) -> None:
    stage.say("3. Settings at three levels; the most specific one wins, key by key")
    stage.run("mx1", "set", "smtp.banner", "Welcome to example.com", "-m", "one greeting for all")
    stage.run("mx2", "set", "smtp.banner", "Bienvenue", "--level", "group:paris", "-m", "Paris speaks French")
    stage.run("mx1", "set", "smtp.max_connections", "500", "--level", "machine:mx2.example.com", "-m", "the big box")
    stage.run("mx1", "set", "smtp.max_connections", "100", "--level", "cluster", "-m", "a safe default")
    stage.run("mx1", "add", "relay.hosts", "192.0.2.1", "-m", "the first relay")
    stage.converge("mx1", "mx2", "mx3")
    for machine, banner, connections in (
        ("mx1", "Welcome to example.com", 100),
        ("mx2", "Welcome to example.com", 500),
        ("mx3", "Bienvenue", 100),
    ):
        stage.run(machine, "get", "smtp.banner")
        stage.expect(stage.ask(machine, "get", "smtp.banner")["value"] == banner, f"the banner of {machine}")
        value = stage.ask(machine, "get", "smtp.max_connections")["value"]
        stage.expect(value == connections, f"the connections of {machine}")
    stage.run("mx2", "explain", "smtp.max_connections")


def _cut_and_change(stage: Stage) -> None:
    stage.say("4. mx3 is detached. Both sides go on working, and both change things")
    stage.run("mx1", "clusterconfig", "disconnect", "mx3.example.com")
    _wait_for_detachment(stage)
    stage.run("mx1", "clusterconfig", "connstatus")
    stage.run("mx1", "set", "smtp.max_connections", "250", "--level", "cluster", "-m", "more traffic")
    stage.run("mx1", "add", "relay.hosts", "192.0.2.2", "-m", "a second relay")
    stage.run("mx2", "set", "dns.primary", "192.0.2.53", "-m", "a new resolver")
    stage.run("mx3", "set", "smtp.max_connections", "80", "--level", "cluster", "-m", "we are under attack")
    stage.run("mx3", "add", "relay.hosts", "198.51.100.7", "-m", "a relay in Paris")
    stage.run("mx3", "set", "tls.level", "encrypt", "--level", "group:paris", "-m", "required in Paris")
    stage.converge("mx1", "mx2")
    apart = {stage.ask(machine, "status")["digest"] for machine in ("mx1", "mx3")}
    stage.expect(len(apart) == 2, "the two sides must differ while they are apart")  # noqa: PLR2004 - two sides


def _wait_for_detachment(stage: Stage) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not stage.ask("mx3", "status")["detached"]:
        stage.expect(time.monotonic() < deadline, "mx3 was not told that it is detached")
        time.sleep(0.1)


def _meet_again(stage: Stage) -> None:
    stage.say("5. mx3 is taken back. Nobody has to merge anything: all three end with one state")
    stage.run("mx1", "clusterconfig", "reconnect", "mx3.example.com")
    stage.converge("mx1", "mx2", "mx3")
    for machine in ("mx1", "mx2", "mx3"):
        state = stage.ask(machine, "status")
        if not stage.quiet:
            typer.echo(f"{machine}: {state['records']} records, digest {state['digest'][:16]}")
    relays = stage.ask("mx2", "get", "relay.hosts")["value"]
    stage.expect(sorted(relays) == ["192.0.2.1", "192.0.2.2", "198.51.100.7"], "every addition to a set survives")
    stage.run("mx2", "get", "relay.hosts")
    stage.expect(
        stage.ask("mx1", "get", "tls.level", "--machine", "mx3.example.com")["value"] == "encrypt", "tls.level"
    )
    stage.say("6. What both sides changed is kept, both values, and shown until somebody settles it")
    stage.run("mx2", "clustercheck", status=3)
    found = stage.ask("mx2", "clustercheck", status=3)["conflicts"]
    stage.expect([conflict["path"] for conflict in found] == ["cluster:smtp.max_connections"], "exactly one conflict")
    stage.expect(sorted(lane["value"] for lane in found[0]["lanes"]) == [80, 250], "both values of the conflict")
    stage.run("mx2", "set", "smtp.max_connections", "200", "--level", "cluster", "-m", "settled between us")
    stage.converge("mx1", "mx2", "mx3")
    stage.run("mx3", "clustercheck")


def _look_back(stage: Stage) -> None:
    stage.say("7. The audit log: who changed what, where, when and why, on every machine alike")
    stage.run("mx3", "log", "-n", "12")
    logs = [{line["id"] for line in _lines(stage, machine)} for machine in ("mx1", "mx2", "mx3")]
    stage.expect(logs[0] == logs[1] == logs[2], "every machine has every event")
    stage.say("8. And it can be proved: hashes, signatures, documents and tables agree")
    for machine in ("mx1", "mx2", "mx3"):
        stage.run(machine, "verify", "--every-signature")
    replayed = stage.run("mx3", "replay", show=False)
    stage.expect(stage.ask("mx3", "status")["digest"] in replayed, "a replay of the log ends with the live digest")


def _lines(stage: Stage, machine: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stage.run(machine, "log", "--json", show=False).splitlines()]
