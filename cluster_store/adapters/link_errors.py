"""The ways in which a connection fails, in the words that ``connstatus`` shows; one place for every transport.

What is told is the first that fails of: the name, the TCP connection, SSH's greeting, the algorithms, the host key, the
login, what the cluster asks of a member.

``where`` is ``host:port`` as ``ports.host_port`` writes it. No text here ever contains a password. A reason may be the
peer's own words, so control characters are taken out: a terminal would obey them.
"""

from __future__ import annotations

import os
import re
import socket

from cluster_store.core.errors import LinkError

#: What is shown of a foreign service's answer.
_WORDS_CHARS_MAX = 60


def reason(error: Exception) -> str:
    """Return why an attempt failed, in the system's or the library's words."""
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        # asyncio puts the address where the system's words should be.
        return os.strerror(error.errno)
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text).strip()


def no_such_name(where: str, why: str) -> LinkError:
    """The host's name could not be turned into an address."""
    return LinkError(
        "no such name",
        f"cannot look up the name in {where}: {_printable(why)}",
        "Check the spelling, and that this machine's DNS knows the name; an IP address works without it.",
    )


def unreachable(where: str, why: str) -> LinkError:
    """Nothing that speaks our protocol answers there."""
    return LinkError(
        "unreachable",
        f"{where} is unreachable: {_printable(why)}",
        "Check that the other machine runs `cluster-store serve`, its address and port, and the firewalls in between.",
    )


def is_ssh(heard: bytes) -> bool:
    """Say whether the first bytes of an answer greet as SSH 2 does; a server may say some lines before."""
    return any(line.startswith((b"SSH-2.0-", b"SSH-1.99-")) for line in heard.splitlines())


def no_ssh(where: str, heard: bytes, seconds: float | None) -> LinkError:
    """A port takes connections, but what is behind it does not greet as SSH does.

    Args:
        where: the port.
        heard: the first bytes that came.
        seconds: how long it then said nothing, None where it ended the connection.
    """
    line = next((text for text in heard.decode("utf-8", "replace").splitlines() if _printable(text)), "")
    if line.startswith("SSH-"):
        why = f"it speaks SSH of another version (answered '{line[:_WORDS_CHARS_MAX]}')"
    elif line:
        why = f"it speaks something else than SSH (answered '{line[:_WORDS_CHARS_MAX]}')"
    elif heard:
        why = "it speaks something else than SSH (answered in unprintable bytes)"
    elif seconds is None:
        why = "it takes connections, and ends them without a word"
    else:
        why = f"it takes connections, but is silent: not a word within {seconds:g} s (timeout)"
    return unreachable(where, why)


def nothing_in_common(where: str, why: str) -> LinkError:
    """Both speak SSH, but with no algorithm that the other takes; ``why`` in the library's words."""
    lists = re.fullmatch(r"No matching (.+) algorithm found, sent (.+) and received (.+)", why)
    if lists:
        kind, ours, theirs = lists.groups()
        why = f"this machine has {ours}, that one has {theirs}"
        return unreachable(where, f"no {kind} algorithm in common: {why}")
    # The other side's words: it knows what host keys it has.
    if "host key" in why:
        return unreachable(
            where, f"no host key algorithm in common: this machine takes ssh-ed25519 ({_printable(why)})"
        )
    return unreachable(where, f"no algorithms in common: {why}")


def host_key_changed(where: str, pinned: str, offered: str) -> LinkError:
    """Whoever answers does not hold the key that was recorded or accepted; both are fingerprints."""
    return LinkError(
        "host key changed",
        f"{where} shows the host key {offered}, but {pinned} is the one on record",
        "Another machine may be answering at this address: nothing was sent to it. Compare with `cluster-store status` "
        "on that machine.",
    )


def host_key_refused(where: str, fingerprint: str) -> LinkError:
    """The person, or the fingerprint given, did not accept the key that was shown."""
    return LinkError(
        "host key refused",
        f"the host key {fingerprint} of {where} was not accepted, so no password was sent",
        "Compare it with the fingerprint that `cluster-store status` prints on that machine.",
    )


def authentication_failed(where: str, who: str) -> LinkError:
    """The other side does not know this machine's key, or does not take this password."""
    return LinkError(
        "authentication failed",
        f"{where} does not let {who} in",
        "For a person: check the user name and the password. For a machine: check that it is still a member.",
    )


def another_service(where: str, who: str, wanted: str, found: str) -> LinkError:
    """What answers at a port lets nobody in because it is not the one that was asked for.

    Args:
        where: the port.
        who: was not let in.
        wanted: ``SSH`` or ``CCS``.
        found: the same, or the first words of whatever else answers.
    """
    if found in ("SSH", "CCS"):
        why = f"that is the {found} port of a cluster-store, not its {wanted} port"
        cure = "`cluster-store status` on that machine shows both ports"
    else:
        why = f"what answers is an SSH server, but no cluster-store ('{_printable(found)[:_WORDS_CHARS_MAX]}')"
        cure = f"`cluster-store status` on that machine shows its {wanted} port"
    return LinkError("unreachable", f"{where} does not let {who} in: {why}", f"Give the other port: {cure}.")


def dropped(where: str, why: str) -> LinkError:
    """There was a connection, and now there is none."""
    return LinkError(
        "dropped",
        f"the connection with {where} was dropped: {_printable(why)}",
        "It is dialled again by itself; if it stays down, look at the network and at the other machine.",
    )
