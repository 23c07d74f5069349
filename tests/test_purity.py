"""The core is a pure function of its input: no clock, no dice, no I/O, and no order that a hash seed decides.

Two machines that differed in any of these would differ in the state. Each rule is a function over source text that is
also fed small violations it must find, and innocent neighbours it must leave alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CORE = Path(__file__).parents[1] / "cluster_store" / "core"

#: Modules that reach the clock, dice, the disk, the network, other threads or the terminal.
IMPURE_MODULES = frozenset(
    {
        *("asyncio", "concurrent", "multiprocessing", "queue", "sched", "select", "selectors", "signal", "threading"),
        *("getpass", "glob", "io", "logging", "os", "pathlib", "platform", "shutil", "subprocess", "sys", "tempfile"),
        *("http", "socket", "sqlite3", "ssl", "urllib"),
        *("random", "secrets", "time", "uuid"),
    }
)
#: ``hash`` and ``id`` differ from one process to the next.
IMPURE_CALLS = frozenset({"__import__", "breakpoint", "hash", "id", "input", "open", "print"})
#: Methods that read the clock, and the one that imports what no import statement shows.
IMPURE_METHODS = frozenset({"import_module", "now", "today", "utcnow"})

#: Calls whose result is the same for every order of the items they take.
ORDERLESS_CALLS = frozenset({"all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum"})
#: Calls and methods whose result shows the order of the items they take.
ORDERED_CALLS = frozenset({"deque", "dict", "enumerate", "filter", "iter", "list", "map", "next", "tuple", "zip"})
ORDERED_METHODS = frozenset({"extend", "from_iterable", "fromkeys", "join"})
SET_METHODS = frozenset({"copy", "difference", "intersection", "symmetric_difference", "union"})
SET_OPERATORS = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.Sub)
SET_TYPE = re.compile(r"(?:\w+\.)*(?:set|frozenset|Set|FrozenSet|AbstractSet|MutableSet)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def impurities(source: str) -> Iterator[str]:
    """Yield each import and call in ``source`` that reaches beyond the core's own input."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=aliases):
                modules = [alias.name for alias in aliases]
                yield from (
                    f"{node.lineno}: imports {name}" for name in modules if name.split(".")[0] in IMPURE_MODULES
                )
            case ast.ImportFrom(module=str(name), level=0) if name.split(".")[0] in IMPURE_MODULES:
                yield f"{node.lineno}: imports from {name}"
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
                yield f"{node.lineno}: calls {name}()"
            case ast.Call(func=ast.Attribute(attr=name)) if name in IMPURE_METHODS:
                yield f"{node.lineno}: calls .{name}()"


@dataclass
class SetNames:
    """The names that stand for sets, gathered from the annotations in all of the core.

    An attribute that is a set in one class and something else in another counts as something else: without types,
    silence is the lesser fault.
    """

    types: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, sources: Iterable[str]) -> SetNames:
        """Gather the names from every module, type aliases first because annotations use them."""
        names, trees = cls(), [ast.parse(source) for source in sources]
        nodes = [node for tree in trees for node in ast.walk(tree)]
        for node in nodes:
            match node:
                case ast.Assign(targets=[ast.Name(id=alias)], value=ast.Subscript() as value) if names.is_type(value):
                    names.types.add(alias)
        others: set[str] = set()
        for node in nodes:
            match node:
                case ast.AnnAssign(target=ast.Attribute(attr=name), annotation=annotation):
                    (names.attributes if names.is_type(annotation) else others).add(name)
                case ast.ClassDef(body=body):
                    for item in body:
                        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                            (names.attributes if names.is_type(item.annotation) else others).add(item.target.id)
                case ast.FunctionDef(name=name, returns=ast.expr() as returns) if names.is_type(returns):
                    names.functions.add(name)
        names.attributes -= others
        return names

    def is_type(self, annotation: ast.expr) -> bool:
        """Say whether an annotation, or one side of its union, is a set."""
        sides = [side.strip() for side in ast.unparse(annotation).strip("'\"").split(" | ")]
        return any(SET_TYPE.match(side) or side in self.types for side in sides)


class SetIterations(ast.NodeVisitor):
    """Finds where the arbitrary order of a set comes into the result.

    A local name is a set when its annotation says so or a set was assigned to it anywhere in the same function.
    """

    def __init__(self, names: SetNames) -> None:
        self.names = names
        self.locals: set[str] = set()
        self.forgiven: set[ast.expr] = set()
        self.found: list[str] = []

    def is_set(self, node: ast.expr) -> bool:
        """Say whether an expression is a set, as far as its text and the gathered annotations tell."""
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Name(id=name):
                return name in self.locals
            case ast.Attribute(attr=name):
                return name in self.names.attributes
            case ast.Call(func=ast.Name(id=name)):
                return name in {"set", "frozenset"} | self.names.functions
            case ast.Call(func=ast.Attribute(value=value, attr=name)):
                return name in self.names.functions or (name in SET_METHODS and self.is_set(value))
            case ast.BinOp(left=left, op=op, right=right) if isinstance(op, SET_OPERATORS):
                return any(self.is_set(side) or _is_view(side) for side in (left, right))
            case ast.BoolOp(values=values):
                return any(map(self.is_set, values))
            case ast.IfExp(body=body, orelse=orelse):
                return self.is_set(body) or self.is_set(orelse)
            case ast.NamedExpr(value=value):
                return self.is_set(value)
        return False

    def visit_FunctionDef(self, node: Function) -> None:
        """Learn the function's own names, then look inside it."""
        outer = self.locals
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        self.locals = outer | {
            argument.arg for argument in arguments if argument.annotation and self.names.is_type(argument.annotation)
        }
        for inner in ast.walk(node):
            match inner:
                case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation) if self.names.is_type(annotation):
                    self.locals.add(name)
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if self.is_set(value):
                    self.locals.add(name)
                case ast.NamedExpr(target=ast.Name(id=name), value=value) if self.is_set(value):
                    self.locals.add(name)
        self.generic_visit(node)
        self.locals = outer

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the visitor finds its methods by these names

    def visit_For(self, node: ast.For) -> None:
        """A loop over a set runs in its order."""
        self._judge(node.iter, "a loop")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        """So does a comprehension, unless what it makes has no order either."""
        if node.iter not in self.forgiven:
            self._judge(node.iter, "a comprehension")
        self.generic_visit(node)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        """A set made from a set shows nothing of its order."""
        self._forgive(node)
        self.generic_visit(node)

    def visit_Set(self, node: ast.Set) -> None:
        """Neither does a set that holds another's elements."""
        self.forgiven.update(node.elts)
        self.generic_visit(node)

    def visit_Starred(self, node: ast.Starred) -> None:
        """Spreading a set spreads it in its order."""
        if node not in self.forgiven:
            self._judge(node.value, "a spread")
        self.generic_visit(node)

    def visit_YieldFrom(self, node: ast.YieldFrom) -> None:
        """Yielding from a set yields in its order."""
        self._judge(node.value, "yield from")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """A call may forget the order of what it takes, or show it."""
        match node.func:
            case ast.Name(id="max" | "min" as name) if any(keyword.arg == "key" for keyword in node.keywords):
                self._judge(node.args[0], f"{name}() with a key, which takes the first of equals,")
            case ast.Name(id=name) if name in ORDERLESS_CALLS:
                for argument in node.args:
                    self._forgive(argument)
            case ast.Name(id=name) if name in ORDERED_CALLS:
                for argument in node.args:
                    self._judge(argument, f"{name}()")
            case ast.Attribute(attr=name) if name in ORDERED_METHODS:
                for argument in node.args:
                    self._judge(argument, f".{name}()")
            case ast.Attribute(attr="pop", value=value) if not node.args:
                self._judge(value, ".pop()")
        self.generic_visit(node)

    def _forgive(self, node: ast.expr) -> None:
        if isinstance(node, ast.GeneratorExp | ast.ListComp | ast.SetComp):
            self.forgiven.update(generator.iter for generator in node.generators)

    def _judge(self, node: ast.expr, what: str) -> None:
        if self.is_set(node):
            self.found.append(f"{node.lineno}: {what} takes the order of a set: {ast.unparse(node)}")


def _is_view(node: ast.expr) -> bool:
    """Say whether this is a dict's keys() or items(): ordered themselves, but an operator makes a set of them."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in {"items", "keys"}


def set_iterations(source: str, names: SetNames) -> list[str]:
    """Return each place in ``source`` where the order of a set decides something."""
    visitor = SetIterations(names)
    visitor.visit(ast.parse(source))
    return visitor.found


def core_sources() -> dict[str, str]:
    """Return the text of every module of the core by its name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(CORE.rglob("*.py"))}


def test_the_core_reaches_for_nothing_outside() -> None:
    """No module of the core imports or calls what reads a clock, dice, a file or a socket."""
    sources = core_sources()
    assert "errors.py" in sources
    faults = [f"{name}:{fault}" for name, source in sources.items() for fault in impurities(source)]
    assert not faults, "\n".join(faults)


def test_the_core_takes_no_order_from_a_set() -> None:
    """Wherever the core goes through a set, it sorts it first or makes something without order of it."""
    sources = core_sources()
    names = SetNames.of(sources.values())
    faults = [f"{name}:{fault}" for name, source in sources.items() for fault in set_iterations(source, names)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "planted",
    [
        *(f"import {module}" for module in sorted(IMPURE_MODULES)),
        "import os.path",
        "from time import monotonic",
        "from datetime import datetime\nstamp = datetime.now()",
        "import datetime\nstamp = datetime.datetime.utcnow()",
        "def f():\n    from random import random",
        "text = open('state').read()",
        "print('applied')",
        "order = hash('path')",
        "importlib.import_module('time')",
    ],
)
def test_a_planted_impurity_is_found(planted: str) -> None:
    """The rule finds each forbidden import and call, wherever it hides."""
    assert len(list(impurities(planted))) == 1


@pytest.mark.parametrize(
    "innocent",
    ["from datetime import UTC, datetime", "import hashlib", "import timeit_not_time", "clock.time_of(record)"],
)
def test_a_pure_import_is_left_alone(innocent: str) -> None:
    """What only resembles something forbidden is allowed."""
    assert list(impurities(innocent)) == []


#: What the planted snippets below may refer to.
DECLARED = """
Heads = frozenset[str]
class Feed:
    heads: Heads
    open: dict[str, int]
    def __init__(self) -> None:
        self.seen: set[str] = set()
def known() -> set[str]: ...
"""


@pytest.mark.parametrize(
    "planted",
    [
        "for x in {1, 2}: use(x)",
        "for x in set(items): use(x)",
        "[x for x in frozenset(items)]",
        "[x for x in {y for y in items}]",
        "{x: 1 for x in set(items)}",
        "list({y for y in items})",
        "tuple(set(items) | other)",
        "next(iter(known()))",
        "', '.join(set(items))",
        "rows.extend(known())",
        "dict.fromkeys(set(items))",
        "[*known()]",
        "max(set(items), key=len)",
        "enumerate(left.keys() - right.keys())",
        "for x in left.keys() & right: use(x)",
        "for x in feed.heads: use(x)",
        "for x in feed.heads.union(more): use(x)",
        "for x in feed.seen or (): use(x)",
        "feed.seen.pop()",
        "def f(heads: Heads | None):\n    for x in heads: use(x)",
        "def f():\n    live = set()\n    return [x for x in live]",
        "def f():\n    yield from known()",
        "async def f():\n    return tuple(known())",
    ],
)
def test_a_planted_order_of_a_set_is_found(planted: str) -> None:
    """The rule finds each way in which a set's order gets out."""
    assert len(set_iterations(planted, SetNames.of([DECLARED]))) >= 1


@pytest.mark.parametrize(
    "innocent",
    [
        "for x in sorted(known()): use(x)",
        "sorted(x.name for x in known())",
        "any(x in seen for x in known())",
        "{x + 1 for x in known()}",
        "{*known(), 'more'}",
        "set(known())",
        "len(known()) + max(known())",
        "'x' in known()",
        "for x in feed.open: use(x)",
        "list(left.keys())",
        "stack.pop()",
        "def f(items: list[str]):\n    return [x for x in items]",
        "def f():\n    items = set()\ndef g(items):\n    return list(items)",
    ],
)
def test_a_set_without_its_order_is_left_alone(innocent: str) -> None:
    """Sorting, counting, testing and making another set are allowed."""
    assert set_iterations(innocent, SetNames.of([DECLARED])) == []
