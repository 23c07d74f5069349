"""``serve``: the daemon, in the foreground."""

from __future__ import annotations

import typer

from . import serving


def serve(context: typer.Context) -> None:
    """Run the daemon in the foreground, until SIGTERM.

    It prints one line when it accepts connections, and what an operator should hear of on standard error.
    """
    serving.run(context.obj)
