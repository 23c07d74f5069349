"""``simulate`` as people and scripts meet it: verdicts, failures that can be repeated, pictures, rehearsals."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from cluster_store_cli import seeds

from cluster_store.simulation import scale
from cluster_store.simulation.invariants import INVARIANTS, Invariants, Violation
from cluster_store.simulation.options import draw
from cluster_store.simulation.run import simulate
from tests.cli.stores import Printed, run
from tests.collisions import stored_collision

#: Small runs: what is asked for here is how they are told.
SMALL = ("--machines", "2", "--events", "6")
CONTRACT = {"seed", "options", "passed", "digest", "events", "conflicts", "steps"}


def plant(patch: pytest.MonkeyPatch) -> None:
    """Let an invariant break as soon as a machine has nine records."""

    def broken(invariants: Invariants) -> None:
        for host in invariants._fleet.hosts:
            if len(host.log.disk.records) >= 9:
                raise Violation(3, host.name, "there are nine")

    patch.setattr(Invariants, "check_step", broken)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of one of two machines."""
    folder = tmp_path_factory.mktemp("collision")
    asyncio.run(stored_collision(folder))
    return folder / "mx1"


# --- verdicts ---


def test_a_seed_is_one_json_document() -> None:
    """It has what scripts rely on, and nothing that only a failure has."""
    told = json.loads(run("simulate", "--seed", "4", *SMALL, "--json").expect(0).out)
    assert told.keys() >= CONTRACT
    assert (told["seed"], told["passed"], told["options"]["events"]) == (4, True, 6)
    assert {"failure", "trace", "smallest", "collided", "repeat"}.isdisjoint(told)


def test_people_see_every_option_that_was_drawn() -> None:
    """One line says how it went, the next with what."""
    said = run("simulate", "--seed", "4", *SMALL).expect(0).out.splitlines()
    assert said[0].startswith("seed 4: passed, ")
    assert all(f"{name} " in said[1] for name in draw(4).__struct_fields__)


def test_several_processes_say_the_same_in_the_same_order() -> None:
    """How many seeds are run at once changes nothing but the time."""
    one, two = (run("simulate", "--seed", "0", "--seeds", "6", *SMALL, "--jobs", jobs).expect(0) for jobs in "12")
    assert one.out == two.out
    assert [line.split(":")[0] for line in one.out.splitlines()[::2]] == [f"seed {number}" for number in range(6)]
    assert two.err == "6 seeds: 6 passed\n"


def test_an_interrupt_tells_how_far_it_came() -> None:
    """Status 130, one line, no traceback, and no process is left that goes on."""
    command = [sys.executable, "-m", "cluster_store_cli", "simulate", "--seed", "0", "--seeds", "100000", *SMALL]
    with subprocess.Popen(
        [*command, "--jobs", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("seed 0: ")
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert len(said.splitlines()) == 1
    assert said.startswith("interrupted after ")
    assert "; go on with --seed " in said


def test_whoever_waits_at_a_terminal_sees_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds done, failures and speed; nothing of it in a file."""

    class Terminal(Printed):
        def isatty(self) -> bool:
            return True

    shown = Terminal(io.BytesIO(), encoding="utf-8", write_through=True)
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    verdict = simulate(1, draw(1, machines=2, events=2))
    with seeds.progress(2) as told:
        told(verdict)
        told(verdict)
    assert "2 of 2 seeds" in shown.text()
    assert "0 failed" in shown.text()
    assert "a minute" in shown.text()


# --- failures ---


def test_a_failure_says_which_invariant_broke_and_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 3; number, sentence, the page that explains it, the trace up to there, and a command that ends so too."""
    plant(monkeypatch)
    outcome = run("simulate", "--seed", "4", "--events", "40").expect(3)
    # At which machine depends on the workload, and that changes with the commands that there are.
    assert re.search(rf"invariant 3 broke at \w+: {re.escape(INVARIANTS[3])}: there are nine", outcome.out)
    assert "docs/invariants.md" in outcome.out
    assert outcome.out.rstrip().endswith("there are nine")
    command = next(line for line in outcome.out.splitlines() if "see it again: " in line).partition(": ")[2]
    program, *words = shlex.split(command)
    assert program == "cluster-store"
    again = json.loads(run(*words, "--json").expect(3).out)
    assert again["invariant"] == 3
    assert again["options"]["events"] < 40
    assert again["trace"][-1].endswith("there are nine")


def test_a_failure_is_whole_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts get the trace, the smallest run that fails so, and the command."""
    plant(monkeypatch)
    told = json.loads(run("simulate", "--seed", "4", "--events", "40", "--json").expect(3).out)
    assert told.keys() >= CONTRACT | {"invariant", "broken", "page", "failure", "trace", "smallest", "repeat"}
    assert told["broken"] == INVARIANTS[3]
    assert told["smallest"]["options"]["events"] < 40
    assert told["smallest"]["trace"]


def test_many_seeds_end_with_those_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ran a thousand need not look through a thousand lines."""
    plant(monkeypatch)
    outcome = run("simulate", "--seed", "0", "--seeds", "2", "--events", "20", "--jobs", "1").expect(3)
    assert outcome.err == "2 seeds: 0 passed, and these failed: 0, 1\n"


# --- pictures ---


def test_a_run_is_drawn_into_a_file(tmp_path: Path) -> None:
    """The verdict is told as always."""
    file = tmp_path / "run.svg"
    outcome = run("simulate", "--seed", "4", *SMALL, "--plot", str(file)).expect(0)
    assert outcome.out.startswith("seed 4: passed")
    assert ET.parse(file).getroot().tag.endswith("svg")  # noqa: S314 - what is parsed was written here


def test_a_picture_on_standard_output_is_alone_there() -> None:
    """The verdict goes aside."""
    outcome = run("simulate", "--seed", "4", *SMALL, "--plot", "-").expect(0)
    assert ET.fromstring(outcome.out).tag.endswith("svg")  # noqa: S314 - the same
    assert outcome.err.startswith("seed 4: passed")


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    """One run makes one picture, and a folder that is not there makes none."""
    assert "--plot" in run("simulate", "--seeds", "2", "--plot", "run.svg").expect(2).err
    outcome = run("simulate", "--seed", "4", *SMALL, "--plot", str(tmp_path / "none" / "run.svg")).expect(1)
    assert "cannot be written" in outcome.err


# --- large fleets ---


def test_a_large_fleet_is_measured_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One JSON document, and a picture of how changes spread; the same seed says the same again, as a table."""
    monkeypatch.setattr(scale, "_CUT_MS", 70_000)
    monkeypatch.setattr(scale, "_SETTLE_MS", 1_000)
    file = tmp_path / "scale.svg"
    words = ("simulate", "--scale", "22", "--seed", "1", "--events", "1")
    told = json.loads(run(*words, "--plot", str(file), "--json").expect(0).out)
    assert (told["machines"], told["seed"], told["single"]["events"]) == (22, 1, 1)
    assert "among 22 machines" in file.read_text()
    assert ET.parse(file).getroot().tag.endswith("svg")  # noqa: S314 - what is parsed was written here
    said = run(*words).expect(0).out
    assert said.startswith(f"22 machines, seed 1, events of {told['event_bytes']} bytes")
    assert f"{told['single']['hops_mean']:g}, at most {told['single']['hops_max']}" in said


def test_a_picture_of_a_large_fleet_on_standard_output_is_alone_there() -> None:
    """It can go to whatever shows pictures."""
    out = run("simulate", "--scale", "2", "--seed", "1", "--events", "1", "--plot", "-").expect(0).out
    assert ET.fromstring(out).tag.endswith("svg")  # noqa: S314 - the same


@pytest.mark.parametrize("beside", [("--machines", "3"), ("--seeds", "2"), ("--faults", "cut"), ("--jobs", "2")])
def test_what_does_not_go_with_a_large_fleet_is_refused(beside: tuple[str, str]) -> None:
    """By its name."""
    assert beside[0] in run("simulate", "--scale", "22", *beside).expect(2).err


# --- rehearsals ---


def test_a_rehearsal_tells_what_would_collide_and_leaves_the_store_as_it_is(store: Path) -> None:
    """Its machines, the faults that were named, each register with its values and their authors; nothing is written."""
    before = (store / "cluster.db").read_bytes()
    words = ("simulate", "--replay-log", str(store), "--faults", "cut,crash", "--events", "40")
    outcome = run(*words, "--seed", "0", "--seeds", "12", "--jobs", "1", "--json").expect(0)
    told = [json.loads(line) for line in outcome.out.splitlines()]
    assert {one["options"]["machines"] for one in told} == {2}
    assert all(set(one["options"]["faults"]) == {"cut", "crash"} for one in told)
    seed, collided = next((one["seed"], one["collided"]) for one in told if "collided" in one)
    assert {machine for one in collided for machine, _ in one["lanes"]} <= {"mx1", "mx2"}
    said = run(*words, "--seed", str(seed)).expect(0).out
    assert all(f"collided: {one['path']}: " in said for one in collided)
    assert (store / "cluster.db").read_bytes() == before


def test_what_cannot_be_rehearsed_is_refused(store: Path, tmp_path: Path) -> None:
    """No store, a damaged one, a machine alone, and machines that are not those of the log."""
    assert "there is no store" in run("simulate", "--replay-log", str(tmp_path)).expect(1).err
    broken = tmp_path / "cluster.db"
    data = (store / "cluster.db").read_bytes()
    broken.write_bytes(data[: len(data) // 2])
    outcome = run("simulate", "--replay-log", str(tmp_path)).expect(1)
    assert 1 <= len(outcome.err.splitlines()) <= 2
    assert "bug" not in outcome.err
    assert "--machines" in run("simulate", "--replay-log", str(store), "--machines", "3").expect(2).err
