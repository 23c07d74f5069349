"""``clusterconfig communication`` and ``prepjoin``: how machines reach each other, and who may come in over CCS."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from cluster_store.core.cluster import TRANSPORTS, Cluster, Machine
from cluster_store.core.commands import AnnounceMachine, ChangeCommunication, WithdrawAnnouncement
from cluster_store.core.errors import Refused
from cluster_store.core.naming import counted

from .parameters import ByOption, Comment
from .session import Session, note, say
from .tables import print_table


class Over(StrEnum):
    """How the members of a cluster talk to each other."""

    SSH = "ssh"
    CCS = "ccs"


def communication(
    context: typer.Context,
    by: ByOption = None,
    over: Annotated[Over | None, typer.Option("--over", help="Which listener they dial.", case_sensitive=False)] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", min=1, max=65535, help="Of that listener, on every machine.")
    ] = None,
    machine: Annotated[
        str | None, typer.Option("--machine", metavar="M", help="Change the port or address of this one only.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="A", help="Where others dial the machine; empty for what its name says."),
    ] = None,
    comment: Comment = "",
) -> None:
    """Show or change how machines reach each other.

    A running cluster changes over by itself: links move, and a machine that was away is looked for where it was
    before. Without options, what holds now is shown.
    """
    session: Session = context.obj
    command = ChangeCommunication(by=by, over=over, port=port, machine=machine, address=address, comment=comment)
    if (by, over, port, machine, address) == (None,) * 5:
        told = _told(_read(session))
        session.show(told, lambda: _tell(told))
        return
    if machine is not None and (port, address) == (None, None):
        context.fail("say what to change on that machine: --port or --address")
    result = session.submit(command)
    session.report(result, _changed(_read(session), machine, port_given=port is not None))


def _read(session: Session) -> Cluster:
    with session.read() as store:
        return store.cluster()


def _changed(cluster: Cluster, machine: str | None, *, port_given: bool) -> str:
    """Say how members reach each other, or one of them, after a change."""
    if machine is not None:
        return f"{machine}: reached at {_place(cluster.machine(machine), cluster)} from now on"
    at = ", each at the port that was given," if port_given else ""
    return f"members dial each other by {cluster.by}, over {cluster.over.upper()}{at} from now on"


def _place(machine: Machine, cluster: Cluster) -> str:
    from cluster_store.dialing import address_of

    place = address_of(machine, cluster)
    return f"{place.host} port {place.port}"


def _told(cluster: Cluster) -> dict[str, Any]:
    if not cluster.name:
        raise Refused(
            "this machine is not in a cluster",
            "run 'clusterconfig create NAME', or 'clusterconfig join HOST --ssh'",
        )
    return {
        "by": cluster.by,
        "over": cluster.over,
        "machines": [
            {"hostname": machine.hostname, "address": _address(machine, cluster), **_ports(machine)}
            for machine in cluster.machines.values()
        ],
    }


def _address(machine: Machine, cluster: Cluster) -> str:
    from cluster_store.dialing import address_of

    return address_of(machine, cluster).host


def _ports(machine: Machine) -> dict[str, int]:
    return {name: getattr(machine, name) for name in TRANSPORTS.values()}


def _tell(told: dict[str, Any]) -> None:
    say(f"members dial each other by {told['by']}, over {told['over'].upper()}")
    rows = [[str(fact) for fact in machine.values()] for machine in told["machines"]]
    print_table(["hostname", "address", "SSH port", "CCS port"], rows)


def prepjoin(
    context: typer.Context,
    action: Annotated[str, typer.Argument(metavar="new|delete|print|list")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[HOSTNAME [SERIAL KEY]]", help="For new all three, for delete one.")
    ] = None,
    comment: Comment = "",
) -> None:
    """Announce a machine that is to join over CCS.

    'print', on the machine that is to join, shows what to give to 'new' on any member. Then 'join HOST --ccs' there
    needs no password. 'delete' takes an announcement back, 'list' shows those that wait.
    """
    session: Session = context.obj
    actions: dict[str, tuple[str, Callable[[Session, Sequence[str], str], None]]] = {
        "new": ("HOSTNAME SERIAL KEY", _announce),
        "delete": ("HOSTNAME", _withdraw),
        "print": ("", _print),
        "list": ("", _list),
    }
    if action.lower() not in actions:
        context.fail(f"'{action}' is none of {', '.join(actions)}")
    takes, perform = actions[action.lower()]
    count = len(takes.split())
    given = words or []
    if perform is _announce:
        # A key line that was not quoted is two words, or more with its comment.
        given = [*given[:2], *filter(None, [" ".join(given[2:])])]
    if len(given) != count:
        wanted = f"{counted(count, 'argument')}: {takes}" if takes else "no arguments"
        context.fail(f"'{action}' takes {wanted}")
    perform(session, given, comment)


def _announce(session: Session, words: Sequence[str], comment: str) -> None:
    hostname, serial, key = words
    result = session.submit(AnnounceMachine(hostname=hostname, serial=serial, key=key, comment=comment))
    session.report(result, f"{hostname} may join over CCS, on any member")


def _withdraw(session: Session, words: Sequence[str], comment: str) -> None:
    result = session.submit(WithdrawAnnouncement(hostname=words[0], comment=comment))
    session.report(result, f"{words[0]} may not join over CCS any more")


def _print(session: Session, _words: Sequence[str], _comment: str) -> None:
    with session.read() as store:
        cluster, me = store.cluster(), store.me
    if cluster.name:
        raise Refused(
            f"this machine is in the cluster {cluster.name} already",
            "give 'clusterconfig prepjoin print' on the machine that is to join",
        )
    machine = cluster.machines[me]
    words = ["clusterconfig", "prepjoin", "new", machine.hostname, machine.serial, machine.client_key]
    told = {
        "hostname": machine.hostname,
        "serial": machine.serial,
        "key": machine.client_key,
        "command": shlex.join(words),
    }
    if not session.as_json:
        note("on any member of the cluster:")
    session.show(told, lambda: say(told["command"]))


def _list(session: Session, _words: Sequence[str], _comment: str) -> None:
    announced = _read(session).announced.values()
    told = [{"hostname": one.hostname, "serial": one.serial, "key": one.key} for one in announced]

    def words() -> None:
        if told:
            print_table(list(told[0]), [list(one.values()) for one in told])
        else:
            note("no machine is announced")

    session.show(told, words)
