"""The programs ``cluster-store`` and ``clusterconfig``: from the arguments to the exit status."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from cluster_store.adapters.local_client import LOGIN_VARIABLE

from . import lookup
from .failures import guarded


def run() -> NoReturn:
    """Be the program ``cluster-store``."""
    _take_any_bytes()
    if LOGIN_VARIABLE in os.environ:
        from . import logins

        logins.take_terminal()
    status = main(sys.argv[1:])
    if not any(f"{__package__}.{lasting}" in sys.modules for lasting in ("program", "serving")):
        # A quick command has closed what it opened. Taking the interpreter apart would be a sixth of its time.
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def run_clusterconfig() -> NoReturn:
    """Be the program ``clusterconfig``."""
    _take_any_bytes()
    sys.exit(main(sys.argv[1:], "clusterconfig"))


def _take_any_bytes() -> None:
    """Let what is typed hold bytes that are no text, as arguments can: commands refuse both with the same words."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")


def main(arguments: Sequence[str], program: str = "cluster-store") -> int:
    """Do what the arguments say and return the exit status. Nothing is raised but SystemExit."""
    return guarded(lambda: _dispatch(arguments, program))


def _dispatch(arguments: Sequence[str], program: str) -> int:
    asked = lookup.quick(arguments) if program == "cluster-store" else None
    if asked is not None:
        session, parameters = asked
        with session.damage_explained():
            return lookup.show(session, **parameters)
    if program == "cluster-store" and "serve" in arguments:
        from . import serving

        daemon = serving.quick(arguments)
        if daemon is not None:
            with daemon.damage_explained():
                return serving.run(daemon)
    from .program import perform

    return perform(arguments, program)
