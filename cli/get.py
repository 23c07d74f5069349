"""``get``, where its arguments are not plain enough for the short way; see ``lookup``."""

from __future__ import annotations

from typing import Annotated

import typer

from . import lookup
from .parameters import Key, Machine, ViewedLevel, refuse_both
from .views import AsKnownBy, At


def get(
    context: typer.Context,
    key: Key,
    machine: Machine = None,
    level: ViewedLevel = None,
    default: Annotated[
        str | None, typer.Option("--default", metavar="VALUE", help="Printed where the key is not set.")
    ] = None,
    raw: Annotated[bool, typer.Option("-r", "--raw", help="A string without its quotes.")] = False,
    at: At = None,
    as_known_by: AsKnownBy = None,
) -> int:
    """Print a key's effective value.

    The machine's own value counts, else its group's, else the cluster's. Exit status 1 where it is not set.
    """
    refuse_both(context, machine, level)
    return lookup.show(
        context.obj,
        key,
        machine=machine,
        level=level,
        default=default,
        raw=raw,
        at=at,
        as_known_by=as_known_by,
    )
