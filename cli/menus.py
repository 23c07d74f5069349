"""``clusterconfig`` without arguments: menus that ask for what an operation needs, and then give its command.

Each operation here only puts words together. What they do, and every refusal, is the single-line command's.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from cluster_store.core.cluster import ADMIN, Cluster
from cluster_store.core.errors import ClusterStoreError, Refused
from cluster_store.core.naming import counted, one_line
from cluster_store.core.roles import ADMINISTRATOR, require

from .failures import DONE, complain
from .questions import HELP, LEAVING, Choice, Left, ask, choose, choose_several
from .session import Session, note

#: Runs the words of a single-line command and returns its exit status.
Run = Callable[[Sequence[str]], int]
Words = list[str]


class Operation(NamedTuple):
    """One entry of the menu.

    Attributes:
        help: its explanation.
        compose: asks the questions that lead to its words. Whether somebody is sure, the command asks.
        preview: whether ``--dry-run`` shows first what would come of it.
    """

    help: str
    compose: Callable[[Cluster], Words]
    preview: bool = False


def run(session: Session, perform: Run) -> int:
    """Lead somebody at a terminal through ``clusterconfig``; return the exit status.

    Raises:
        Refused: whoever is logged in may not change the cluster, so they are asked nothing.
        StoreError: there is no store.
    """
    if session.login is not None:
        require(ADMINISTRATOR, session.login, "'clusterconfig'")
    cluster = _read(session)
    try:
        if not cluster.name:
            words = _begin()
            return _give(words, perform) if words else DONE
        while cluster.name:
            _carry_out(_which_operation(cluster), cluster, perform)
            cluster = _read(session)
    except Left:
        pass
    return DONE


def _read(session: Session) -> Cluster:
    with session.read() as store:
        return store.cluster()


def _give(words: Words, perform: Run) -> int:
    note(one_line(f"> clusterconfig {shlex.join(words)}"))
    return perform(["clusterconfig", *words])


def _which_operation(cluster: Cluster) -> str:
    note(f"\nCluster {cluster.name}\n\nChoose the operation you want to perform:")
    for name, operation in OPERATIONS.items():
        note(f"- {name.upper()} - {operation.help}")
    note(LEAVING)
    while True:
        answer = ask("").lower()
        if answer == HELP:
            return _which_operation(cluster)
        if answer in OPERATIONS:
            return answer
        fitting = [name for name in OPERATIONS if name.startswith(answer)]
        if len(fitting) == 1:
            return fitting[0]
        wrong = f"may be {' or '.join(fitting).upper()}" if fitting else "is none of them"
        note(one_line(f"'{answer}' {wrong}. {LEAVING}"))


def _carry_out(name: str, cluster: Cluster, perform: Run) -> None:
    """Ask what an operation needs and do it; an empty answer leads back to the menu."""
    try:
        operation = OPERATIONS[name]
        words = operation.compose(cluster)
        if operation.preview and _give([*words, "--dry-run"], perform):
            return
        _give(words, perform)
    except Left:
        note("Nothing was done.")
    except ClusterStoreError as error:
        complain(error.message, error.hint)


# --- a machine that stands alone -----------------------------------------------------------------------


def _begin() -> Words:
    note(LEAVING)
    way = choose(
        "Do you want to join or create a cluster?",
        [
            Choice("no", "No, configure as standalone."),
            Choice("create", "Create a new cluster."),
            Choice("ssh", "Join an existing cluster over SSH."),
            Choice("ccs", "Join an existing cluster over CCS."),
        ],
        "1",
    )
    if way == "no":
        return []
    if way == "create":
        name = ask("What is the new cluster to be called?")
        return ["create", name, *_by("How are the machines to reach each other?", "")]
    where = ask("Which machine of the cluster? Give its hostname or address, and :PORT where it is not the usual one.")
    if way == "ccs":
        note("This machine must have been announced there: 'clusterconfig prepjoin print' shows how.")
        return ["join", where, "--ccs"]
    return ["join", where, "--ssh", "--user", ask("Which user of the cluster lets this machine in?", ADMIN)]


def _by(question: str, default: str) -> Words:
    choices = [
        Choice("hostname", "By hostname, which every machine must be able to look up."),
        Choice("ip", "By IP address."),
    ]
    number = {"hostname": "1", "ip": "2"}.get(default, "1")
    return ["--by", choose(question, choices, number)]


# --- operations ------------------------------------------------------------------------------------------


def _machines(cluster: Cluster, *, detached: bool | None = None) -> list[Choice]:
    """Return the machines to choose from. Raises Refused where there is none."""
    named = Counter(machine.hostname.casefold() for machine in cluster.machines.values())
    found = []
    for machine in cluster.machines.values():
        if detached in (None, machine.detached is not None):
            group = cluster.groups[machine.group].name
            # The id, where two machines ended with one name.
            word = machine.hostname if named[machine.hostname.casefold()] == 1 else machine.id
            found.append(Choice(word, f"{machine.hostname} (group {group})"))
    if not found:
        raise Refused(f"{'no' if detached else 'every'} machine is detached", "'clusterconfig connstatus' shows them")
    return found


def _groups(cluster: Cluster, but: str = "") -> list[Choice]:
    found = []
    for group in cluster.groups.values():
        if group.name != but:
            held = counted(len(cluster.members_of(group.id)), "machine")
            found.append(Choice(group.name, f"{group.name} ({held})"))
    return found


def _add_group(_cluster: Cluster) -> Words:
    return ["addgroup", ask("Name of the new group:")]


def _set_group(cluster: Cluster) -> Words:
    machines = choose_several("Which machines are to move?", _machines(cluster))
    return ["setgroup", *machines, choose("Into which group?", _groups(cluster))]


def _rename_group(cluster: Cluster) -> Words:
    group = choose("Which group is to be renamed?", _groups(cluster))
    return ["renamegroup", group, ask("Its new name:")]


def _delete_group(cluster: Cluster) -> Words:
    group = choose("Which group is to be deleted?", _groups(cluster))
    words = ["deletegroup", group]
    others = _groups(cluster, but=group)
    if others and cluster.members_of(cluster.group(group).id):
        words += ["--to", choose("Which group takes its machines?", others, "1")]
    return words


def _remove_machine(cluster: Cluster) -> Words:
    return ["removemachine", *choose_several("Which machines are to leave the cluster for good?", _machines(cluster))]


def _set_name(cluster: Cluster) -> Words:
    return ["setname", ask("Name of the cluster:", cluster.name)]


def _communication(cluster: Cluster) -> Words:
    note(f"Machines reach each other by {cluster.by}, over {cluster.over.upper()}.")
    what = choose(
        "What is to change?",
        [
            Choice("by", "How they name each other: by hostname or by IP address."),
            Choice("over", "Which service they use: SSH or CCS."),
            Choice("port", "The port of that service, on all machines or one."),
            Choice("address", "The address at which others dial one machine."),
        ],
    )
    if what == "by":
        return ["communication", *_by("How are they to name each other?", cluster.by)]
    if what == "over":
        services = [Choice("ssh", "SSH, for machines and people."), Choice("ccs", "CCS, for machines only.")]
        return ["communication", "--over", choose("Which service?", services, "1" if cluster.over == "ssh" else "2")]
    if what == "port":
        everyone = Choice("", "All machines.")
        machine = choose("On which machine?", [everyone, *_machines(cluster)], "1")
        return ["communication", *(["--machine", machine] if machine else []), "--port", ask("Which port?")]
    machine = choose("Which machine?", _machines(cluster))
    return ["communication", "--machine", machine, "--address", ask("Its address:")]


def _disconnect(cluster: Cluster) -> Words:
    return ["disconnect", *choose_several("Which machines are to be detached?", _machines(cluster, detached=False))]


def _reconnect(cluster: Cluster) -> Words:
    return ["reconnect", *choose_several("Which machines are to come back?", _machines(cluster, detached=True))]


def _prepjoin(cluster: Cluster) -> Words:
    action = choose(
        "Machines that are to join over CCS are announced first.",
        [
            Choice("new", "Announce a machine."),
            Choice("delete", "Take an announcement back."),
            Choice("print", "Show what to announce this machine with, elsewhere."),
            Choice("list", "Show who is awaited."),
        ],
    )
    if action == "new":
        note("'clusterconfig prepjoin print' on that machine shows all three.")
        return ["prepjoin", "new", ask("Its hostname:"), ask("Its serial number:"), ask("Its key:")]
    if action == "delete":
        announced = [
            Choice(one.hostname, f"{one.hostname} (serial {one.serial})") for one in cluster.announced.values()
        ]
        if not announced:
            raise Refused("no machine is announced", "there is nothing to take back")
        return ["prepjoin", "delete", choose("Which one?", announced)]
    return ["prepjoin", action]


#: In the order of the appliance's menu.
OPERATIONS: Mapping[str, Operation] = {
    "addgroup": Operation("Add an empty group to the cluster.", _add_group),
    "setgroup": Operation("Move machines into a group.", _set_group),
    "renamegroup": Operation("Give a group another name.", _rename_group),
    "deletegroup": Operation("Delete a group; another one takes its machines.", _delete_group, preview=True),
    "removemachine": Operation("Let machines leave the cluster for good.", _remove_machine),
    "setname": Operation("Give the cluster another name.", _set_name),
    "list": Operation("Show the cluster, its groups and its machines.", lambda _: ["list"]),
    "connstatus": Operation("Show how the machines are connected, and why one is not.", lambda _: ["connstatus"]),
    "communication": Operation("Change how the machines reach each other.", _communication),
    "disconnect": Operation("Detach machines for a while; they stay members.", _disconnect),
    "reconnect": Operation("Take detached machines back.", _reconnect),
    "prepjoin": Operation("Announce a machine that is to join over CCS.", _prepjoin),
}
