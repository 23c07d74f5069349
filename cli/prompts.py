"""Questions to whoever sits at the terminal, and secrets, which are never arguments."""

from __future__ import annotations

import getpass
import sys

from cluster_store.core.errors import InvalidValue, OverLimit, Refused
from cluster_store.core.limits import VALUE_BYTES_MAX

from .session import note

#: A new password with fewer is taken, with a warning: what it has to be is for those to say who run the machines.
_PASSWORD_CHARS = 8


def at_terminal() -> bool:
    """Say whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def read(prompt: str) -> str:
    """Show a prompt and return the line that is typed, its end included; ``""`` at the end of the input."""
    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = ""
    try:
        line = sys.stdin.readline()
    finally:
        if not line:
            # At the end of the input, and at an interrupt: what is said next begins a line.
            sys.stderr.write("\n")
    return line


def ask(question: str) -> str:
    """Ask for a line and return it without blanks around it. Raises Refused at the end of the input."""
    line = read(f"{question} ")
    if not line:
        raise Refused("there was no answer", "nothing was done")
    return line.strip()


def confirm(question: str) -> bool:
    """Ask a yes-or-no question; anything but yes is no."""
    return ask(f"{question} [y/N]").lower() in {"y", "yes"}


def password(who: str, *, from_stdin: bool) -> str:
    """Return the password that somebody has. Raises Refused where it is empty or nobody can be asked."""
    given = _line_of_stdin() if from_stdin else _hidden(f"Password of {who}: ")
    return _not_empty(given)


def new_password(who: str, *, from_stdin: bool) -> str:
    """Return a new password, asked for twice at a terminal; it may be empty there, and only there.

    Raises:
        Refused: the two differ, or nobody can be asked.
    """
    if from_stdin:
        return _not_empty(_line_of_stdin())
    given = _hidden(f"New password of {who}: ")
    if given != _hidden("The same again: "):
        raise Refused("the two passwords differ", "try again")
    return given


def warn_of_short(password: str) -> None:
    """Say that a new password is short, if it is one."""
    if 0 < len(password) < _PASSWORD_CHARS:
        note(f"that password is short: one of {_PASSWORD_CHARS} characters or more is harder to guess")


def secret(key: str, *, from_stdin: bool) -> str:
    """Return a secret value: a line at a terminal, all of standard input but its last newline otherwise.

    Raises:
        Refused: nobody can be asked.
        InvalidValue: it is not UTF-8.
        OverLimit: it is longer than a value may be.
    """
    if from_stdin:
        data = sys.stdin.buffer.read(VALUE_BYTES_MAX + 1)
        return _text(data).removesuffix("\n")
    return _hidden(f"Value of {key}: ")


def _hidden(prompt: str) -> str:
    if not at_terminal():
        raise Refused("there is nobody to ask for the password", "give it on standard input, with --password-stdin")
    try:
        return getpass.getpass(prompt, sys.stderr)
    except EOFError:
        raise Refused("there was no answer", "nothing was done") from None


def _line_of_stdin() -> str:
    return _text(sys.stdin.buffer.readline(VALUE_BYTES_MAX + 1)).rstrip("\r\n")


def _text(data: bytes) -> str:
    if len(data) > VALUE_BYTES_MAX:
        raise OverLimit(f"standard input is longer than {VALUE_BYTES_MAX} bytes", "that is no password")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidValue("standard input is not UTF-8", "give text in UTF-8") from error


def _not_empty(password: str) -> str:
    if not password:
        raise Refused("an empty password is no password", "give one of some length")
    return password
