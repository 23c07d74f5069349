"""YAML files: what they mean, and what is refused because JSON could not say it."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from cluster_store.core.errors import InvalidValue, OverLimit
from cluster_store.formats import yaml_file
from tests.reading import LOADERS, load, values


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        ("no", "no"),
        ("YES", "YES"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("012", "012"),
        ("007", "007"),
        ("0o8", "0o8"),
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("1_000", "1_000"),
        ("0b101", "0b101"),
        ("10.0.0.1", "10.0.0.1"),
        ("1.2.3", "1.2.3"),
        ("2024-1", "2024-1"),
        ("12e", "12e"),
        ("=", "="),
        ("a#b", "a#b"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("5", 5),
        ("-5", -5),
        ("1.5", 1.5),
        ("1e+22", 1e22),
        ("9" * 4000, 10**4000 - 1),
        ('"1.10"', "1.10"),
        ("'no'", "no"),
        ('"\\u00e9 "', "é "),
        ("|\n  one\n  two", "one\ntwo\n"),
        (">-\n  one\n  two", "one two"),
        ("[1, no, {x: 1}, '']", [1, "no", {"x": 1}, ""]),
    ],
)
@pytest.mark.parametrize("loader", LOADERS)
def test_yaml_means_what_version_1_2_says(loader: Any, plain: str, value: Any) -> None:
    """A plain word is a string unless it is exactly what JSON knows."""
    with mock.patch.object(yaml_file, "LOADER", loader):
        assert values(f"k: {plain}\n", "yaml") == {"k": value}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a:\n  v: 1.10", r"line 2, column 6: a\.v: the number 1\.10 would come back as 1\.1"),
        ("v: 1e5", r"the number 1e5 would come back as 100000\.0"),
        ("v: 1e400", r"the number 1e400 would come back as inf"),
        ("v: -0", r"the number -0 would come back as 0"),
        ("v: [+5]", r"v\[0\]: \+5 is a number that JSON writes otherwise"),
        ("v: .5", r"\.5 is a number"),
        ("v: 5.", r"5\. is a number"),
        ("v: 0x1F", r"0x1F is a number"),
        ("v: 0o17", r"0o17 is a number"),
        ("v: .inf", r"\.inf is a number"),
        ("v: .NaN", r"\.NaN is a number"),
        ("since: 2024-01-02", r"line 1, column 8: since: 2024-01-02 is a date"),
        ("since: 2024-01-02T10:00:00Z", r"is a date"),
        ("since: 2024-1-2 10:00:00", r"is a date"),
        ("5: x", r"line 1, column 1: the name 5 is not a string"),
        ("1.10: x", r"line 1, column 1: the number 1\.10 would come back"),
        ("a:\n  true: x", r"line 2, column 3: a: the name true is not a string"),
        ("? \n: x", r"the name \(empty\) is not a string"),
        ("? [a]\n: x", r"the name here is not a string"),
        ("a: !!str 5", r"line 1, column 4: a: the tag tag:yaml\.org,2002:str says what JSON cannot"),
        ("a: !!python/object/apply:os.getcwd []", r"the tag .* says what JSON cannot"),
        ("a: !secret x", r"the tag !secret says"),
        ("!x a: 1", r"the tag !x says"),
        ("a: &b {c: 1}\nd:\n  <<: *b", r"line 3, column 3: d: merge keys"),
        ("a: *b", r"line 1, column 4: a: \*b names nothing that is complete before it"),
        ("a: &b [*b]", r"\*b names nothing that is complete before it"),
        ("a: 1\n---\nb: 2", r"line 2, column 1: a second document begins"),
        ("- a", r"line 1, column 1: holds a single value"),
        ("just text", r"holds a single value"),
        ("a: [1", r"line \d, column \d: not YAML: "),
        ("a:\tb: c", r"not YAML"),
        ("a: é\nb: 'x\x01'", r"line 2, column 6: not YAML: U\+0001 must be written as an escape"),
        ("a: " + "[" * 200, r"nested more than 128 deep"),
        ("a: " + "[" * 65 + "]" * 65, r"nested more than 64 deep"),
    ],
)
@pytest.mark.parametrize("loader", LOADERS)
def test_yaml_that_json_could_not_say_is_refused_with_its_place(loader: Any, text: str, why: str) -> None:
    """What one reader takes for a number or a date and another for text is refused as well."""
    with mock.patch.object(yaml_file, "LOADER", loader), pytest.raises(InvalidValue, match=f"main.yaml: .*{why}"):
        load(text, "yaml")


def test_yaml_aliases_stand_for_what_they_name() -> None:
    """As values, as objects, and as names."""
    text = "a: &x [1, 2]\nb: *x\nc: &y {d: 1}\ne: *y\nf: &z name\n*z : 5\n"
    assert values(text, "yaml") == {"a": [1, 2], "b": [1, 2], "c.d": 1, "e.d": 1, "f": "name", "name": 5}


@pytest.mark.parametrize(
    ("seed", "grow"),
    [("[x, x]", "[{0}, {0}, {0}, {0}]"), ("{{p: x, q: x}}", "{{p: {0}, q: {0}, r: {0}}}"), ("[]", "[{0}, {0}, {0}]")],
)
def test_yaml_aliases_do_not_expand_without_end(seed: str, grow: str) -> None:
    """Thirty lines that would stand for more values than fit into memory are refused at once."""
    lines = [f"k0: &k0 {seed.format()}"]
    lines += [f"k{level}: &k{level} {grow.format(f'*k{level - 1}')}" for level in range(1, 30)]
    with pytest.raises(OverLimit, match=r"main\.yaml: .*(65536 bytes|20000 settings)"):
        load("\n".join(lines), "yaml")
