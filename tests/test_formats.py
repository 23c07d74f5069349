"""Configuration files: what each format is read as, what is refused by name and place, and that writing reads back."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cluster_store.core import limits
from cluster_store.core.errors import InvalidValue, OverLimit, Refused
from cluster_store.core.values import from_python, show
from cluster_store.formats import READABLE, Loaded, read_config, write_config, yaml_file
from tests.reading import LOADERS, load, values
from tests.strategies import awkward_texts, json_values, keys, numbers, settings, texts

# --- any format ---


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.YML", "a.toml", "main.cf", "x/app.conf"])
@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_has_no_settings(name: str, data: bytes) -> None:
    """In no format, be it empty, blank, or a byte order mark alone."""
    assert read_config(data, name).settings == {}


def test_the_format_asked_for_goes_before_the_ending() -> None:
    """A file may be called anything."""
    assert read_config(b"a = 1", "x.json", "cf") == Loaded({"a": '"1"'}, [])
    assert read_config(b"a = 1", "-", "toml") == Loaded({"a": "1"}, [])


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("settings.ini", None, "settings.ini: its ending tells no format"),
        ("-", None, "-: its ending tells no format"),
        ("a.json", "xml", "a.json: 'xml' is not a format"),
    ],
)
def test_an_unknown_format_is_refused(name: str, kind: str | None, why: str) -> None:
    """The hint lists those that can be read."""
    with pytest.raises(InvalidValue, match=why) as refused:
        read_config(b"", name, kind)
    assert refused.value.hint == "choose one of json, yaml, toml, cf with --format"


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.toml", "a.cf"])
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a = b\ncaf\xe9 = 1\n", r"line 2, byte 4 \(0xE9\) is not UTF-8"),
        ("é = ".encode() + b"\x80", r"line 1, byte 6 \(0x80\) is not UTF-8"),
        ("a = 1".encode("utf-16"), r"line 1, byte 1 \(0xFF\) is not UTF-8"),
        (b"a = \xed\xa0\x80", r"line 1, byte 5 \(0xED\) is not UTF-8"),
        (b"a = 1\nb\x00", r"line 2, byte 2 \(0x00\) is no text"),
    ],
)
def test_a_file_that_is_not_utf8_text_is_refused_by_line_and_byte(name: str, data: bytes, why: str) -> None:
    """The byte is told as a number in hex, its place counted in bytes from the line's start."""
    with pytest.raises(InvalidValue, match=f"{name}: {why}"):
        read_config(data, name)


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", '{"a": 1}'), ("a.yaml", "a: 1"), ("a.toml", "a = 1"), ("a.cf", "a = 1")]
)
def test_a_byte_order_mark_is_skipped_with_a_word(name: str, text: str) -> None:
    """Editors on Windows write one."""
    loaded = read_config(text.encode("utf-8-sig"), name)
    assert list(loaded.settings) == ["a"]
    assert loaded.warnings == [f"{name}: begins with a byte order mark, which was skipped"]


#: What has a meaning in one format or another.
SIGNS = (
    ".",
    ":",
    ": ",
    "=",
    " = ",
    "\n",
    "\n  ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    '"',
    "'",
    "#",
    "? ",
    "|\n",
    "\t",
    "\r\n",
)
WORDS = ("a", "b", "1", "1.5", "&x ", "*x", "!t ", "---\n", "true", "\\u00", "%YAML 1.1\n", "2024-01-02")
pieces = st.lists(st.sampled_from([*SIGNS, *WORDS])).map("".join)


@pytest.mark.parametrize("kind", READABLE)
@given(data=st.one_of(st.binary(), awkward_texts.map(str.encode), pieces.map(str.encode)))
def test_any_bytes_are_read_or_refused(kind: str, data: bytes) -> None:
    """Every file makes settings that can be written again, or a refusal that names it; nothing else."""
    for loader in LOADERS:
        with mock.patch.object(yaml_file, "LOADER", loader):
            try:
                loaded = read_config(data, "main.x", kind)
            except Refused as error:
                refusal = error.message
            else:
                refusal = "main.x: "
                assert load(write_config(loaded.settings, "json"), "json") == loaded.settings
            assert refusal.startswith("main.x: ")


def test_a_file_beyond_the_bounds_is_refused() -> None:
    """In bytes of the file, of one value, of one key, and in settings."""
    with pytest.raises(OverLimit, match="33554433 bytes; 33554432 can be read"):
        read_config(b" " * (limits.CONFIG_FILE_BYTES_MAX + 1), "a.cf")
    many = limits.WRITES_PER_EVENT_MAX + 1
    lines = "".join(f"k{number} = 1\n" for number in range(many))
    for name in ("a.cf", "a.toml"):
        with pytest.raises(OverLimit, match="20000"):
            read_config(lines.encode(), name)
        assert len(read_config(lines.partition("\n")[2].encode(), name).settings) == many - 1
    too_long = "x" * limits.VALUE_BYTES_MAX
    for name, text in (
        ("a.cf", f"\na = {too_long}"),
        ("a.json", f'{{\n"a": "{too_long}"}}'),
        ("a.yaml", f"\na: {too_long}"),
    ):
        with pytest.raises(OverLimit, match=f"{name}: line 2.*: a: the value is longer than 65536 bytes"):
            read_config(text.encode(), name)
        with pytest.raises(OverLimit, match=f"{name}: line 2.*: the key 'aaaa.*' takes 600 bytes in a path"):
            read_config(text.replace("a", "a" * 600).replace(too_long, "x").encode(), name)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json", '{"a": {"b": {"c": 1}, "d": []}, "e": {}, "f.g": null}'),
        ("yaml", "a:\n  b: {c: 1}\n  d: []\ne: {}\nf.g: ~\n"),
    ],
)
def test_nested_objects_become_dotted_keys(kind: str, text: str) -> None:
    """Lists and empty objects are values; a dotted name is the same as nesting; the order is the file's."""
    assert list(load(text, kind).items()) == [("a.b.c", "1"), ("a.d", "[]"), ("e", "{}"), ("f.g", "null")]


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("json", '{"a.b": 1,\n "a": {"b": 2}}', r"line 2, column 8: a\.b: .* twice, first at line 1, column 2: a\.b"),
        ("yaml", "a:\n  b: 1\na.b: 1", r"line 3, column 1: a\.b: .* twice, first at line 2, column 3: a\.b"),
        ("toml", '"a.b" = 1\n[a]\nb = 1', r"'a'\.'b': the key is there twice, first at 'a\.b'"),
        ("json", '{"a": 1,\n"a": 2}', r"line 2, column 1: the member 'a' is there twice, first at line 1, column 2"),
        ("yaml", "a: 1\nb: 2\na: 3", r"line 3, column 1: the name 'a' is there twice, first at line 1, column 1"),
        ("toml", "a = 1\na = 2\n", r"at line 2, column 6"),
    ],
)
def test_a_key_given_twice_is_refused_with_both_places(kind: str, text: str, why: str) -> None:
    """Whether nested, dotted, or the same name twice in one object."""
    with pytest.raises(InvalidValue, match=f"main.{kind}: .*{why}"):
        load(text, kind)


def test_a_key_may_also_begin_others() -> None:
    """``a`` and ``a.b`` are two settings, also where ``a`` is an empty object."""
    assert load('{"a": 1, "a.b": 2}', "json") == {"a": "1", "a.b": "2"}
    assert load('{"a": {}, "a.b": 2}', "json") == {"a": "{}", "a.b": "2"}


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("json", '{"a": {"": 1}}', r"line 1, column 8: a\.: the key 'a\.' has an empty part"),
        ("yaml", "a:\n  ' b': 1", r"line 2, column 3: a\. b: a part of the key 'a\. b' begins or ends with a blank"),
        ("toml", '"a\\u0007" = 1', r"'a\\x07': the key 'a\\x07' has an invisible character, U\+0007"),
        ("cf", "\ncafe\u0301 = 1", r"line 2: the key 'cafe\\u0301' is not in Unicode's usual form"),
        ("cf", "a..b = 1", r"line 1: the key 'a\.\.b' has an empty part"),
    ],
)
def test_what_cannot_be_a_key_is_refused_with_its_place(kind: str, text: str, why: str) -> None:
    """A file's keys keep the rules of keys."""
    with pytest.raises(InvalidValue, match=f"main.{kind}: {why}"):
        load(text, kind)


# --- JSON ---


def test_json_values_are_kept_exactly() -> None:
    """Digits, letters and blanks are those of the file."""
    text = '{"a": 123456789012345678901234567890, "b": "caf\\u00e9 ", "c": "1.10", "d": [ 1.5, {"x" : null} ]}'
    assert load(text, "json") == {
        "a": "123456789012345678901234567890",
        "b": '"café "',
        "c": '"1.10"',
        "d": '[1.5,{"x":null}]',
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            '{"smtp": {\n  "v": [0, 1.10]}}',
            r"line 2, column 12: smtp\.v\[1\]: the number 1\.10 would come back as 1\.1",
        ),
        ('{"a": {"b": tru}}', r"line 1, column 13: a\.b: tru is not a JSON value"),
        ('{"a": "\\ud800"}', r"line 1, column 7: a: the string has an unpaired surrogate"),
        ("[1]", "holds a single value"),
        ('"a"', "holds a single value"),
        ('{"a": 1', r"line 1, column 8: expected , or }"),
        ('{"a":' * 200, r".*nested more than 128 deep"),
        ('{"a":' * 65 + "1" + "}" * 65, r".*nested more than 64 deep"),
        ('{"a":' + "[" * 65 + "]" * 65 + "}", r"line 1, column 2: a\[0\].*: nested more than 64 deep"),
    ],
)
def test_json_errors_name_the_key_and_the_place(text: str, why: str) -> None:
    """Line and column, and the path to the value."""
    with pytest.raises(InvalidValue, match=f"main.json: {why}"):
        load(text, "json")


# --- TOML ---


def test_toml_is_read_with_its_own_notation() -> None:
    """Tables nest, lists of tables are values; notation that loses nothing is fine."""
    text = 'a.b = 1_000\nh = 0xFF\nf = +1_0.5\ns = """\none"""\n[t]\nx = [true, 1.5]\ne = {}\n[[u]]\nv = 1\n'
    assert values(text, "toml") == {
        "a.b": 1000,
        "h": 255,
        "f": 10.5,
        "s": "one",
        "t.x": [True, 1.5],
        "t.e": {},
        "u": [{"v": 1}],
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[a]\nv = 1.10", r"'a'\.'v': the number 1\.10 would come back as 1\.1"),
        ("v = [1.5, 1e5]", r"'v'\[1\]: the number .* would come back as 100000\.0"),
        ("v = inf", r"'v': inf is not a number that JSON has"),
        ("v = nan", r"'v': nan is not a number that JSON has"),
        ("[a]\nsince = 2024-01-02", r"'a'\.'since': a value of type date cannot be kept as JSON"),
        ("at = 2024-01-02T10:00:00Z", r"'at': a value of type datetime"),
        ("at = [10:00:00]", r"'at'\[0\]: a value of type time"),
        ("a = ", r"Invalid value"),
        ("v = " + "9" * 5000, r"4300 digits"),
        ("v = " + "[" * 5000, r"nested more than 64 deep"),
        ("v = " + "[" * 65 + "]" * 65, r"nested more than 64 deep"),
        (".".join("a" * 100) + " = 1", r"nested more than 64 deep"),
    ],
)
def test_toml_that_could_not_be_kept_is_refused_by_key(text: str, why: str) -> None:
    """Its library tells no places, so the key is named as it is written."""
    with pytest.raises(InvalidValue, match=f"main.toml: .*{why}"):
        load(text, "toml")


# --- cf ---


@pytest.mark.parametrize(
    ("text", "settings_read"),
    [
        ("a = 1", {"a": "1"}),
        ("a=1\nb =2\nc= 3\n", {"a": "1", "b": "2", "c": "3"}),
        ("a =\nb = ", {"a": "", "b": ""}),
        ("a = $b ${c?d} $$", {"a": "$b ${c?d} $$"}),
        ("# c\n\n  # c\n \t\na = 1\n#b = 2", {"a": "1"}),
        ("a = 1,\n  2,\n\t3\nb = 4", {"a": "1,  2,\t3", "b": "4"}),
        ("a = 1\n\n# c\n   # c\n  2", {"a": "1  2"}),
        ("a =\n  1\n", {"a": "1"}),
        ("a\n = 1", {"a": "1"}),
        ("a = b = c", {"a": "b = c"}),
        ("a = #b", {"a": "#b"}),
        ("a = 1 # b", {"a": "1 # b"}),
        ('a = "b" ', {"a": '"b"'}),
        ("a = 1\r\nb = 2\r\n", {"a": "1", "b": "2"}),
        ("a = 1\\\n b", {"a": "1\\ b"}),
        ("a = \u00a0é\u2028b\u00a0", {"a": "\u00a0é\u2028b\u00a0"}),
        ("a = 1.10\nb = true", {"a": "1.10", "b": "true"}),
        ("smtp-x.y:z = 1", {"smtp-x.y:z": "1"}),
    ],
)
def test_cf_lines_are_read_as_postfix_reads_them(text: str, settings_read: Mapping[str, str]) -> None:
    """Every value is a string; only C's blanks are blanks."""
    assert values(text, "cf") == settings_read


def test_a_cf_name_set_again_counts_the_last_time_with_a_word() -> None:
    """As Postfix does."""
    loaded = read_config(b"a = 1\nb = 2\na =\n 3\n", "main.cf")
    assert loaded.settings == {"a": '"3"', "b": '"2"'}
    assert loaded.warnings == ["main.cf: line 3: a is set again, first on line 1; the last one counts"]


def test_a_cf_line_that_continues_nothing_is_ignored_with_a_word() -> None:
    """As Postfix does."""
    loaded = read_config(b"# c\n a = 1\n\tb\nc = 2", "main.cf")
    assert loaded.settings == {"c": '"2"'}
    assert loaded.warnings == [
        "main.cf: line 2: begins with a blank but continues nothing; ignored",
        "main.cf: line 3: begins with a blank but continues nothing; ignored",
    ]


@pytest.mark.parametrize("line", ["a", "a b = c", "= b", "a # = b"])
def test_a_cf_line_that_is_no_setting_is_refused_with_its_line(line: str) -> None:
    """Postfix stops at these too."""
    with pytest.raises(InvalidValue, match=r"main\.cf: line 3: '.*' is not of the form name = value"):
        load(f"x = 1\n\n{line}\ny = 2", "cf")


# --- writing ---


def test_json_is_written_flat_sorted_and_verbatim() -> None:
    """One setting a line."""
    assert write_config({"b.c": '["é",1.5]', "a": "1" * 5000, "b": "{}"}, "json") == (
        '{\n  "a": ' + "1" * 5000 + ',\n  "b": {},\n  "b.c": ["é",1.5]\n}\n'
    )
    assert write_config({}, "json") == "{}\n"


def test_nested_json_keeps_a_key_whole_where_its_beginning_is_a_key() -> None:
    """``a`` cannot be a number and an object at once."""
    text = write_config(
        {"a": "1", "a.b": "2", "a.c.d": "3", "e.f.g": "4", "e.f.h": "5", "e-x": "6"}, "json", nested=True
    )
    assert json.loads(text) == {"a": 1, "a.b": 2, "a.c": {"d": 3}, "e-x": 6, "e": {"f": {"g": 4, "h": 5}}}
    assert text == (
        '{\n  "a": 1,\n  "a.b": 2,\n  "a.c": {\n    "d": 3\n  },\n  "e": {\n    "f": {\n'
        '      "g": 4,\n      "h": 5\n    }\n  },\n  "e-x": 6\n}\n'
    )


def test_yaml_is_written_so_that_no_reader_mistakes_it() -> None:
    """Strings stand in quotes, also the library's own older rules read the same."""
    given_values = {
        "no": "no",
        "a.b": "1:30",
        "a.c": ["012", 1.5, None],
        "1.5": True,
        "t": "x\x85\u2028\x7f",
        "d": "2024-01-02",
    }
    text = write_config({key: from_python(value, key) for key, value in given_values.items()}, "yaml")
    assert yaml.safe_load(text) == given_values
    assert text == (
        '"1.5": true\na.b: "1:30"\na.c: ["012", 1.5, null]\nd: "2024-01-02"\n"no": "no"\nt: "x\\u0085\\u2028\\u007f"\n'
    )
    assert write_config({}, "yaml") == "{}\n"


def test_nested_yaml_is_indented() -> None:
    """Two blanks a level."""
    assert write_config({"a.b.c": "1", "a.d": "[]", "e": "null"}, "yaml", nested=True) == (
        "a:\n  b:\n    c: 1\n  d: []\ne: null\n"
    )


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_an_object_with_members_is_refused_unless_it_is_only_shown(kind: str) -> None:
    """Read back, its members would be settings of their own."""
    with pytest.raises(InvalidValue, match="the value of a is an object"):
        write_config({"a": '{"b":1}'}, kind)
    assert load(write_config({"a": '{"b":1}'}, kind, exact=False), kind) == {"a.b": "1"}
    assert load(write_config({"a": '[{"b":1}]'}, kind), kind) == {"a": '[{"b":1}]'}


@pytest.mark.parametrize("kind", ["toml", "ini", ""])
def test_other_formats_are_not_written(kind: str) -> None:
    """The hint lists those that are."""
    with pytest.raises(InvalidValue, match=f"cannot be written as '{kind}'"):
        write_config({}, kind)


def test_cf_is_written_one_line_a_setting() -> None:
    """Numbers, true and false as their text, nothing after the = of an empty value."""
    text = write_config({"b": '"$a, #c"', "a": '""', "c": "1.5", "d": "true"}, "cf")
    assert text == "a =\nb = $a, #c\nc = 1.5\nd = true\n"


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("a", '"x\\ny"', "a cannot be written as cf: a value there is one line"),
        ("a", '"x\\u0000"', "a value there is one line of text"),
        ("a", '" x"', "blanks around a value"),
        ("a", '"x\\t"', "blanks around a value"),
        ("a", '"\\f"', "blanks around a value"),
        ("a", "[]", "a list or an object"),
        ("a", "{}", "a list or an object"),
        ("a", "null", "this one is null"),
        ("a b", "1", "a b cannot be written as cf: a name there has no blank"),
        ("a=b", "1", "no ="),
        ("#a", "1", "does not begin with #"),
    ],
)
def test_what_a_cf_line_cannot_say_is_refused_by_name(key: str, value: str, why: str) -> None:
    """Rather than written as something else."""
    with pytest.raises(InvalidValue, match=why):
        write_config({"ok": "1", key: value}, "cf")


@given(drawn=settings)
@example(drawn={"a": '[{"' + "n" * 2000 + '":[{"b":1}],"c":2}]'})
@example(drawn={".".join("k" * 200): "1", ".".join("k" * 62): "2", "k.k": "[" * 64 + "]" * 64})
@example(drawn={".".join("k" * 200): "[" * 64 + "]" * 64})
def test_what_is_written_reads_back_the_same(drawn: dict[str, str]) -> None:
    """Any settings, flat or nested, with either of YAML's parsers."""
    for nested in (False, True):
        assert load(write_config(drawn, "json", nested), "json") == drawn
        for loader in LOADERS:
            with mock.patch.object(yaml_file, "LOADER", loader):
                assert load(write_config(drawn, "yaml", nested), "yaml") == drawn


@given(
    drawn=st.dictionaries(
        keys,
        st.one_of(texts, awkward_texts, numbers, st.booleans()).map(lambda value: from_python(value, "drawn")),
        max_size=6,
    )
)
def test_what_cf_takes_reads_back_as_the_same_text(drawn: dict[str, str]) -> None:
    """Values come back as strings; what would not is refused, with the key's name."""
    kept = {key: from_python(show(value), key) for key, value in drawn.items() if fits_cf(key, show(value))}
    assert load(write_config({key: drawn[key] for key in kept}, "cf"), "cf") == kept
    for key in drawn.keys() - kept.keys():
        with pytest.raises(InvalidValue, match="cannot be written as cf"):
            write_config({key: drawn[key]}, "cf")


def fits_cf(key: str, value: str) -> bool:
    """Say whether a line of name = value can hold these."""
    return not (set(key) & set(" =") or key[0] == "#" or set(value) & {"\n", "\0"} or value.strip(" \t\r\v\f") != value)


@given(value=json_values)
def test_a_toml_value_is_kept_or_refused_never_changed(value: Any) -> None:
    """Against the library's own reading, for what JSON and TOML write alike."""
    text = f"k = {from_python(value, 'drawn')}"
    try:
        own = tomllib.loads(text)
    except ValueError:
        assume(False)
    assert values(text, "toml") == own
