"""Every command: where it is, and what it is for in one line.

``--help`` shows this, and only the module of the command that is run is imported. A new command takes its place
here; its function's docstring begins with the same words and goes on with what else its own ``--help`` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Entry(NamedTuple):
    """One command: a module of this package and a function in it, both empty for a family, and its help."""

    module: str
    function: str
    help: str


#: The family that is also a program of its own.
CLUSTERCONFIG = "clusterconfig"

_OPERATIONS = {
    "create": Entry("clusterconfig", "create", "Make a cluster, with this machine as its first member."),
    "join": Entry("joining", "join", "Join the cluster of another machine."),
    "addgroup": Entry("clusterconfig", "addgroup", "Add an empty group."),
    "setgroup": Entry("clusterconfig", "setgroup", "Put machines into a group; they inherit its settings."),
    "list": Entry("clusterconfig", "list_", "Show the cluster: its groups, and the machines in each."),
    "connstatus": Entry("clusterconfig", "connstatus", "Show the link to each machine, and why one is down."),
    "disconnect": Entry("clusterconfig", "disconnect", "Detach machines for a while; they stay members."),
    "reconnect": Entry("clusterconfig", "reconnect", "Take detached machines back."),
}

_MACHINE = {
    "show": Entry("machine", "show", "Show what this machine says of itself."),
    "set": Entry("machine", "set_", "Change what this machine says of itself."),
}

#: Commands that have commands of their own.
FAMILIES: Mapping[str, Mapping[str, Entry]] = {CLUSTERCONFIG: _OPERATIONS, "machine": _MACHINE}

#: Heading of the help -> commands.
SECTIONS: Mapping[str, Mapping[str, Entry]] = {
    "This machine": {
        "init": Entry("init", "init", "Make the store of this machine."),
        "machine": Entry("", "", "Show or change what this machine says of itself."),
        "serve": Entry("serve", "serve", "Run the daemon in the foreground, until SIGTERM."),
        "status": Entry("status", "status", "Show this machine, its daemon and its digest."),
        "passwd": Entry("passwd", "passwd", "Give a user another password."),
        "demo": Entry("demo", "demo", "Show the main job: three machines on this host, a cut, a merge, the audit log."),
    },
    "The cluster": {
        CLUSTERCONFIG: Entry("", "", "Make a cluster, join one, and arrange its machines."),
        "clustercheck": Entry("clustercheck", "clustercheck", "Show what was changed on both sides of a cut."),
    },
    "Settings": {
        "set": Entry("settings", "set_", "Give a key a value at a level."),
        "unset": Entry("settings", "unset", "Take a key's value away at a level."),
        "add": Entry("settings", "add", "Add elements to a set-valued key."),
        "remove": Entry("settings", "remove", "Remove elements from a set-valued key."),
        "get": Entry("get", "get", "Print a key's effective value."),
        "explain": Entry("explain", "explain", "Show where a key's value comes from."),
        "watch": Entry("watch", "watch", "Print this machine's effective changes as they come."),
        "showconfig": Entry("showconfig", "showconfig", "Print settings as a configuration file."),
        "saveconfig": Entry("showconfig", "saveconfig", "Save settings to a configuration file."),
        "loadconfig": Entry("loadconfig", "loadconfig", "Set every key of a configuration file, as one event."),
    },
    "History": {
        "log": Entry("log", "log", "Show who changed what, where, when and why."),
        "replay": Entry("replay", "replay", "Rebuild the state event by event, and compare it."),
        "verify": Entry("verify", "verify", "Check that the store is what was written."),
    },
    "Simulation": {
        "simulate": Entry("simulate", "simulate", "Run a fleet under faults in virtual time, and check it."),
    },
}

COMMANDS: Mapping[str, Entry] = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
