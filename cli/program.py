"""The commands as typer runs them: each is imported when it is run, and some options are everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module, metadata
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from . import logins, prompts
from .catalogue import CLUSTERCONFIG, COMMANDS, ELSEWHERE, FAMILIES, SECTIONS, Entry
from .failures import DONE, REFUSED, USAGE, complain, is_text
from .session import Session, note, say

#: The program whose commands everything else is made of.
_PROGRAM = "cluster-store"
_PURPOSE = "A masterless, audited configuration store for machines that get cut off from each other."
_NEGATIVE_NUMBER = re.compile(r"-\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
#: No argument of a process can hold it.
_SHIELD = "\0"


def perform(arguments: Sequence[str], program: str, session: Session | None = None) -> int:
    """Run a program with typer, in a session that goes on or one of its own; return its exit status."""
    if not is_text(arguments):
        return _refuse_bytes(arguments)
    group = _group(program)
    try:
        # Not through the group's own main(), which has ways of its own with interrupts and closed pipes.
        with (
            group.make_context(program, list(arguments), obj=session or Session()) as context,
            context.obj.damage_explained(),
        ):
            status = group.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        complain("there was no answer", "nothing was done")
        return REFUSED
    except typer.TyperException as error:
        place = getattr(error, "ctx", None)
        path = place.command_path if place else program
        complain(_in_words(error), f"'{path} --help' shows how it is used")
        return USAGE
    return status if isinstance(status, int) else DONE


def _refuse_bytes(arguments: Sequence[str]) -> int:
    from cluster_store.core.naming import excerpt

    (first, *_) = (argument for argument in arguments if not is_text([argument]))
    complain(f"'{excerpt(first)}' is not text in UTF-8, and all that a command takes is", "nothing was done")
    return USAGE


def _in_words(error: typer.TyperException) -> str:
    """Return what is wrong with how a command was called, in this program's words.

    Values are checked by a library, whose sentences speak of its inputs and leave out what was given.
    """
    faults = getattr(error.__cause__, "errors", None)
    if callable(faults):
        fault = faults()[0]
        told = _FAULTS.get(fault["type"])
        error.message = told.format(given=fault["input"], **fault.get("ctx", {})) if told else fault["msg"]
    return error.format_message()


#: What a value can be found to be -> what is said of it.
_FAULTS = {
    "float_parsing": "'{given}' is not a number",
    "greater_than_equal": "{given} is too small: at least {ge}",
    "int_parsing": "'{given}' is not a whole number",
    "less_than_equal": "{given} is too large: at most {le}",
    "value_error": "{error}",
}


# --- options that are everywhere ---------------------------------------------------------------------


def _take_json(context: typer.Context, value: bool) -> None:
    context.obj.as_json |= value


def _take_store(context: typer.Context, value: str | None) -> None:
    if value and context.obj.login is not None:
        logins.refuse_store()
    context.obj.store = value or context.obj.store


def _print_version(context: typer.Context, value: bool) -> None:
    if value:
        say(f"{context.find_root().info_name} {metadata.version('cluster-store')}")
        raise typer.Exit


Json = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of words.", callback=_take_json, expose_value=False)
]
Version = Annotated[
    bool,
    typer.Option(
        "--version", help="Print the version and exit.", callback=_print_version, expose_value=False, is_eager=True
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help="The store's folder; otherwise $CLUSTER_STORE, or where the platform keeps a user's data.",
        callback=_take_store,
        expose_value=False,
    ),
]


def _of_commands(json: Json = False, version: Version = False) -> None:
    """Carry the options that every command has."""


def _of_groups(store: Store = None, json: Json = False, version: Version = False) -> None:
    """Carry the options that stand before a command."""


# --- commands ------------------------------------------------------------------------------------------


class _Command(TyperCommand):
    """A command with the options that are everywhere, to which a negative number is a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, list(_shielded(args)))
        ctx.params = {name: _bare(value) for name, value in ctx.params.items()}
        return rest

    def invoke(self, ctx: Any) -> Any:
        login = ctx.obj.login
        if login is not None:
            logins.check(login, _name_of(ctx), ctx.params)
        return super().invoke(ctx)


def _name_of(context: Any) -> str:
    """Return a command's name, that of its family before it."""
    family = context.parent.info_name
    return f"{family} {context.info_name}" if family in FAMILIES else str(context.info_name)


def _shielded(arguments: list[str]) -> Iterator[str]:
    """Yield arguments in a form in which typer does not take ``-5`` for the options of that name."""
    before = ""
    for at, argument in enumerate(arguments):
        if argument == "--":
            yield from arguments[at:]
            return
        # After an option it is that option's value, which typer sees by itself.
        negative = _NEGATIVE_NUMBER.fullmatch(argument) and not before.startswith("-")
        yield _SHIELD + argument if negative else argument
        before = argument


def _bare(value: Any) -> Any:
    if isinstance(value, list):
        return [_bare(item) for item in value]
    return value.removeprefix(_SHIELD) if isinstance(value, str) else value


class _Group(TyperGroup):
    """Commands of which only the one that is run is imported."""

    entries: Mapping[str, Entry]
    #: Heading of the help -> the commands under it.
    sections: Mapping[str, Mapping[str, Entry]]

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        return list(self.entries)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | TyperGroup | None:  # noqa: ARG002 - the same
        name = cmd_name.lower()
        if name not in self.entries:
            return None
        return _group(name) if name in FAMILIES else _command(name, self.entries[name])

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None:
            close = get_close_matches(args[0].lower(), self.entries, n=3)
            ours = ELSEWHERE.get(args[0].lower()) or " or ".join(close)
            ctx.fail(f"there is no command '{args[0]}'" + (f"; is it {ours}?" if ours else ""))
        return args[0].lower(), command, args[1:]

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the same
        for title, entries in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()])


def _command(name: str, entry: Entry) -> TyperCommand:
    function = getattr(import_module(f".{entry.module}", __package__), entry.function)
    command = _made(function, name=name, cls=_Command)
    command.params += _made(_of_commands).params
    return command


def _made(function: Callable[..., Any], **options: Any) -> TyperCommand:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(**options)(function)
    command = typer.main.get_command(app)
    assert isinstance(command, TyperCommand)
    return command


def _group(name: str) -> _Group:
    """Return a family of commands, or the program itself for a name that is no family's."""
    purpose = COMMANDS[name].help if name in FAMILIES else _PURPOSE
    app = typer.Typer(name=name, cls=_Group, help=purpose, add_completion=False, rich_markup_mode=None)

    @app.callback(invoke_without_command=True)
    def entrance(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            if name == CLUSTERCONFIG and prompts.at_terminal():
                from . import menus

                raise typer.Exit(menus.run(context.obj, lambda words: perform(words, _PROGRAM, context.obj.again())))
            note(context.get_help())
            if name == CLUSTERCONFIG:
                note("\nIts menus need a terminal: over SSH, 'ssh -t'.")
            raise typer.Exit(USAGE)

    group = typer.main.get_command(app)
    assert isinstance(group, _Group)
    group.params += _made(_of_groups).params
    group.entries = FAMILIES.get(name, COMMANDS)
    group.sections = {"Operations": FAMILIES[name]} if name in FAMILIES else SECTIONS
    return group
