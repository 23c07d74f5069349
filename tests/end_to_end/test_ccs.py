"""CCS: a listener for machines only, joining without a password, and a running cluster that changes its ways."""

from __future__ import annotations

import re
import socket
from itertools import combinations
from pathlib import Path

from tests.end_to_end.machines import PASSWORD, PATIENCE_S, Fleet, Machine, converged
from tests.waiting import wait_until


def joining_over_ccs(joiner: Machine, member: Machine) -> list[str]:
    """Return the words by which a machine joins over CCS."""
    status = member.status()
    where = f"{member.address}:{status['ccs_port']}"
    return ["clusterconfig", "join", where, "--ccs", "--yes", "--fingerprint", status["fingerprint"]]


def connected(*machines: Machine) -> bool:
    """Say whether every machine has a link to every other one."""
    return all(one.link(other) == "connected" for one in machines for other in machines if one is not other)


def test_a_machine_that_was_announced_joins_without_a_password(machines: Fleet) -> None:
    """Whoever was not announced, or is not the machine that was, stays outside; a fulfilled announcement is gone."""
    first, second = machines.cluster("mx1", "mx2")
    joiner = machines.machine("mx3").init()
    words = joining_over_ccs(joiner, second)
    assert "does not let this machine in" in joiner.refused(*words)
    told = joiner.ask("clusterconfig", "prepjoin", "print")
    stranger = machines.machine("mx4").init()
    key = stranger.ask("clusterconfig", "prepjoin", "print")["key"]
    first.do("clusterconfig", "prepjoin", "new", "mx3", told["serial"], key)
    assert "its key is not announced there" in joiner.refused(*joining_over_ccs(joiner, first))
    kept = first.output.read_text(encoding="utf-8")
    assert re.search(r"a machine at [\d.:]+ was not let in over CCS: its key SHA256:\S+ is no member's", kept)
    assert "announced: mx3 with SHA256:" in kept
    assert "was announced with the hostname mx3" in stranger.refused(*joining_over_ccs(stranger, first))
    first.do("clusterconfig", "prepjoin", "delete", "mx3")
    assert first.ask("clusterconfig", "prepjoin", "list") == []
    first.do(*told["command"].split(maxsplit=5)[:5], told["key"])
    converged(first, second)
    assert [one["hostname"] for one in second.ask("clusterconfig", "prepjoin", "list")] == [joiner.hostname]
    # Any member lets it in, not only the one where it was announced; people do not get in there at all.
    person = ["clusterconfig", "join", words[2], "--ssh", "--password-stdin", "--yes", *words[5:]]
    assert "does not let admin in" in joiner.refused(*person, typed=PASSWORD + "\n")
    joiner.do(*words)
    joiner.serve()
    converged(first, second, joiner)
    assert first.ask("clusterconfig", "prepjoin", "list") == []
    admitted = next(event for event in first.events() if event["kind"] == "MachineAdmitted" and "mx3" in str(event))
    assert admitted["user"] == f"machine:{joiner.hostname}"
    with socket.create_server((stranger.address, stranger.status()["ccs_port"])):
        stranger.serve()
        is_deaf(stranger)


def is_deaf(machine: Machine) -> None:
    """Insist that a machine says in all three places that somebody else has its CCS port."""
    status = machine.status()
    told = f"nobody gets in over CCS where the record says: cannot listen on {machine.address}:"
    assert (status["ccs_port"], status["problems"]) == (None, 1)
    assert status["deaf"].startswith(told)
    assert machine.links()[machine.name]["reason"] == f"this machine; {status['deaf']}"
    (problem,) = machine.ask("clustercheck", status=3)["problems"]
    assert (problem["kind"], problem["text"]) == ("listener", status["deaf"])


def over_ccs(*machines: Machine) -> bool:
    """Say whether each link is up and was dialled, by one of its ends, at the CCS port that the other listens on."""
    ports = {machine.name: machine.status()["ccs_port"] for machine in machines}
    for one, other in combinations(machines, 2):
        there, back = one.links()[other.name], other.links()[one.name]
        if there["dialled_by"] is None or there["dialled_by"] != back["dialled_by"]:
            return False
        row, led = (there, other) if there["dialled_by"] == one.hostname else (back, one)
        if row["address"] != f"{led.address}:{ports[led.name]}":
            return False
    return connected(*machines)


def open_connections(machine: Machine, port: int) -> int:
    """Return how many TCP connections the system has with a machine's port."""
    host = socket.inet_aton(machine.address)[::-1].hex().upper()
    table = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()
    return sum(line.split()[2:4] == [f"{host}:{port:04X}", "01"] for line in table)


def test_a_running_cluster_changes_transport_and_ports(machines: Fleet) -> None:
    """Links move over, nothing is lost, a wrong address cuts nobody off, and who was away finds its way back."""
    away, first, second = sorted(machines.cluster("mx1", "mx2", "mx3"), key=lambda one: str(one.status()["machine"]))
    wait_until(lambda: connected(first, second, away), PATIENCE_S, what="links")
    away.stop()
    ports = machines.machine("other").init().ask("machine", "show")
    first.do("clusterconfig", "communication", "--over", "ccs", "-m", "machines only")
    wait_until(lambda: over_ccs(first, second), PATIENCE_S, what="the links to move to CCS")
    old = [(machine, machine.status()["ssh_port"]) for machine in (first, second)]
    wait_until(lambda: not any(open_connections(*place) for place in old), PATIENCE_S, what="SSH to end")
    converged(first, second)
    second.do("clusterconfig", "communication", "--machine", second.hostname, "--address", "127.0.0.77", "-m", "wrong")
    wait_until(lambda: "127.0.0.77:" in first.links()[second.name]["reason"], PATIENCE_S, what="the wrong address")
    (problem,) = first.ask("clustercheck", status=3)["problems"]
    assert (problem["kind"], problem["text"]) == ("link", first.call("status")["astray"])
    assert over_ccs(first, second)
    right = ("--machine", second.hostname, "--address", second.address)
    second.do("clusterconfig", "communication", *right, "-m", "right")
    wait_until(lambda: not first.links()[second.name]["reason"], PATIENCE_S, what="the right address")
    port = str(ports["ccs_port"])
    first.do("clusterconfig", "communication", "--machine", second.hostname, "--port", port, "-m", "another")
    wait_until(lambda: over_ccs(first, second), PATIENCE_S, what="the links to move to another port")
    converged(first, second)
    first.do("clusterconfig", "communication", "--machine", away.hostname, "--port", str(ports["ssh_port"]))
    assert second.status()["ccs_port"] == ports["ccs_port"]
    away.set("written.while.away", "1")
    first.set("written.meanwhile", "1")
    away.serve()
    converged(first, second, away)
    wait_until(lambda: away.status()["ccs_port"] == ports["ssh_port"], PATIENCE_S, what="the new port there")
    wait_until(lambda: over_ccs(first, second, away), PATIENCE_S, what="links")
    assert first.get("written.while.away") == second.get("written.meanwhile") == 1
    assert away.ask("clusterconfig", "communication")["over"] == "ccs"
