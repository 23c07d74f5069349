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

#: What the appliance calls otherwise -> the words for it here.
ELSEWHERE: Mapping[str, str] = {
    "interfaceconfig": "machine set --interface NAME=ADDRESS",
    "resetconfig": "init with another --store",
    "sethostname": "machine set --hostname NAME",
    "sshconfig": "userconfig edit NAME --key FILE",
}

_OPERATIONS = {
    "create": Entry("clusterconfig", "create", "Make a cluster, with this machine as its first member."),
    "join": Entry("joining", "join", "Join the cluster of another machine."),
    "addgroup": Entry("clusterconfig", "addgroup", "Add an empty group."),
    "setgroup": Entry("clusterconfig", "setgroup", "Put machines into a group; they inherit its settings."),
    "renamegroup": Entry("groups", "renamegroup", "Give a group another name."),
    "deletegroup": Entry("groups", "deletegroup", "Delete a group; its machines go to another one."),
    "removemachine": Entry("clusterconfig", "removemachine", "Remove machines from the cluster for good."),
    "setname": Entry("groups", "setname", "Give the cluster another name."),
    "list": Entry("clusterconfig", "list_", "Show the cluster: its groups, and the machines in each."),
    "connstatus": Entry("clusterconfig", "connstatus", "Show the link to each machine, and why one is down."),
    "communication": Entry("communication", "communication", "Show or change how machines reach each other."),
    "disconnect": Entry("clusterconfig", "disconnect", "Detach machines for a while; they stay members."),
    "reconnect": Entry("clusterconfig", "reconnect", "Take detached machines back."),
    "prepjoin": Entry("communication", "prepjoin", "Announce a machine that is to join over CCS."),
}

_MACHINE = {
    "show": Entry("machine", "show", "Show what this machine says of itself."),
    "set": Entry("machine", "set_", "Change what this machine says of itself."),
}

_USERS = {
    "list": Entry("userconfig", "list_", "Show who may log in, as what, and how."),
    "new": Entry("userconfig", "new", "Let somebody log in."),
    "edit": Entry("userconfig", "edit", "Change how somebody logs in, or as what."),
    "delete": Entry("userconfig", "delete", "Let somebody log in no more."),
}

_LEVELS = {
    "copy": Entry("levels", "copy", "Let another level say the same of some keys."),
    "move": Entry("levels", "move", "Let another level say what one says, which then says nothing of it."),
    "delete": Entry("levels", "delete", "Let a level say nothing of some keys any more."),
}

#: Commands that have commands of their own.
FAMILIES: Mapping[str, Mapping[str, Entry]] = {
    CLUSTERCONFIG: _OPERATIONS,
    "machine": _MACHINE,
    "userconfig": _USERS,
    "clusterset": _LEVELS,
}

#: Heading of the help -> commands.
SECTIONS: Mapping[str, Mapping[str, Entry]] = {
    "This machine": {
        "init": Entry("init", "init", "Make the store of this machine."),
        "machine": Entry("", "", "Show or change what this machine says of itself."),
        "serve": Entry("serve", "serve", "Run the daemon in the foreground, until SIGTERM."),
        "featurekey": Entry("featurekey", "featurekey", "Show or set this machine's feature key."),
        "status": Entry("status", "status", "Show this machine, its daemon and its digest."),
        "backup": Entry("backup", "backup", "Save this machine's store and keys to a file, also while it serves."),
        "restore": Entry("backup", "restore", "Make a store of a backup."),
        "repair": Entry("repair", "repair", "Say what a damaged store has lost, and make a whole one of it."),
        "demo": Entry("demo", "demo", "Show the main job: three machines on this host, a cut, a merge, the audit log."),
    },
    "The cluster": {
        CLUSTERCONFIG: Entry("", "", "Make a cluster, join one, and arrange its machines."),
        "clustermode": Entry("levels", "clustermode", "Show or change the mode."),
        "clusterset": Entry("", "", "Copy, move or delete settings between levels."),
        "clustershow": Entry("levels", "clustershow", "Show at which levels each setting is kept."),
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
        "diff": Entry("diff", "diff", "Show what is staged, or compare two moments, or one with now."),
        "commit": Entry("staging", "commit", "Make all that is staged live, as one event."),
        "confirm": Entry("confirm", "confirm", "Let a commit stay that waits to be confirmed."),
        "clearchanges": Entry("staging", "clearchanges", "Drop all that is staged."),
        "rollbackconfig": Entry("rollbackconfig", "rollbackconfig", "Take changes of settings back, as a new change."),
    },
    "Users": {
        "userconfig": Entry("", "", "Say who may log in, as what, and how."),
        "shell": Entry("shell", "shell", "Give one command after another, at a prompt."),
        "passwd": Entry("passwd", "passwd", "Give a user another password."),
    },
    "History": {
        "log": Entry("log", "log", "Show who changed what, where, when and why."),
        "commitdetail": Entry("commitdetail", "commitdetail", "Show all about one change."),
        "replay": Entry("replay", "replay", "Rebuild the state event by event, and compare it."),
        "verify": Entry("verify", "verify", "Check that the store is what was written."),
    },
    "Simulation": {
        "simulate": Entry("simulate", "simulate", "Run a fleet under faults in virtual time, and check it."),
    },
}

COMMANDS: Mapping[str, Entry] = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
